"""Reading a span of a real topic again after a restart."""

import time

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from schemas.errors import FlowError
from schemas.trades import TradeCodec
from sources import log_partition
from sources.kafka import KafkaLog
from sources.partitioned import LogPartition, ReplayState, SourceRule
from tests.list_log import NOW_MS, trade
from tests.real.kafka_client import Kafka

_RULE = SourceRule("test", lateness_ms=2_000, replay_ms=60_000)
Row = tuple[int, int]


def fill(kafka: Kafka, topic: str, seconds: range) -> None:
    """A trade a second, ten to a transaction, every third of which is aborted."""
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": topic})
    producer.init_transactions(30)
    for first in seconds[::10]:
        producer.begin_transaction()
        for second in range(first, first + 10):
            time_ms = NOW_MS + second * 1_000
            producer.produce(topic, trade(time_ms), partition=0, timestamp=time_ms)
        producer.flush(30)  # an abort before any partition has joined can fail
        producer.abort_transaction(30) if first % 30 == 20 else producer.commit_transaction(30)


def read(source: LogPartition, end: int) -> list[Row]:
    """Offset and arrival watermark, until everything before `end` was read."""
    rows: list[Row] = []
    deadline = time.monotonic() + 30
    while source._timeline.offset < end:
        assert time.monotonic() < deadline
        for events in source.next_batch():
            rows += zip(events.offsets.tolist(), events.watermark_ms.tolist(), strict=True)
    return rows


def committed(kafka: Kafka, topic: str) -> int:
    """The group's offset, once it has come to the broker."""
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": topic})
    (found,) = consumer.committed([TopicPartition(topic, 0)], 30)
    consumer.close()
    return int(found.offset)


def test_a_restart_reads_the_span_again_and_lag_tools_see_no_step_back(
    kafka: Kafka, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for bound in ("_LEAST_BATCH", "_LARGEST_BATCH"):
        monkeypatch.setattr(log_partition, bound, 7)
    kafka.create_topic(topic, 1)
    fill(kafka, topic, range(300))
    log = KafkaLog({"bootstrap.servers": kafka.bootstrap}, topic, group=topic)

    def start(state: ReplayState | None) -> LogPartition:
        return LogPartition(log, TradeCodec(), _RULE, 0, state)

    def stop(source: LogPartition) -> ReplayState:
        state = source.snapshot()
        source.close()
        assert isinstance(state, ReplayState)
        assert committed(kafka, topic) == state.reached
        return state

    reached = 9 * 33 + 21  # 33 offsets hold three transactions of ten and their markers
    source = start(None)
    rows = read(source, reached)
    state = stop(source)
    assert state.reached == reached
    begin = state.start.offset
    assert 0 < begin < reached - 60

    source = start(state)
    source.next_batch()
    middle = stop(source)  # and again, before it is where it was
    assert middle == state
    fill(kafka, topic, range(300, 330))
    again = start(middle)
    expected = [row for row in rows if row[0] >= begin]
    found = read(again, reached + 20)
    assert found[: len(expected)] == expected
    assert len(found) >= len(expected) + 10
    again.close()

    for future in kafka.admin.delete_records([TopicPartition(topic, 0, begin + 1)]).values():
        future.result(30)
    with pytest.raises(FlowError, match=f"Offset {begin} of partition 0 is no longer"):
        start(state)
    with pytest.raises(FlowError, match="Offset 100000 of partition 0 is no longer"):
        start(state._replace(reached=100_000))
