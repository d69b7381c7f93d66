"""The vehicles flow as a case for the crash harness, fed by what a Debezium connector would write.

A random history of both tables: vehicles come, change and go, engines move between them, and
several rows change in one transaction. Its events lie in the two tables' topics, its markers in
a third, with some poison among them.

Changes of rows do not add up to published changes, so nothing is counted; the undisturbed run
and the model say what must be there.
"""

import json
import random
import uuid
from collections.abc import Mapping
from typing import Any

import psycopg
from typing_extensions import override

from schemas.transactions import RowChange
from schemas.vehicles import CAPTURED
from schemas.vehicles_pb2 import Change
from tests.crash.sink_case import SinkCase
from tests.real.kafka_client import Record
from tests.vehicles_model import expected, told_of

__all__ = ["VehiclesCase"]

_BEGUN_US = 1_700_000_000_000_000
_CHANGES = 4  # at most, in a transaction
_POISON = (b"not json", b"\xff", b'{"op":"c"}')
_MARKERS = "transaction"


class VehiclesCase(SinkCase):
    """See `tests.crash.sink_case.SinkCase`."""

    module = "dataflows.vehicles"
    topics = ("",)
    tables = ("vehicles",)
    asides = ("rejected",)
    other_version = {"SHARDS": "3"}  # noqa: RUF012  # declared as ClassVar by its base
    # Events of a transaction whose end is not there yet are read again after a restart.
    reads_again = True

    @override
    def open_input(self, seed: int, records: int) -> None:
        self._history = _history(random.Random(seed), records)
        self._done = 0
        self._chance = random.Random(seed)
        for name in (*CAPTURED, _MARKERS):
            self.kafka.create_topic(self._input(name), 1)

    def _input(self, table: str) -> str:
        schema = "" if table == _MARKERS else "public."
        return f"{self.topic}-in.{schema}{table}"

    @override
    def close_input(self) -> None:
        """Nothing to do: the topics go with the test."""

    @override
    def input_env(self, *, to_the_end: bool) -> dict[str, str]:
        return {
            "VEHICLES_TOPIC_PREFIX": f"{self.topic}-in",
            "STOP_AT_END": str(to_the_end).lower(),
        }

    @property
    @override
    def points(self) -> Mapping[str, int]:
        return {"debezium.before_snapshot": 9, **super().points}

    @property
    @override
    def records(self) -> int:
        return sum(map(len, self._history))

    @property
    @override
    def result_lanes(self) -> set[str]:
        return {"results-00"}

    @override
    def grow(self, share: float) -> None:
        """Append transactions, whole ones."""
        upto = max(self._done, round(len(self._history) * min(share, 1.0)))
        written: dict[str, list[tuple[bytes | None, bytes | None, int]]] = {
            name: [] for name in (*CAPTURED, _MARKERS)
        }
        for number in range(self._done, upto):
            for table, event in _events(number, self._history[number]):
                if self._chance.random() < 0.004:
                    written[table].append((b"k", self._chance.choice(_POISON), 1_000))
                written[table].append((b"k", json.dumps(event).encode(), 1_000))
        for name, records in written.items():
            self.kafka.produce(self._input(name), 0, records)
        self._done = upto

    @override
    def contents(self, output: str) -> dict[str, list[bytes]]:
        """Besides, all changes as the model would tell them."""
        found = super().contents(output)
        told = []
        for records in self.kafka.read(self.output_topic(output)):
            told += [told_of(Change.FromString(record.value or b"")) for record in records]
        return found | {"changes": sorted(repr(one).encode() for one in map(_plain, told))}

    @override
    def expected(self) -> dict[str, list[bytes]]:
        """The changes, by the model."""
        told = [one for transaction in expected(self._history) for one in transaction]
        return {"changes": sorted(repr(one).encode() for one in map(_plain, told))}

    @override
    def in_topics(self, results: Mapping[str, list[Record]]) -> None:
        return None

    @override
    def in_tables(self, connection: psycopg.Connection) -> None:
        return None


def _plain(told: Any) -> tuple[Any, ...]:  # a tests.vehicles_model.Told
    state = None if told.state is None else sorted(told.state.items())
    return told.vehicle, told.revision, told.event, state, sorted(told.mask)


def _history(chance: random.Random, records: int) -> list[list[RowChange]]:
    """Transactions with so many changes in all."""
    vehicles: dict[str, tuple[Any, ...]] = {}
    engines: dict[str, tuple[Any, ...]] = {}
    out: list[list[RowChange]] = []
    left = records
    while left > 0:
        changes: list[RowChange] = []
        for _ in range(min(left, chance.randint(1, _CHANGES))):
            changes.append(_change(chance, vehicles, engines))
        left -= len(changes)
        out.append(changes)
    return out


def _change(
    chance: random.Random,
    vehicles: dict[str, tuple[Any, ...]],
    engines: dict[str, tuple[Any, ...]],
) -> RowChange:
    kind = chance.random()
    if kind < 0.15 or not vehicles:
        key = str(uuid.UUID(int=chance.getrandbits(128), version=4))
        vehicles[key] = (chance.randint(1990, 2025), chance.choice(["Actros", "TGX", "FH"]))
        return RowChange("vehicles", key, vehicles[key])
    if kind < 0.4:
        key = chance.choice(list(vehicles))
        vehicles[key] = (vehicles[key][0], f"model {chance.randrange(1_000)}")
        return RowChange("vehicles", key, vehicles[key])
    if kind < 0.45:
        key = chance.choice(list(vehicles))
        del vehicles[key]
        return RowChange("vehicles", key, None)
    free = sorted(vehicles.keys() - {row[0] for row in engines.values()})
    owner = chance.choice(free) if free and chance.random() < 0.8 else None
    if kind < 0.6 or not engines:
        key = str(uuid.UUID(int=chance.getrandbits(128), version=4))
        engines[key] = (owner, chance.randint(1990, 2025), "MAN", 4_000, 900, 500)
        return RowChange("engines", key, engines[key])
    key = chance.choice(list(engines))
    if kind < 0.65:
        del engines[key]
        return RowChange("engines", key, None)
    if kind > 0.8:
        owner = engines[key][0]
    engines[key] = (owner, *engines[key][1:5], chance.randrange(900))
    return RowChange("engines", key, engines[key])


def _events(number: int, changes: list[RowChange]) -> list[tuple[str, dict[str, Any]]]:
    """What the connector writes of a transaction: table, or the markers' topic, and payload."""
    end = (number + 1) * 1_000
    events: list[tuple[str, dict[str, Any]]] = []
    for order, change in enumerate(changes, 1):
        table = CAPTURED[change.table]
        names = [table.key.name, *(column.name for column in table.columns)]
        gone = change.row is None
        row = (change.key, *(change.row or [None] * len(table.columns)))
        image = dict(zip(names, row, strict=True))
        events.append(
            (
                change.table,
                {
                    "before": image if gone else None,
                    "after": None if gone else image,
                    "source": {
                        "snapshot": "false",
                        "lsn": end - 500 + order,
                        "ts_us": _BEGUN_US + end * 1_000,
                    },
                    "transaction": {"id": f"{number}:{end - 500 + order}", "total_order": order},
                    "op": "d" if gone else "u",
                },
            )
        )
    tables = [change.table for change in changes]
    marker = {
        "status": "END",
        "id": f"{number}:{end}",
        "event_count": len(changes),
        "data_collections": [
            {"data_collection": f"public.{table}", "event_count": tables.count(table)}
            for table in sorted(set(tables))
        ],
    }
    return [*events, (_MARKERS, marker)]
