"""The flow `vehicles` as a process: real PostgreSQL and Debezium in, real Kafka and tables out."""

import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from sinks.embedded_postgres import embedded_postgres
from sources.inventory_driver import DDL
from tests.integration.vehicles_case import (
    WAIT_S,
    History,
    VehiclesFlow,
    assert_told,
    stored,
)
from tests.real.debezium import Debezium
from tests.real.flows import FlowProcess
from tests.real.kafka_client import Kafka
from tests.real.postgres import PostgresServer


@pytest.fixture
def history(source_url: str, request: pytest.FixtureRequest) -> Iterator[History]:
    """An inventory at work, with a seed of the test's own."""
    with History(source_url, seed=len(request.node.name)) as history:
        yield history


@pytest.fixture
def source_url(postgres: PostgresServer) -> Iterator[str]:
    """An empty database to capture; its slots go with it."""
    name = f"source_{time.time_ns()}"
    url = postgres.create_database(name)
    yield url
    with psycopg.connect(url, autocommit=True) as connection:
        query = "SELECT slot_name FROM pg_replication_slots WHERE database = current_database()"
        for (slot,) in connection.execute(query).fetchall():
            deadline_s = time.monotonic() + 20
            while True:
                try:
                    connection.execute("SELECT pg_drop_replication_slot(%s)", [slot])
                    break
                except psycopg.errors.ObjectInUse:
                    assert time.monotonic() < deadline_s
                    time.sleep(0.1)
    postgres.drop_database(name)


def slot_env(kafka: Kafka, source_url: str, url: str, topic: str) -> dict[str, str]:
    return {
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap,
        "SOURCE_DATABASE_URL": source_url,
        "DATABASE_URL": url,
        "OUTPUT_TOPIC": topic,
        "VEHICLES_SLOT": "slot_" + re.sub("[^a-z0-9_]", "_", topic.lower())[-50:],
    }


def test_slot_killed_and_restarted_tells_each_change_once(
    kafka: Kafka,
    topic: str,
    source_url: str,
    history: History,
    postgres_url: str,
    tmp_path: Path,
) -> None:
    history.step(20)
    history.observed()
    env = slot_env(kafka, source_url, postgres_url, topic)
    flow = VehiclesFlow(tmp_path, "flow", env, FAILPOINTS="slot.before_snapshot:1")
    try:
        assert flow.process.wait(WAIT_S) == -9, "there is a slot, and no state"
        flow.start(FAILPOINTS="slot.first_handed_on:1")
        assert flow.process.wait(WAIT_S) == -9, "the first rows are durable, and not handed on"
        flow.start()
        flow.wait_for(postgres_url, history)
        for _ in range(3):
            history.step(60)
            time.sleep(0.7)
            flow.process.kill9()
            history.step(20)
            flow.start()
            history.step(20)
            flow.wait_for(postgres_url, history)
        history.step(30)
        flow.wait_for(postgres_url, history)
        flow.stop()
    finally:
        flow.process.kill9()
    assert_told(kafka, topic, history)


def test_slot_and_debezium_tell_the_same(
    kafka: Kafka,
    topic: str,
    source_url: str,
    debezium: Callable[..., Debezium],  # behind the database, which goes after it
    history: History,
    postgres: PostgresServer,
    postgres_url: str,
    tmp_path: Path,
) -> None:
    history.step(25)
    history.observed()
    second_url = postgres.create_database(f"debezium_{time.time_ns()}")
    slot_topic, debezium_topic = f"{topic}.a", f"{topic}.b"
    connector = debezium(source_url, prefix=f"{topic}.in", slot=f"dbz_{time.time_ns()}")
    slot_flow = VehiclesFlow(
        tmp_path, "slot", slot_env(kafka, source_url, postgres_url, slot_topic)
    )
    debezium_flow = VehiclesFlow(
        tmp_path,
        "debezium",
        {
            "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap,
            "DATABASE_URL": second_url,
            "OUTPUT_TOPIC": debezium_topic,
            "VEHICLES_TOPIC_PREFIX": f"{topic}.in",
        },
    )
    flows = ((slot_flow, postgres_url), (debezium_flow, second_url))
    try:
        connector.start()
        for flow, url in flows:
            flow.wait_for(url, history)
        for turn in range(3):
            history.step(60)
            time.sleep(1.2)
            history.step(20)
            if turn != 1:
                connector.kill()
            for flow, _ in flows:
                flow.process.kill9()
            history.step(20)
            connector.start()
            if turn == 2:  # it costs time, and changes nothing
                shutil.rmtree(debezium_flow.recovery_dir)
            for flow, _ in flows:
                flow.start()
            history.step(20)
            for flow, url in flows:
                flow.wait_for(url, history)
        for flow, _ in flows:
            flow.stop()
    finally:
        for flow, _ in flows:
            flow.process.kill9()
    of_slot = assert_told(kafka, slot_topic, history)
    of_debezium = assert_told(kafka, debezium_topic, history)
    # The first rows bear the times of two snapshots, every other the time of its commit.
    differing = {told for told in of_slot if of_slot[told] != of_debezium[told]}
    assert {revision for _, revision in differing} <= {1}


