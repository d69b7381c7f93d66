"""Change data capture at full speed, exactly once to Kafka: `python -m benchmarks.vehicles`.

Every contender captures the same history of the simulated inventory, which is committed before
anything is measured: the flow through a slot, with and without its table; the flow through the
topics that a real Debezium made of it; and, to hold them against, the slot read and its changes
counted. A slot is read once, so each run has its own, made before the history by an uncounted
first run of the flow.

Void is a run that does not read every change, that leaves out a revision of a vehicle, or whose
last states have other engines than the inventory.
"""

import argparse
import time
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import psycopg

from benchmarks.components import ROOT, Components, Filled, components, count_records
from benchmarks.machine import describe, sentence
from benchmarks.turns import (
    Run,
    keep,
    measure,
    medians,
    new_output,
    say,
    table,
    take_turns,
)
from schemas.vehicles_pb2 import Change
from sources.inventory import Inventory
from sources.inventory_driver import DDL, execute
from tests.real.debezium import Debezium

__all__ = ["main"]

_PUBLICATION = "tidemark_vehicles"
_RAW, _KAFKA, _TABLE, _DEBEZIUM = (
    "slot, counted",
    "slot to Kafka",
    "slot to Kafka and PostgreSQL",
    "Debezium to Kafka",
)
_RAW_SLOT = "raw"
_PREFIX = "inventory"
_MOST_TURNS = 3  # each takes two slots, and the server has eight
_BATCH = 1_000
_CAPTURED_S = 300.0


class _Begun(NamedTuple):
    """A flow that has made its slot.

    Attributes:
        output: its topic.
        url: of its tables, or `off`.
    """

    output: str
    url: str


