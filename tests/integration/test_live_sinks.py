"""Previews arrive soon, the newest wins, and trouble never stops or delays the flow."""

import logging
import time
from collections.abc import Callable, Iterator

import psycopg
import pyarrow as pa
import pytest
from sqlalchemy import BigInteger, Column, DateTime, MetaData, Table, Text

from sinks.kafka import KafkaRecord
from sinks.live import KafkaLiveSink, PostgresLiveSink
from tests.real.kafka_client import Kafka
from tests.real.postgres import PostgresServer
from tests.real.process import HOST, free_port

LIVE = Table(
    "live",
    MetaData(),
    Column("instrument", Text, primary_key=True),
    Column("open_time", DateTime(timezone=True), nullable=False),
    Column("trades", BigInteger, nullable=False),
)


def preview(*rows: tuple[str, int, int]) -> pa.RecordBatch:
    """Rows of (instrument, minute, trades)."""
    names, minutes, trades = zip(*rows, strict=True)
    times = pa.array([minute * 60_000 for minute in minutes], pa.timestamp("ms", "UTC"))
    return pa.record_batch({"instrument": names, "open_time": times, "trades": trades})


def stored(url: str) -> list[tuple[str, int, int]]:
    text = "SELECT instrument, extract(epoch FROM open_time)::int / 60, trades FROM live ORDER BY 1"
    with psycopg.connect(url) as connection:
        return connection.execute(text).fetchall()


def eventually(check: Callable[[], bool], timeout_s: float = 15) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not check():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


@pytest.fixture
def url(postgres_url: str) -> str:
    with psycopg.connect(postgres_url) as connection:
        connection.execute(
            "CREATE TABLE live (instrument text PRIMARY KEY, open_time timestamptz, trades bigint)"
        )
    return postgres_url


def test_the_newest_row_of_a_key_wins(url: str) -> None:
    sink = PostgresLiveSink(LIVE, url).build("live", 0, 1)
    sink.write_batch([preview(("A", 1, 1), ("B", 1, 1)), preview(("A", 1, 2))])
    eventually(lambda: stored(url) == [("A", 1, 2), ("B", 1, 1)])
    # A closed minute's last preview comes after the first of the next minute.
    sink.write_batch([preview(("A", 2, 7), ("A", 1, 3))])
    sink.write_batch([preview(("B", 0, 9))])
    sink.write_batch([preview(("C", 0, 1))])
    eventually(lambda: len(stored(url)) == 3)
    assert stored(url) == [("A", 2, 7), ("B", 1, 1), ("C", 0, 1)]
    sink.close()


def test_a_slow_server_gets_fewer_previews_but_the_last_ones(url: str) -> None:
    sink = PostgresLiveSink(LIVE, url).build("live", 0, 1)
    sink.write_batch([preview(("A", 0, 0))])
    eventually(lambda: stored(url) != [])
    with psycopg.connect(url) as connection:
        connection.execute("LOCK TABLE live IN EXCLUSIVE MODE")
        begin_s = time.monotonic()
        for minute in range(1, 500):
            sink.write_batch([preview(("A", minute, minute), ("B", minute, minute))])
        assert time.monotonic() - begin_s < 5
    eventually(lambda: stored(url) == [("A", 499, 499), ("B", 499, 499)])
    sink.close()


def test_a_server_that_is_away_stops_nothing_and_is_told_once(
    url: str, postgres: PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    sink = PostgresLiveSink(LIVE, url).build("live", 0, 1)
    sink.write_batch([preview(("A", 1, 1))])
    eventually(lambda: stored(url) != [])
    postgres.stop()
    with caplog.at_level(logging.WARNING):
        for minute in range(2, 30):
            sink.write_batch([preview(("A", minute, 0))])
            time.sleep(0.1)
    postgres.start()
    sink.write_batch([preview(("A", 50, 5))])
    eventually(lambda: stored(url) == [("A", 50, 5)])
    assert [r.message.split("(")[0] for r in caplog.records] == [
        "Previews to PostgreSQL are not written at present "
    ]
    sink.close()


def records(topic: str) -> Callable[[pa.RecordBatch], Iterator[KafkaRecord]]:
    def encode(batch: pa.RecordBatch) -> Iterator[KafkaRecord]:
        for row in batch.to_pylist():
            value = str(row["trades"]).encode()
            yield KafkaRecord(topic, row["instrument"].encode(), value, 1_700_000_000_000)

    return encode


@pytest.mark.kafka
def test_previews_go_where_their_key_belongs(kafka: Kafka, topic: str) -> None:
    kafka.create_topic(topic, 3)
    sink = KafkaLiveSink(records(topic), {"bootstrap.servers": kafka.bootstrap}).build("l", 0, 1)
    for trades in range(5):
        sink.write_batch([preview(("A", 0, trades), ("B", 0, trades))])
    sink.close()
    found = kafka.read(topic)
    for key in (b"A", b"B"):
        parts = [[r.value for r in part if r.key == key] for part in found]
        assert max(parts) == [b"0", b"1", b"2", b"3", b"4"]
        assert parts.count([]) == 2


def test_a_preview_that_cannot_be_encoded_stops_nothing(
    postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    broken = pa.record_batch({"instrument": ["A"]})
    config = {"bootstrap.servers": f"{HOST}:{free_port()}", "log_level": 0}
    sinks = [KafkaLiveSink(records("live"), config), PostgresLiveSink(LIVE, postgres_url)]
    with caplog.at_level(logging.WARNING):
        for sink in sinks:
            partition = sink.build("live", 0, 1)
            partition.write_batch([broken])
            partition.write_batch([broken])
            partition.close()
    assert len(caplog.records) == 2


def test_unreachable_brokers_never_make_previews_wait(caplog: pytest.LogCaptureFixture) -> None:
    config = {"bootstrap.servers": f"{HOST}:{free_port()}", "log_level": 0}
    sink = KafkaLiveSink(records("live"), config).build("live", 0, 1)
    batch = preview(*(("A", 0, n) for n in range(10_000)))
    begin_s = time.monotonic()
    with caplog.at_level(logging.WARNING):
        for _ in range(8):
            sink.write_batch([batch])
    assert time.monotonic() - begin_s < 2
    assert [r.message for r in caplog.records] == [
        "Previews to Kafka are not written at present (50000 of them are waiting already)"
    ]
    sink.close()
    assert time.monotonic() - begin_s < 10
