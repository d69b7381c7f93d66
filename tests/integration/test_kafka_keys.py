"""Keys of records: both clients bring the same ones, and none where nobody asks."""

import time

import pytest

from schemas.stream import Fetched
from sources.kafka import KafkaLog
from sources.kafka_client import StockConsumer
from sources.librdkafka import NativeConsumer
from tests.real.kafka_client import Kafka

KEYS = [b"device-1", None, b"", b"\xff\0", "é".encode(), b"x" * 300]
VALUES = [b"v", None, b"", b"w", b"", b"u"]


def fetched(kafka: Kafka, topic: str, client: type, *, with_keys: bool) -> Fetched:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sources.kafka.is_available", lambda: client is NativeConsumer)
        config = {"bootstrap.servers": kafka.bootstrap}
        log = KafkaLog(config, topic, f"{topic}-{client.__name__}", with_keys=with_keys)
        fetcher = log.open(0, None)
    deadline = time.monotonic() + 30
    while (got := fetcher.poll(100)) is None:
        assert time.monotonic() < deadline
    fetcher.close()
    return got


@pytest.mark.parametrize("client", [NativeConsumer, StockConsumer])
def test_keys_come_as_they_were_written_and_only_when_asked_for(
    client: type, kafka: Kafka, topic: str
) -> None:
    kafka.create_topic(topic, 1)
    records = [(key, value, 1_700_000_000_000) for key, value in zip(KEYS, VALUES, strict=True)]
    kafka.produce(topic, 0, records)
    got = fetched(kafka, topic, client, with_keys=True)
    assert got.keys is not None
    assert got.keys.to_pylist() == KEYS
    assert got.values.to_pylist() == VALUES
    assert got[1:3].keys.to_pylist() == KEYS[1:3]
    assert fetched(kafka, topic, client, with_keys=False).keys is None
