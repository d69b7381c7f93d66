"""Dead letters in Kafka: read a topic of rejected records, and send some to where they came from.

A dead letter is a record of `<output>.rejected`: the bytes as they were, and in its headers
topic, partition, offset and the reason. A replay puts it at the end of the partition it came
from, and a mark with the letter's own place into the compacted topic `<output>.rejected.replayed`,
in one transaction. So each is replayed once, whatever is chosen how often and whenever the
process dies, unless it is asked for again.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime
from typing import Any, NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from schemas.errors import FlowError
from schemas.kafka_cluster import kafka_cluster

__all__ = ["DeadLetter", "Place", "marks_topic", "read_letters", "replay"]

_READ_S = 60.0
_AT_ONCE = 1_000
_RETRY_S = 0.1


class Place(NamedTuple):
    """Where a record is in its topic; as text `partition:offset`."""

    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.partition}:{self.offset}"


class DeadLetter(NamedTuple):
    """A rejected record.

    Attributes:
        place: in the topic of rejected records.
        topic: where it came from.
        origin: its place there.
        reason: why it was rejected.
        time: the record's own timestamp; None if it had none.
        key: its key; None if it had none.
        value: its bytes; None if it had none.
        replayed: when it was sent again; None when it was not.
    """

    place: Place
    topic: str
    origin: Place
    reason: str
    time: datetime | None
    key: bytes | None
    value: bytes | None
    replayed: datetime | None = None


def marks_topic(topic: str) -> str:
    """The topic that tells which letters of `topic` were replayed."""
    return f"{topic}.replayed"


def read_letters(client_config: Mapping[str, Any], topic: str) -> Iterator[DeadLetter]:
    """All letters that are there now, partition by partition.

    Raises:
        FlowError: The topic cannot be read, or holds something else.
    """
    marks = _read_marks(client_config, topic)
    for message in _read(client_config, topic):
        letter = _letter(message)
        yield letter._replace(replayed=marks.get(letter.place))


def _letter(message: Message) -> DeadLetter:
    place = Place(message.partition() or 0, message.offset() or 0)
    headers = {name: value.decode() for name, value in message.headers() or () if value}
    try:
        origin = Place(int(headers["partition"]), int(headers["offset"]))
        topic, reason = headers["topic"], headers["reason"]
    except (KeyError, ValueError) as error:
        raise FlowError(
            f"Record {place} of topic {message.topic()} is no dead letter: it lacks the header "
            f"{error}",
            "Name a topic that a flow writes its rejected records to, such as candles.1m.rejected.",
        ) from error
    stamp_ms = message.timestamp()[1]
    written = datetime.fromtimestamp(stamp_ms / 1000, UTC) if stamp_ms > 0 else None
    return DeadLetter(place, topic, origin, reason, written, message.key(), message.value())


def _read_marks(client_config: Mapping[str, Any], topic: str) -> dict[Place, datetime]:
    marks = {}
    for message in _read(client_config, marks_topic(topic), may_be_missing=True):
        partition, _, offset = (message.key() or b"").decode().partition(":")
        written = datetime.fromtimestamp(message.timestamp()[1] / 1000, UTC)
        marks[Place(int(partition), int(offset))] = written
    return marks


def _read(
    client_config: Mapping[str, Any], topic: str, *, may_be_missing: bool = False
) -> Iterator[Message]:
    """Committed records from the start to the end of each partition."""
    left = set(_partitions(client_config, topic, may_be_missing=may_be_missing))
    consumer = Consumer(
        {
            "socket.nagle.disable": True,
            **client_config,
            "log_level": 0,
            "group.id": f"{topic}.reader",  # required, and never joined
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
            "fetch.queue.backoff.ms": 5,
        }
    )
    with closing(consumer):
        consumer.assign([TopicPartition(topic, number, 0) for number in left])
        deadline_s = time.monotonic() + _READ_S
        while left:
            for message in consumer.consume(_AT_ONCE, timeout=0.05):
                error = message.error()
                if error is None:
                    deadline_s = time.monotonic() + _READ_S
                    yield message
                elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001  # public name
                    left.discard(message.partition() or 0)
                elif not error.retriable():
                    raise FlowError(f"Topic {topic} cannot be read ({error.str()})", _LOOK)
            if time.monotonic() > deadline_s:
                raise FlowError(
                    f"Topic {topic} brought nothing for {_READ_S:.0f} s before its end", _LOOK
                )


_LOOK = "Look at the state of the brokers and at access rights, and try again."


def _partitions(client_config: Mapping[str, Any], topic: str, *, may_be_missing: bool) -> list[int]:
    found = kafka_cluster(client_config).topics
    if topic in found:
        return list(found[topic].partitions)
    if may_be_missing:
        return []
    rejected = sorted(name for name in found if name.endswith(".rejected"))
    raise FlowError(
        f"There is no topic {topic}",
        f"Topics of rejected records here: {', '.join(rejected) or 'none'}.",
    )


def replay(
    client_config: Mapping[str, Any],
    topic: str,
    letters: Iterable[DeadLetter],
    *,
    done: Callable[[int], None] = lambda _: None,
) -> int:
    """Send letters to where they came from, a thousand to a transaction; how many.

    Their timestamp is the time of sending. Before the first, every other process that replays
    the same topic is shut out.

    Args:
        client_config: librdkafka settings.
        topic: of the letters; its topic of marks exists.
        letters: which to send.
        done: called with the number sent so far after each transaction.

    Raises:
        FlowError: The brokers refuse, or another process has taken over; what was sent before
            the last transaction is sent and marked.
    """
    producer = Producer(
        {
            "socket.nagle.disable": True,
            **client_config,
            "log_level": 0,
            "transactional.id": f"dead-letters-{topic}",
            "retry.backoff.ms": 1,
        }
    )
    sent = 0
    batch: list[DeadLetter] = []
    try:
        producer.init_transactions(_READ_S)
        for letter in letters:
            batch.append(letter)
            if len(batch) == _AT_ONCE:
                sent += _send(producer, topic, batch)
                done(sent)
                batch = []
        if batch:
            sent += _send(producer, topic, batch)
            done(sent)
    except KafkaException as error:
        raise FlowError(
            f"Kafka did not take the letters after the first {sent} ({error.args[0].str()})",
            "Nothing of the last transaction was sent. See that no other replay of this topic "
            "runs, and that the topics the letters came from exist; then start again: it goes "
            "on where it was.",
        ) from error
    return sent


def _send(producer: Producer, topic: str, letters: list[DeadLetter]) -> int:
    marks = marks_topic(topic)
    producer.begin_transaction()
    for letter in letters:
        headers = [("dead_letter", f"{topic}/{letter.place}".encode())]
        _produce(producer, letter.topic, letter.value, letter.key,
                 partition=letter.origin.partition, headers=headers)  # fmt: skip
        _produce(producer, marks, b"", str(letter.place).encode(), partition=0)
    try:
        producer.commit_transaction(_READ_S)
    except KafkaException as error:
        if error.args[0].txn_requires_abort():
            producer.abort_transaction(_READ_S)
        raise
    return len(letters)


def _produce(producer: Producer, *record: Any, **more: Any) -> None:  # noqa: ANN401  # passed on
    while True:
        try:
            producer.produce(*record, **more)
        except BufferError:  # the client's queue is full: let it send
            producer.poll(_RETRY_S)
        else:
            return