def test_the_embedded_run_needs_nothing_and_continues(scratch_dir: Path) -> None:
    data = scratch_dir / "vehicles"
    counts = []
    for name in ("first", "second"):
        flow = FlowProcess(
            "dataflows.vehicles",
            log=scratch_dir / f"vehicles-{name}.log",
            env={"DATA_DIR": str(data), "INVENTORY_RATE": "50"},
            recovery_dir=data / "recovery",
        )
        try:
            deadline_s = time.monotonic() + WAIT_S
            while "created" not in flow.output() or "SELECT * FROM vehicles" not in flow.output():
                assert flow.returncode is None, flow.output()
                assert time.monotonic() < deadline_s, flow.output()
                time.sleep(0.2)
            flow.terminate()
            assert flow.wait(60) == 0, flow.output()
        finally:
            flow.kill9()
        assert not re.search("Traceback|panicked|rror:", flow.output()), flow.output()
        counts.append(len(stored(embedded_postgres(data / "postgres"))))
    assert counts[1] > counts[0] > 0


def test_transactions_are_visible_whole_and_rejects_have_their_place(
    kafka: Kafka, topic: str, source_url: str, postgres_url: str, tmp_path: Path
) -> None:
    vehicles = [f"aaaaaaaa-0000-4000-8000-{n:012d}" for n in range(6)]
    with psycopg.connect(source_url) as connection:
        connection.execute(DDL)
        for n, uuid in enumerate(vehicles):
            engine = f"eeeeeeee-0000-4000-8000-{n:012d}"
            connection.execute("INSERT INTO vehicles VALUES (%s, 0, 'a')", [uuid])
            connection.execute(
                "INSERT INTO engines VALUES (%s, %s, 2019, 'MAN', 1, 1, 1)", [engine, uuid]
            )
    env = slot_env(kafka, source_url, postgres_url, topic)
    flow = VehiclesFlow(tmp_path, "flow", env)
    last_year, seen = 300, set()
    query = "SELECT year_of_manufacture, revision FROM vehicles"
    try:
        wait_for_rows(flow, postgres_url, len(vehicles))
        with psycopg.connect(source_url) as source, psycopg.connect(postgres_url) as results:
            results.autocommit = True
            deadline_s = time.monotonic() + WAIT_S
            year = 0
            while (last_year, last_year + 1) not in seen:
                if year < last_year:
                    year += 1
                    source.execute("UPDATE vehicles SET year_of_manufacture = %s", [year])
                    source.commit()
                found = set(results.execute(query).fetchall())
                assert len(found) == 1, "all vehicles, or none"
                seen |= found
                assert time.monotonic() < deadline_s
            source.execute("TRUNCATE vehicles")
            source.commit()
            deadline_s = time.monotonic() + WAIT_S
            while results.execute("SELECT reason, topic FROM rejected").fetchall() != [
                ("truncate", env["VEHICLES_SLOT"])
            ]:
                assert flow.process.returncode is None, flow.process.output()
                assert time.monotonic() < deadline_s
                time.sleep(0.05)
            assert set(results.execute(query).fetchall()) == {(last_year, last_year + 1)}
        flow.stop()
    finally:
        flow.process.kill9()
    assert len(seen) > 1
    [rejected] = kafka.read(f"{topic}.rejected")[0]
    assert dict(rejected.headers)["reason"] == b"truncate"


def wait_for_rows(flow: VehiclesFlow, url: str, count: int) -> None:
    deadline_s = time.monotonic() + WAIT_S
    while len(stored(url)) < count:
        assert flow.process.returncode is None, flow.process.output()
        assert time.monotonic() < deadline_s, flow.process.output()
        time.sleep(0.1)


def test_without_its_state_a_flow_with_output_says_what_to_do(
    kafka: Kafka, topic: str, source_url: str, history: History, postgres_url: str, tmp_path: Path
) -> None:
    history.step(20)
    history.observed()
    env = slot_env(kafka, source_url, postgres_url, topic)
    flow = VehiclesFlow(tmp_path, "flow", env)
    try:
        flow.wait_for(postgres_url, history)
        flow.stop()
        other = VehiclesFlow(tmp_path, "without", env)
        assert other.process.wait(60) == 1
        assert "there is no state to go on from" in other.process.output()
        flow.start()
        history.step(5)
        flow.wait_for(postgres_url, history)
        flow.stop()
    finally:
        flow.process.kill9()
    assert_told(kafka, topic, history)
