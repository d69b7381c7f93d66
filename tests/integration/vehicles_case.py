"""What the tests of the flow `vehicles` start, drive and read."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import psycopg

from schemas.murmur2 import partition_of
from schemas.transactions import RowChange
from schemas.vehicles_pb2 import Change
from sources.inventory_driver import InventoryDriver
from tests.real.flows import FlowProcess
from tests.real.kafka_client import Kafka
from tests.vehicles_model import Told, expected, told_of

SHARDS = 4
WAIT_S = 120.0


class History:
    """A database with an inventory, and all that it did.

    What is done before `observed` is called counts as one transaction: its snapshot.
    """

    def __init__(self, url: str, *, seed: int, size: int = 15) -> None:
        self.driver = InventoryDriver(url, seed=seed, rate=None, size=size)
        self.transactions: list[Sequence[RowChange]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.driver.close()

    def step(self, count: int = 1) -> None:
        self.transactions += [self.driver.step() for _ in range(count)]

    def observed(self) -> None:
        self.transactions = [[change for one in self.transactions for change in one]]

    def told(self) -> dict[str, list[Told]]:
        """What must be published, by vehicle."""
        return by_vehicle(told for one in expected(self.transactions) for told in one)


def by_vehicle(told: Any) -> dict[str, list[Told]]:
    found: dict[str, list[Told]] = {}
    for one in told:
        found.setdefault(one.vehicle, []).append(one)
    return found


def changes(kafka: Kafka, topic: str) -> list[Change]:
    """All published changes; checks key, place and timestamp of each."""
    out = []
    for number, partition in enumerate(kafka.read(topic)):
        for record in partition:
            assert record.value is not None
            change = Change.FromString(record.value)
            assert record.key == change.entity_uuid.encode()
            assert number == partition_of(record.key, SHARDS)
            assert record.timestamp_ms == change.changed_at.ToMicroseconds() // 1000
            out.append(change)
    return out


def stored(url: str) -> dict[str, tuple[int, dict[str, Any] | None]]:
    """Revision and state of each vehicle in the table, as the model has it."""
    found = {}
    with psycopg.connect(url) as connection:
        if connection.execute("SELECT to_regclass('vehicles')").fetchone() == (None,):
            return {}
        cursor = connection.execute("SELECT * FROM vehicles")
        names = [column.name for column in cursor.description or ()]
        for values in cursor.fetchall():
            row = dict(zip(names, values, strict=True))
            uuid, revision = row.pop("vehicle_uuid"), row.pop("revision")
            row.pop("changed_at")
            if row.pop("deleted"):
                assert not any(value is not None for value in row.values())
                found[uuid] = (revision, None)
                continue
            state: dict[str, Any] = {}
            for name, value in row.items():
                if value is not None:
                    inner = name.removeprefix("engine_")
                    path = name if name == inner else f"engine.{inner}"
                    state["engine" if name == "engine_uuid" else path] = value
            found[uuid] = (revision, state)
    return found


def last(told: dict[str, list[Told]]) -> dict[str, tuple[int, dict[str, Any] | None]]:
    return {uuid: (all_of[-1].revision, all_of[-1].state) for uuid, all_of in told.items()}


class VehiclesFlow:
    """The flow as a process that can be killed and started again."""

    def __init__(self, directory: Path, name: str, env: Mapping[str, str], **first: str) -> None:
        self._directory = directory
        self._name = name
        self.recovery_dir = directory / f"{name}-recovery"
        self._env = {"SHARDS": str(SHARDS), **env}
        self.process = self.start(**first)

    def start(self, **env: str) -> FlowProcess:
        self.process = FlowProcess(
            "dataflows.vehicles",
            log=self._directory / f"{self._name}.log",
            env={**self._env, **env},
            recovery_dir=self.recovery_dir,
        )
        return self.process

    def wait_for(self, url: str, history: History) -> None:
        """Until the table is what the history makes of it."""
        wanted = last(history.told())
        deadline_s = time.monotonic() + WAIT_S
        while (found := stored(url)) != wanted:
            assert self.process.returncode is None, self.process.output()
            assert time.monotonic() < deadline_s, (
                f"{self.process.output()}\n{_difference(found, wanted)}"
            )
            time.sleep(0.1)

    def stop(self) -> None:
        self.process.terminate()
        assert self.process.wait(60) == 0, self.process.output()


def _difference(found: dict[str, Any], wanted: dict[str, Any]) -> str:
    keys = [k for k in found.keys() | wanted.keys() if found.get(k) != wanted.get(k)]
    return "\n".join(f"{k}: {found.get(k)} is not {wanted.get(k)}" for k in keys[:5])


def assert_told(kafka: Kafka, topic: str, history: History) -> dict[tuple[str, int], int]:
    """The topic is what the model says; commit times by vehicle and revision."""
    published = changes(kafka, topic)
    assert by_vehicle(map(told_of, published)) == history.told()
    return {(c.entity_uuid, c.revision_number): c.changed_at.ToMicroseconds() for c in published}
