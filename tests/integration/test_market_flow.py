"""The market flow against the three flows that it takes the place of, byte for byte."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from confluent_kafka import Consumer, TopicPartition

from sources.partitioned import ReplayState
from tests import candles_io as io
from tests import flow_io
from tests import statistics_io as sio
from tests.oracle import T
from tests.real.flows import FlowProcess
from tests.real.kafka_client import Kafka
from tests.real.postgres import PostgresServer

ALONE = ("candles", "statistics", "ewma")
"""Each writes topics of its own behind `OUTPUT_TOPIC` of the market."""
RESULTS = ("candles.1s", "candles.1m", "statistics", "ewma")
TABLES = ("candles", "statistics_20s", "ewma", "late", "rejected", "progress")
SETTINGS = {
    "INTERVALS": "1s,1m",
    "FILL_GAPS": "true",
    "GAP_SILENCE_S": "30",
    "STATISTICS_WINDOW_S": "20",
    "EWMA_PERIOD_S": "10",
    "EWMA_MODE": "carry",
}


@pytest.fixture
def database(postgres: PostgresServer, topic: str) -> Iterator[Callable[[str], str]]:
    """Makes empty databases by name."""
    made = []

    def make(name: str) -> str:
        made.append(f"{name}_{topic[-8:]}")
        return postgres.create_database(made[-1])

    yield make
    for name in made:
        postgres.drop_database(name)


class Output:
    """Where one way to run the flows writes to, and where their recovery stores are."""

    def __init__(self, kafka: Kafka, topic: str, url: str, directory: Path, name: str) -> None:
        self.kafka, self.topic, self.url = kafka, topic, url
        self.prefix = f"{topic}-{name}"
        self.version = topic[-8:]
        self.directory = directory / name
        self.directory.mkdir()

    def start(self, flow: str, **more: str) -> FlowProcess:
        """Start a flow for ever; finite with STOP_AT_END."""
        topic = self.prefix if flow == "market" else f"{self.prefix}.{flow}"
        given = {"FLOW_VERSION": self.version, "OUTPUT_TOPIC": topic, "STOP_AT_END": "0"}
        env = io.settings(self.kafka, self.topic, self.url, **SETTINGS)
        return FlowProcess(
            f"dataflows.{flow}", log=self.directory / f"{flow}.log", env=env | given | more,
            recovery_dir=self.recovery(flow),
        )  # fmt: skip

    def recovery(self, flow: str) -> Path:
        return self.directory / f"{flow}-recovery"

    def places(self, flow: str) -> list[ReplayState]:
        """Where the partitions of the log are by the last snapshots."""
        states = sio.snapshots(self.recovery(flow))
        return [state for state in states if isinstance(state, ReplayState)]

    def finish(self, *flows: str) -> None:
        """Run flows, side by side, to the end of the log."""
        self._run([self.start(flow, STOP_AT_END="1") for flow in flows], lambda _: None)

    def stop(self, *flows: str) -> None:
        """Run flows, side by side, until they have read the log; then stop each, in good order."""

        def catch_up(process: FlowProcess) -> None:
            self.await_end(process, flows[running.index(process)])
            process.terminate()

        running = [self.start(flow) for flow in flows]
        self._run(running, catch_up)

    @staticmethod
    def _run(running: list[FlowProcess], end: Callable[[FlowProcess], None]) -> None:
        try:
            for process in running:
                end(process)
            for process in running:
                assert process.wait(120) == 0, process.output()
        finally:
            for process in running:
                process.kill9()

    def await_end(self, process: FlowProcess, flow: str) -> None:
        """Wait until a flow has taken a snapshot at the end of the log."""
        ends = self.kafka.end_offsets(self.topic)
        places = [TopicPartition(self.topic, p) for p in range(len(ends))]
        group = f"{flow}-v{self.version}"
        observer = Consumer({"bootstrap.servers": self.kafka.bootstrap, "group.id": group})
        try:
            flow_io.await_or_fail(
                process, lambda: [p.offset for p in observer.committed(places, 30)] == ends
            )
        finally:
            observer.close()

    def contents(self) -> dict[str, list[Any]]:
        """All that readers see, by topic and partition, or table."""
        out: dict[str, list[Any]] = {}
        asides = [f"{flow}.{aside}" for flow in ALONE for aside in ("late", "rejected")]
        for name in (*RESULTS, *asides):
            for partition, records in enumerate(self.kafka.read(f"{self.prefix}.{name}")):
                out[f"{name} {partition}"] = [
                    (r.key, r.value, r.timestamp_ms, r.headers) for r in records
                ]
        for flow in ALONE:
            parts = self.kafka.read(f"{self.prefix}.{flow}.progress")
            newest = {r.key: json.loads(r.value or b"") for part in parts for r in part}
            out[f"{flow}.progress"] = sorted(newest.items())
        with psycopg.connect(self.url) as connection:
            for table in TABLES:
                query = f"SELECT t::text FROM {table} AS t ORDER BY 1"
                out[table] = connection.execute(query.encode()).fetchall()
        return out


def grow(kafka: Kafka, topic: str, logs: list[list[T]], first: float, last: float) -> None:
    """Append a share of the log, a bad record at its end."""
    for partition, log in enumerate(logs):
        part = log[int(len(log) * first) : int(len(log) * last)]
        records = [(t.key.encode(), io.message(t), t.time) for t in part]
        kafka.produce(topic, partition, [*records, (b"A", b"\xff", log[0].time)])


def same(found: dict[str, list[Any]], expected: dict[str, list[Any]]) -> None:
    assert found.keys() == expected.keys()
    for name, rows in expected.items():
        for one, other in zip(found[name], rows, strict=False):
            assert one == other, name
        assert len(found[name]) == len(rows), name


def test_the_market_and_its_flows_alone_write_the_same_and_take_each_others_place(
    kafka: Kafka, topic: str, database: Callable[[str], str], tmp_path: Path
) -> None:
    def output(name: str) -> Output:
        return Output(kafka, topic, database(name), tmp_path, name)

    logs = sio.random_log(7, 6_000)
    kafka.create_topic(topic, len(logs))
    turns = output("turns")
    grow(kafka, topic, logs, 0, 0.3)
    turns.stop(*ALONE)

    # The market goes on. It is killed while it works, and then stopped, and stopped again:
    # each time it reads the window's trades again, the last time hardly more than these.
    grow(kafka, topic, logs, 0.3, 0.5)
    market = turns.start("market")
    try:
        turns.await_end(market, "market")
        written = kafka.end_offsets(f"{turns.prefix}.statistics")
        grow(kafka, topic, logs, 0.5, 0.7)
        flow_io.await_or_fail(
            market, lambda: kafka.end_offsets(f"{turns.prefix}.statistics") != written
        )
    finally:
        market.kill9()
    for _ in range(2):
        turns.stop("market")
        places = turns.places("market")
        assert [state.reached for state in places] == kafka.end_offsets(topic)
        assert any(0 < state.start.offset < state.reached for state in places)
        grow(kafka, topic, logs, 0.7, 0.7)

    grow(kafka, topic, logs, 0.7, 1)  # and the flows alone again, from where they stopped
    turns.finish(*ALONE)

    alone, together = output("alone"), output("together")
    alone.finish(*ALONE)
    together.finish("market")
    expected = alone.contents()
    assert all(rows for name, rows in expected.items() if " " not in name)
    assert {flow for (row,) in expected["rejected"] for flow in re.findall("[a-z]+", row)} >= {
        *ALONE
    }
    same(together.contents(), expected)
    same(turns.contents(), expected)


@pytest.mark.parametrize("flow", ["statistics", "market"])
def test_a_finite_embedded_run_shows_lines(flow: str, scratch_dir: Path) -> None:
    directory = scratch_dir / f"embedded-{flow}"
    directory.mkdir()
    env = {"STOP_AT_END": "1", "MARKET_TRADES": "20000", "STATISTICS_WINDOW_S": "60"}
    if flow == "market":
        env["DATABASE_URL"] = "off"
    output = flow_io.finish(f"dataflows.{flow}", directory, env)
    assert not re.search("Traceback|panicked", output)
    if flow == "statistics":
        assert re.search(
            r"^20\d\d-\d\d-\d\d \d\d:\d\d:\d\d +[A-Z]+-USD +[0-9.]+ +[-+][0-9.]+ % +low [0-9.]+ +"
            r"high [0-9.]+ +[0-9,]+ trades$",
            output,
            re.MULTILINE,
        )
        assert "SELECT * FROM statistics_1m" in output
        assert re.search(r"^[0-9,]+ rows\.$", output, re.MULTILINE)
    else:
        assert re.search(r"1m BTC-USD .*trades", output)
        assert re.search(r"candles, .*corrections", output)
