"""A span of a topic, copied into another topic: keys, values, headers, timestamps, partitions.

Contract: the target has the source's number of partitions and is empty; then it holds, of each
partition, the committed records from the first whose timestamp is `begin_ms` or later up to
before the first whose timestamp is `end_ms` or later, in their order, each once. A copy that was
interrupted is not gone on with: what it left makes the next one refuse.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Any, NamedTuple

from confluent_kafka import (
    OFFSET_END,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)

from schemas.errors import FlowError

__all__ = ["Copied", "copy_span", "partition_count"]

_REACH_S = 10.0
_READ_S = 60.0
_AT_ONCE = 10_000
_RETRY_S = 0.1
_LOOK = "Look at the state of the brokers and at access rights; delete the copy, and try again."


class Copied(NamedTuple):
    """What a copy holds.

    Attributes:
        records: how many.
        first_ms: least timestamp; None of an empty copy.
        last_ms: greatest timestamp; None of an empty copy.
    """

    records: int = 0
    first_ms: int | None = None
    last_ms: int | None = None

    def plus(self, time_ms: int) -> "Copied":
        """With one record more."""
        first_ms = time_ms if self.first_ms is None else min(self.first_ms, time_ms)
        last_ms = time_ms if self.last_ms is None else max(self.last_ms, time_ms)
        return Copied(self.records + 1, first_ms, last_ms)


def partition_count(client_config: Mapping[str, Any], topic: str) -> int:
    """Partitions of a topic.

    Raises:
        FlowError: There is no such topic, or no broker answers.
    """
    with closing(_consumer(client_config, topic)) as consumer:
        try:
            found = consumer.list_topics(timeout=_REACH_S).topics
        except KafkaException as error:
            raise FlowError(
                f"Kafka does not answer at KAFKA_BOOTSTRAP_SERVERS ({error.args[0].str()})",
                "Start the brokers, or correct the address.",
            ) from error
    if topic not in found:
        raise FlowError(f"There is no topic {topic}", "Correct its name.")
    return len(found[topic].partitions)


def copy_span(
    client_config: Mapping[str, Any], topic: str, target: str, begin_ms: int, end_ms: int
) -> Copied:
    """Copy a span of `topic` into `target`, which exists; see the module.

    Args:
        client_config: librdkafka settings.
        topic: where the records are.
        target: where they go.
        begin_ms: from the first record of this timestamp on, epoch ms.
        end_ms: to before the first record of this timestamp, epoch ms.

    Raises:
        FlowError: The target is not empty or has another number of partitions; or the brokers
            do not answer, or refuse.
    """
    partitions = partition_count(client_config, topic)
    if partition_count(client_config, target) != partitions:
        raise FlowError(
            f"Topic {target} has not the {partitions} partitions of {topic}",
            "Delete it, or name another.",
        )
    producer = Producer(
        {
            "compression.type": "lz4",
            "linger.ms": 20,
            "socket.nagle.disable": True,
            "message.max.bytes": 64 * 1024 * 1024,
            **client_config,
            "log_level": 0,
            "enable.idempotence": True,  # a repeated request is written once
        }
    )
    errors: list[KafkaError] = []
    counts = [0] * partitions
    copied = Copied()
    with closing(_consumer(client_config, topic)) as consumer:
        try:
            _refuse_records(consumer, target, partitions)
            for message in _span(consumer, topic, partitions, begin_ms, end_ms):
                _send(producer, target, message, errors)
                counts[message.partition() or 0] += 1
                copied = copied.plus(message.timestamp()[1])
                if errors:
                    break
            left = producer.flush(_READ_S)
            written = [_bounds(consumer, target, number)[1] for number in range(partitions)]
        except KafkaException as error:
            raise FlowError(f"Kafka did not copy {topic} ({error.args[0].str()})", _LOOK) from error
    if errors or left or written != counts:
        reason = errors[0].str() if errors else f"{left} records are not delivered"
        raise FlowError(f"Kafka did not take all records for {target} ({reason})", _LOOK)
    return copied


def _consumer(client_config: Mapping[str, Any], topic: str) -> Consumer:
    return Consumer(
        {
            "socket.nagle.disable": True,
            **client_config,
            "log_level": 0,
            "group.id": f"{topic}.copy",  # required, and never joined
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "auto.offset.reset": "error",
            "fetch.queue.backoff.ms": 5,
        }
    )


def _bounds(consumer: Consumer, topic: str, partition: int) -> tuple[int, int]:
    place = TopicPartition(topic, partition)
    bounds: tuple[int, int] | None = consumer.get_watermark_offsets(place, timeout=_REACH_S)
    if bounds is None:
        raise FlowError(f"Kafka does not tell where topic {topic} ends", _LOOK)
    return bounds


def _refuse_records(consumer: Consumer, target: str, partitions: int) -> None:
    if any(_bounds(consumer, target, number)[1] for number in range(partitions)):
        raise FlowError(
            f"Topic {target} holds records already",
            "Delete it, or name another: a copy is made once, as a whole.",
        )


def _span(
    consumer: Consumer, topic: str, partitions: int, begin_ms: int, end_ms: int
) -> Iterator[Message]:
    """The records; partitions side by side."""
    begins, ends = (_at(consumer, topic, partitions, time_ms) for time_ms in (begin_ms, end_ms))
    left = {number for number in range(partitions) if begins[number] < ends[number]}
    consumer.assign([TopicPartition(topic, number, begins[number]) for number in left])
    deadline_s = time.monotonic() + _READ_S
    while left:
        for message in consumer.consume(_AT_ONCE, timeout=0.1):
            number, offset, error = message.partition() or 0, message.offset() or 0, message.error()
            if error is None:
                deadline_s = time.monotonic() + _READ_S
                if number in left and offset < ends[number]:
                    yield message
                if offset + 1 >= ends[number]:
                    left.discard(number)
            elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001  # public name
                left.discard(number)
            elif not error.retriable():
                raise FlowError(f"Topic {topic} cannot be read ({error.str()})", _LOOK)
        if time.monotonic() > deadline_s:
            raise FlowError(f"Topic {topic} brought nothing for {_READ_S:.0f} s", _LOOK)


def _at(consumer: Consumer, topic: str, partitions: int, time_ms: int) -> list[int]:
    """Offset of the first record of this timestamp or a later one; the end where there is none."""
    asked = [TopicPartition(topic, number, time_ms) for number in range(partitions)]
    found = {one.partition: one for one in consumer.offsets_for_times(asked, timeout=_REACH_S)}
    offsets = []
    for number in range(partitions):
        one = found[number]
        if one.error is not None:
            raise KafkaException(one.error)
        is_end = one.offset == OFFSET_END or one.offset < 0
        offsets.append(_bounds(consumer, topic, number)[1] if is_end else one.offset)
    return offsets


def _send(producer: Producer, target: str, message: Message, errors: list[KafkaError]) -> None:
    def delivered(error: KafkaError | None, _: Message) -> None:
        if error is not None:
            errors.append(error)

    while True:
        try:
            producer.produce(
                target,
                message.value(),
                message.key(),
                message.partition() or 0,
                delivered,
                timestamp=message.timestamp()[1],
                headers=message.headers() or [],
            )
        except BufferError:  # the client's queue is full: let it send
            producer.poll(_RETRY_S)
        else:
            producer.poll(0)
            return
