"""Reading a real topic: the native client gives what the stock client gives."""

import time
from collections.abc import Callable

import pytest
from confluent_kafka import Producer, TopicPartition

from schemas.errors import FlowError
from sources import kafka as kafka_module
from sources.kafka import CONSUMER_CONFIG, KafkaFetcher, KafkaLog
from sources.kafka_client import Client, ClientError, StockConsumer
from sources.librdkafka import NativeConsumer, is_available
from tests.real.kafka_client import Kafka

CLIENTS: list[Callable[..., Client]] = [StockConsumer, NativeConsumer]
Row = tuple[int, int, bytes | None]


def read(
    make: Callable[..., Client], kafka: Kafka, topic: str, *, offset: int | None, limit: int
) -> list[Row]:
    """Everything from `offset` to the end of partition 0, and the fetcher's own end."""
    config = {**CONSUMER_CONFIG, "bootstrap.servers": kafka.bootstrap, "group.id": topic}
    fetcher = KafkaFetcher(make(config, topic, 0), topic, 0, offset)
    rows: list[Row] = []
    deadline = time.monotonic() + 30
    try:
        while not fetcher.at_end:
            assert time.monotonic() < deadline
            fetched = fetcher.poll(limit)
            if fetched is not None:
                assert len(fetched.offsets) <= limit
                rows += zip(
                    fetched.offsets.tolist(),
                    fetched.timestamps_ms.tolist(),
                    fetched.values.to_pylist(),
                    strict=True,
                )
        assert fetcher.position == kafka.end_offsets(topic)[0]
        fetcher.commit(fetcher.position)
    finally:
        fetcher.close()
    return rows


@pytest.fixture
def filled(kafka: Kafka, topic: str) -> str:
    """A partition with tombstones, empty and large values, and holes in the offsets."""
    kafka.create_topic(topic, 1)
    values: list[bytes | None] = [b"a", None, b"", b"x" * 200_000, b"\x00\xff"]
    kafka.produce(topic, 0, [(None, v, 1_000 + i) for i, v in enumerate(values * 20)])
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": topic})
    producer.init_transactions(30)
    for number in range(6):
        producer.begin_transaction()
        producer.produce(topic, f"t{number}".encode(), partition=0, timestamp=5_000 + number)
        producer.flush(30)  # an abort before any partition has joined can fail
        producer.abort_transaction(30) if number % 2 else producer.commit_transaction(30)
    return topic


def test_the_native_client_is_the_one_in_use() -> None:
    assert is_available()


@pytest.mark.parametrize("limit", [1, 7, 10_000])
def test_both_clients_read_the_same(kafka: Kafka, filled: str, limit: int) -> None:
    stock, native = (read(make, kafka, filled, offset=None, limit=limit) for make in CLIENTS)
    assert native == stock
    assert len(native) == 103
    assert [value for *_, value in native[:5]] == [b"a", None, b"", b"x" * 200_000, b"\x00\xff"]
    assert [value for *_, value in native[-3:]] == [b"t0", b"t2", b"t4"]
    assert native[0][:2] == (0, 1_000)
    for make in CLIENTS:
        assert read(make, kafka, filled, offset=50, limit=limit) == stock[50:]


@pytest.mark.parametrize("make", CLIENTS)
def test_the_end_is_known_once_records_came_and_not_after_closing(
    kafka: Kafka, filled: str, make: Callable[..., Client]
) -> None:
    config = {**CONSUMER_CONFIG, "bootstrap.servers": kafka.bootstrap, "group.id": filled}
    client = make(config, filled, 0)
    fetcher = KafkaFetcher(client, filled, 0, None)
    deadline_s = time.monotonic() + 60
    while not fetcher.at_end:
        assert time.monotonic() < deadline_s
        fetcher.poll(10)
    assert fetcher.known_end() == fetcher.position
    fetcher.close()
    assert fetcher.known_end() is None


@pytest.mark.parametrize("make", CLIENTS)
def test_an_offset_outside_the_log_is_refused(
    kafka: Kafka, filled: str, make: Callable[..., Client]
) -> None:
    for future in kafka.admin.delete_records([TopicPartition(filled, 0, 10)]).values():
        future.result(30)
    for offset in (9, 1_000_000):
        with pytest.raises(FlowError, match="no longer in topic"):
            read(make, kafka, filled, offset=offset, limit=10)
    assert read(make, kafka, filled, offset=10, limit=10)[0][0] == 10


@pytest.mark.parametrize("make", CLIENTS)
def test_records_deleted_under_a_waiting_reader_are_an_error(
    kafka: Kafka, topic: str, make: Callable[..., Client]
) -> None:
    kafka.create_topic(topic, 1)
    config = {**CONSUMER_CONFIG, "bootstrap.servers": kafka.bootstrap, "group.id": topic}
    client = make(config, topic, 0)
    kafka.produce(topic, 0, [(None, b"x", 1)] * 5)
    for future in kafka.admin.delete_records([TopicPartition(topic, 0, 5)]).values():
        future.result(30)
    client.start(2)  # as if the bounds had been asked just before the deletion
    fetcher = KafkaFetcher.__new__(KafkaFetcher)
    fetcher.__dict__.update(
        _client=client, _topic=topic, _partition=0, _position=2, _at_end=False, _committed=-1
    )
    try:
        with pytest.raises(FlowError, match="Offset 2 of partition 0 is no longer in topic"):
            _poll_for(fetcher, 30)
    finally:
        fetcher.close()


def _poll_for(fetcher: KafkaFetcher, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        fetcher.poll(10)


def test_a_refused_setting_and_a_silent_broker_are_errors(kafka: Kafka, topic: str) -> None:
    with pytest.raises(ClientError, match=r"no\.such\.setting"):
        NativeConsumer({"no.such.setting": "1"}, topic, 0)
    nobody = {"bootstrap.servers": "127.0.0.1:1", "log_level": 0}
    with pytest.raises(ClientError, match=r"group\.id"):
        NativeConsumer(nobody, topic, 0)
    silent = NativeConsumer(nobody | {"group.id": topic}, topic, 0)
    with pytest.raises(ClientError):
        silent.bounds(0.5)
    silent.close()
    with pytest.raises(FlowError, match="KAFKA_BOOTSTRAP_SERVERS"):
        KafkaLog(nobody, topic, "group")


class _NewLeader:
    """A client whose broker does not know for a moment that it leads."""

    def __init__(self, refusals: int, text: str) -> None:
        self.refusals, self.text = refusals, text

    def bounds(self, timeout_s: float) -> tuple[int, int]:
        self.refusals -= 1
        if self.refusals >= 0:
            raise ClientError(self.text)
        return 3, 7


def test_a_leader_that_does_not_know_it_yet_is_waited_for() -> None:
    assert kafka_module._bounds(_NewLeader(2, "Broker: Not leader for partition")) == (3, 7)
    with pytest.raises(ClientError):
        kafka_module._bounds(_NewLeader(1, "Broker: Topic authorization failed"))