def main() -> None:
    """Measure, write results, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--changes", type=int, default=100_000)
    parser.add_argument("--size", type=int, default=2_000, help="vehicles, about")
    parser.add_argument("--repeat", type=int, default=3, choices=range(1, _MOST_TURNS + 1))
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results")
    options = parser.parse_args()
    inventory = Inventory(size=options.size)
    with components() as servers:
        machine = describe(servers.postgres.url)
        source = servers.new_database()
        with psycopg.connect(source, autocommit=True) as connection:
            connection.execute(DDL)
            connection.execute(f"CREATE PUBLICATION {_PUBLICATION} FOR TABLE vehicles, engines")
            connection.execute(
                "SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", [_RAW_SLOT]
            )
        begun = {
            name: [_begin(servers, source, table=name == _TABLE) for _ in range(options.repeat)]
            for name in (_KAFKA, _TABLE)
        }
        debezium = _debezium(servers, source)
        transactions, changes = _live(source, inventory, options.changes)
        say(f"{changes:,} changes in {transactions:,} transactions are there")
        _await_debezium(servers, debezium, transactions)
        engines = {
            row[0]: engine
            for engine, row in inventory.engines.items()
            if row[0] in inventory.vehicles
        }

        def run_one(name: str) -> Run:
            if name == _RAW:
                return _count(servers, source, changes)
            if name == _DEBEZIUM:
                one = _Begun(new_output(), "off")
                # It also reads where transactions begin and end, and what follows a deletion.
                env = {"VEHICLES_TOPIC_PREFIX": _PREFIX}
                run = _capture(servers, one, changes, env, events=changes)
            else:
                one = begun[name].pop()
                run = _capture(servers, one, changes, _slot(source, one))
            return run | {"published": _published(servers, one, engines)}

        runs = take_turns([_RAW, _KAFKA, _TABLE, _DEBEZIUM], options.repeat, run_one)
    result = {
        "machine": machine,
        "changes": changes,
        "transactions": transactions,
        "vehicles": options.size,
        "medians": medians(runs),
        "runs": runs,
    }
    keep(options.output, "vehicles", result, _markdown(result))


def _begin(servers: Components, source: str, *, table: bool) -> _Begun:
    one = _Begun(new_output(), servers.new_database() if table else "off")
    _capture(servers, one, 1, _slot(source, one), epoch_s=1)
    return one


def _slot(source: str, one: _Begun) -> dict[str, str]:
    return {"SOURCE_DATABASE_URL": source, "VEHICLES_SLOT": one.output.replace("-", "_")}


def _capture(
    servers: Components, one: _Begun, changes: int, env: dict[str, str], **given: object
) -> Run:
    given["flow"] = "vehicles"
    env["INPUT_TOPIC"] = ""  # it has several, or none
    topic = Filled("", [changes])
    run = measure(servers, "flow", topic, one.output, url=one.url, given=given, env=env)
    if run["read"] < changes or run["events"] != changes:
        raise RuntimeError(f"{run['read']} records of {changes} changes were read")
    return run


def _count(servers: Components, source: str, changes: int) -> Run:
    given = {"url": source, "slot": _RAW_SLOT, "publication": _PUBLICATION}
    return measure(servers, "raw_slot", Filled("", [changes]), "", given=given)


def _live(source: str, inventory: Inventory, least: int) -> tuple[int, int]:
    """Commit a history of at least so many changes; the number of transactions and of changes."""
    transactions = changes = 0
    with closing(psycopg.connect(source)) as connection:
        connection.execute("SET synchronous_commit = off")
        connection.commit()
        while changes < least:
            with connection.pipeline(), connection.cursor() as cursor:
                for _ in range(_BATCH):
                    done = inventory.transaction()
                    if done:
                        execute(cursor, done)
                        connection.commit()
                        transactions += 1
                        changes += len(done)
    return transactions, changes


def _debezium(servers: Components, source: str) -> Debezium:
    directory = servers.directory / "debezium"
    directory.mkdir()
    debezium = Debezium(
        directory,
        servers.kafka.bootstrap,
        source,
        prefix=_PREFIX,
        slot="debezium",
        with_schemas="false",
    )
    debezium.start()
    return debezium


def _await_debezium(servers: Components, debezium: Debezium, transactions: int) -> None:
    """Stop it when it has told the end of each transaction, which follows its beginning."""
    deadline = time.monotonic() + _CAPTURED_S
    while count_records(servers.kafka, f"{_PREFIX}.transaction") < 2 * transactions:
        if time.monotonic() > deadline:
            raise RuntimeError(f"Debezium is too slow: {debezium.log.read_text()[-2_000:]}")
        time.sleep(1)
    debezium.stop()


def _published(servers: Components, one: _Begun, engines: dict[str, str]) -> int:
    """Number of changes in the topic, which it checks and removes with the database."""
    last: dict[str, Change] = {}
    for partition in servers.kafka.read(one.output):
        for record in partition:
            change = Change.FromString(record.value or b"")
            before = last.get(change.entity_uuid)
            if change.revision_number != (1 if before is None else before.revision_number + 1):
                raise RuntimeError(f"A revision is missing or twice before {change}")
            last[change.entity_uuid] = change
    found = {
        uuid: change.resulting_state.engine.engine_uuid
        for uuid, change in last.items()
        if change.resulting_state.HasField("engine")
    }
    if found != engines:
        raise RuntimeError(f"{len(found)} vehicles have engines, not {len(engines)} or not theirs")
    servers.kafka.delete_topics(one.output)
    if one.url != "off":
        servers.postgres.drop_database(one.url.rpartition("/")[2])
    return sum(change.revision_number for change in last.values())


def _markdown(result: dict[str, Any]) -> str:
    published = result["medians"][_KAFKA]["published"]
    lines = [
        "# Change data capture",
        "",
        (
            f"{result['changes']:,} row changes in {result['transactions']:,} transactions of "
            f"about {result['vehicles']:,} vehicles; {published:,.0f} changes of vehicles "
            f"published, exactly once. One worker, median of {len(result['runs'][_KAFKA])}."
        ),
        "",
        *table(result["runs"], _RAW, "changes"),
    ]
    return "\n".join([*lines, "", sentence(result["machine"]), ""])


if __name__ == "__main__":
    main()
