"""What tests do to a Kafka, wherever it runs: create topics, write exactly, read everything."""

import time
import uuid
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar, cast

from confluent_kafka import (
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # not marked as exported
    AdminClient,
    ConfigResource,
    NewTopic,
    OffsetSpec,
)

if TYPE_CHECKING:
    from concurrent.futures import Future

__all__ = ["Kafka", "Record"]

_T = TypeVar("_T")
_HEADERS = Iterable[tuple[str, bytes | None]]
_TIMEOUT_S = 60.0
_NO_LEADER_YET = {
    KafkaError.UNKNOWN_LEADER_EPOCH,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
}


@dataclass(frozen=True, slots=True)
class Record:
    """A record as a consumer sees it.

    Attributes:
        offset: its place in the partition.
        timestamp_ms: the record's own timestamp; -1 without one.
        key: bytes; None for none.
        value: bytes; None for a tombstone.
        headers: names and values, in order.
    """

    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()


class Kafka:
    """A running cluster.

    Args:
        bootstrap: `host:port` of a broker, for `bootstrap.servers`.
    """

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap

    @cached_property
    def admin(self) -> AdminClient:
        """One client for all calls; silent while the broker is down, at once there again."""
        return AdminClient(
            {
                "bootstrap.servers": self.bootstrap,
                "reconnect.backoff.max.ms": 100,
                "log_level": 0,
            }
        )

    @cached_property
    def _producer(self) -> Producer:
        # Kept, since an idempotent producer needs half a second to get its id.
        return Producer(
            {
                "bootstrap.servers": self.bootstrap,
                "enable.idempotence": True,  # acks=all, and retries keep the order
                "message.timeout.ms": int(_TIMEOUT_S * 1_000),
                "queue.buffering.max.messages": 1_000_000,
                "reconnect.backoff.max.ms": 100,
                "log_level": 0,
            }
        )

    def partitions(self, topic: str) -> int:
        """Number of partitions that have a leader now; 0 for an unknown topic."""
        known = self.admin.list_topics(topic, timeout=10).topics.get(topic)
        if known is None or known.error is not None:
            return 0
        return sum(partition.leader >= 0 for partition in known.partitions.values())

    def topics(self, prefix: str = "") -> list[str]:
        """Names that start with `prefix`, sorted."""
        return sorted(t for t in self.admin.list_topics(timeout=10).topics if t.startswith(prefix))

    def create_topic(
        self, name: str, partitions: int, config: Mapping[str, str] | None = None
    ) -> str:
        """Create a topic and wait until it can be written; its name."""
        topic = NewTopic(name, partitions, 1, config=dict(config or {}))
        _result(self.admin.create_topics([topic])[name])
        deadline = time.monotonic() + _TIMEOUT_S
        while self.partitions(name) < partitions:
            if time.monotonic() > deadline:
                raise TimeoutError(f"Topic {name} has no leaders after {_TIMEOUT_S} s")
            time.sleep(0.02)
        self.end_offsets(name)  # now the broker itself knows that it leads
        return name

    def delete_topics(self, prefix: str) -> None:
        """Delete every topic whose name starts with `prefix`, which must not be empty."""
        if not prefix:
            raise ValueError("An empty prefix would delete every topic")
        names = self.topics(prefix)
        if names:
            for future in self.admin.delete_topics(names).values():
                _result(future)

    def topic_config(self, topic: str) -> dict[str, str]:
        """The topic's effective settings."""
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
        entries = _result(self.admin.describe_configs([resource])[resource])
        return {name: entry.value for name, entry in entries.items()}

    def produce(
        self,
        topic: str,
        partition: int,
        records: Iterable[tuple[bytes | None, bytes | None, int]],
    ) -> None:
        """Append (key, value, timestamp_ms) to one partition, in order, and wait for the broker.

        The client library takes timestamp 0 for the time of the call.

        Raises:
            KafkaException: A record was not accepted.
        """
        errors: list[KafkaError] = []

        def delivered(error: KafkaError | None, _: Message) -> None:
            if error is not None:
                errors.append(error)

        for key, value, timestamp_ms in records:
            while not errors:
                try:
                    self._producer.produce(
                        topic, value, key, partition, delivered, timestamp=timestamp_ms
                    )
                except BufferError:
                    self._producer.poll(0.1)
                else:
                    break
            self._producer.poll(0)
        unsent = self._producer.flush(2 * _TIMEOUT_S)
        if errors:
            raise KafkaException(errors[0])
        if unsent:
            raise TimeoutError(f"{unsent} records for {topic} are still not delivered")

    def end_offsets(self, topic: str) -> list[int]:
        """Offset after the last record of each partition, open transactions included.

        Raises:
            LookupError: There is no such topic.
        """
        return self._offsets(topic, latest=True)

    def read(
        self,
        topic: str,
        *,
        isolation: str = "read_committed",
        allow_open_transaction: bool = False,
        timeout_s: float = _TIMEOUT_S,
    ) -> list[list[Record]]:
        """Everything in the topic at the time of the call, one list per partition.

        A commit is answered before its markers are in the partitions, so the end of the
        committed part alone would miss what was committed just now: reading goes on to the
        offset that was the end when the call began. With `allow_open_transaction` it stops
        where the first open transaction begins.

        Raises:
            TimeoutError: A transaction stayed open, or the broker did not answer.
        """
        at, ends = self._offsets(topic, latest=False), self._offsets(topic, latest=True)
        records: list[list[Record]] = [[] for _ in ends]
        waiting = {p for p, end in enumerate(ends) if at[p] < end}
        deadline = time.monotonic() + timeout_s
        config = {
            "bootstrap.servers": self.bootstrap,
            "group.id": f"read-{uuid.uuid4()}",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "isolation.level": isolation,
            "fetch.wait.max.ms": 10,  # the end of a partition is reported by an empty fetch
        }
        with closing(Consumer(config)) as consumer:
            # By number: "from the beginning" makes the library wait half a second.
            consumer.assign([TopicPartition(topic, p, at[p]) for p in waiting])
            while waiting:
                if time.monotonic() > deadline:
                    places = {p: (at[p], ends[p]) for p in sorted(waiting)}
                    raise TimeoutError(
                        f"{topic} not read to its end in {timeout_s} s (partition: (at, end) "
                        f"{places}); is a transaction still open?"
                    )
                for message in consumer.consume(10_000, 0.1):
                    partition, offset = message.partition(), message.offset()
                    assert partition is not None
                    assert offset is not None
                    error = message.error()
                    if error is None:
                        records[partition].append(_record(message, offset))
                        at[partition] = offset + 1
                    elif error.code() == KafkaError._PARTITION_EOF:
                        at[partition] = offset
                        if offset >= ends[partition] or allow_open_transaction:
                            waiting.discard(partition)
                    else:
                        raise KafkaException(error)
        return records

    def _offsets(self, topic: str, *, latest: bool) -> list[int]:
        where = OffsetSpec.latest() if latest else OffsetSpec.earliest()  # type: ignore[no-untyped-call]
        wanted = [TopicPartition(topic, p) for p in range(self.partitions(topic))]
        if not wanted:
            raise LookupError(f"There is no topic {topic}")
        deadline = time.monotonic() + _TIMEOUT_S
        while True:
            found = self.admin.list_offsets(dict.fromkeys(wanted, where))
            try:
                offsets = {p.partition: _result(future).offset for p, future in found.items()}
            except KafkaException as error:
                # A broker may not yet know that it leads a partition made a moment ago.
                if error.args[0].code() not in _NO_LEADER_YET or time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
            else:
                return [offsets[p.partition] for p in wanted]


def _record(message: Message, offset: int) -> Record:
    return Record(
        offset,
        message.timestamp()[1],
        message.key(),
        message.value(),
        tuple(cast(_HEADERS, message.headers() or ())),
    )


def _result(future: "Future[_T]") -> _T:
    return future.result(timeout=_TIMEOUT_S)
