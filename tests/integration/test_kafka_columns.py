"""Rows produced as columns are the records that the stock client would write."""

import time
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest
from confluent_kafka import KafkaException, Producer

from schemas.stream import Output
from sinks import kafka_columns
from sinks.kafka_columns import compile_produce, produce_columns
from sinks.kafka_records import KafkaRecord
from sinks.routes import MessageRoute
from sources import librdkafka
from sources.kafka import KafkaLog
from tests.real.kafka_client import Kafka

BASE = 1_700_000_000_000


def route(topic: str, topic_by: str | None = None) -> MessageRoute:
    return MessageRoute(topic_by, {"": topic}, "key", "time", lambda rows: rows["value"], 2)


def output(values: Sequence[bytes], partition: int, kind: str = "results") -> Output:
    n = len(values)
    rows = pa.record_batch(
        {
            "key": pa.array([f"é{i}" if i % 3 else "" for i in range(n)], pa.string()),
            "value": pa.array(values, pa.large_binary() if partition else pa.binary()),
            "time": pa.array([BASE + i if i else -5 for i in range(n)], pa.timestamp("ms", "UTC")),
        }
    )
    return Output(kind, partition, np.arange(n), n, rows)


def test_every_record_is_as_the_route_says_also_when_the_queue_is_full(
    kafka: Kafka, topic: str
) -> None:
    kafka.create_topic(topic, 2)
    routes = {"results": route(topic), "other": route(topic), "rest": route(topic, "key")}
    items = [
        output([b"v%d" % i for i in range(3_000)], 0),
        output([b"", b"x", b""], 0),
        output([b"large"] * 7, 1, "other"),
        output([b"by rows"], 1, "rest"),
    ]
    config = {"bootstrap.servers": kafka.bootstrap, "queue.buffering.max.messages": 100}
    producer = Producer(config)
    sliced = Output("results", 0, items[0].positions, 3_000, items[0].rows[1_000:])
    left = produce_columns(producer, [sliced, *items[1:]], routes)
    assert left == items[3:]
    producer.flush(30)
    wanted: list[list[KafkaRecord]] = [[], []]
    for item in (sliced, *items[1:3]):
        wanted[item.partition] += routes[item.kind].records(item.rows)
    for partition, records in zip(kafka.read(topic), wanted, strict=True):
        found = [(r.key, r.value, r.timestamp_ms, list(r.headers)) for r in partition]
        assert found == [(w.key, w.value, max(w.timestamp_ms, 1), []) for w in records]


def test_a_refused_record_is_an_error_of_the_client(kafka: Kafka, topic: str) -> None:
    kafka.create_topic(topic, 2)
    config = {"bootstrap.servers": kafka.bootstrap, "message.max.bytes": 2_000}
    producer = Producer(config)
    with pytest.raises(KafkaException, match="MSG_SIZE_TOO_LARGE"):
        produce_columns(producer, [output([b"x", b"y" * 3_000], 0)], {"results": route(topic)})
    producer.flush(30)
    assert [r.value for r in kafka.read(topic)[0]] == [b"x"]


def test_the_loops_are_compiled_beforehand_for_what_comes(kafka: Kafka, topic: str) -> None:
    """Or an image's kernels would be of no use, and each start would compile."""
    librdkafka.compile_fetch()
    compile_produce()
    kafka.create_topic(topic, 2)
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    routes = {"results": route(topic), "other": route(topic)}
    items = [output([b"x", b"y"], 0), output([b"z"], 1, "other")]
    assert produce_columns(producer, items, routes) == []
    producer.flush(30)
    fetcher = KafkaLog(
        {"bootstrap.servers": kafka.bootstrap}, topic, "compiled", with_keys=True
    ).open(0, None)
    deadline = time.monotonic() + 60
    while fetcher.position < 2:
        assert time.monotonic() < deadline
        fetcher.poll(10)
    fetcher.close()
    for loop in (kafka_columns._produce, librdkafka._drain, librdkafka._keys):
        assert len(loop.signatures) == 1, loop
