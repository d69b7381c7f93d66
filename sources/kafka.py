"""Kafka as a log: one consumer per partition, read committed, never blocking.

Offsets have holes (transaction markers, compaction), so the end of a partition is known
from librdkafka's partition EOF event, never from the last record's offset. A vanished
offset is an error with a remedy, never a silent jump.
"""

import logging
import time
from collections.abc import Mapping

from confluent_kafka import OFFSET_BEGINNING, KafkaError

from schemas.errors import FlowError
from schemas.kafka_cluster import kafka_cluster
from schemas.stream import Fetched
from sources.kafka_client import Client, ClientError, ClientEvent, Config, StockConsumer
from sources.librdkafka import NativeConsumer, is_available

__all__ = ["CONSUMER_CONFIG", "KafkaFetcher", "KafkaLog"]

_LOGGER = logging.getLogger(__name__)
_TIMEOUT_S = 10.0
_AGAIN_S = 0.05
_FATAL = {
    KafkaError._UNKNOWN_PARTITION,  # noqa: SLF001  # their public names
    KafkaError._UNKNOWN_TOPIC,  # noqa: SLF001
    KafkaError._AUTHENTICATION,  # noqa: SLF001
    KafkaError._FATAL,  # noqa: SLF001
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
}
_TRY_AGAIN = "Start the broker or correct KAFKA_BOOTSTRAP_SERVERS, then start again."

CONSUMER_CONFIG: Config = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "auto.offset.reset": "error",
    "isolation.level": "read_committed",
    "enable.partition.eof": True,
    "socket.nagle.disable": True,
    # librdkafka waits this long before it refills a drained queue; its default of a second
    # starves a fast reader
    "fetch.queue.backoff.ms": 5,
    "queued.min.messages": 100_000,
    "queued.max.messages.kbytes": 65_536,
    "fetch.wait.max.ms": 50,
}


class KafkaFetcher:
    """Reads one partition; see `sources.log.Fetcher`.

    Args:
        client: of the partition; belongs to this fetcher from now on.
        topic: topic name.
        partition: partition number.
        offset: where to start; None for the start of the log.

    Raises:
        FlowError: The offset is not in the log, or the broker cannot be reached.
    """

    def __init__(self, client: Client, topic: str, partition: int, offset: int | None) -> None:
        self._topic = topic
        self._partition = partition
        self._client = client
        try:
            low, high = _bounds(client)
        except ClientError as error:
            client.close()
            raise FlowError(
                f"Partition {partition} of topic {topic} cannot be read: {error}", _TRY_AGAIN
            ) from error
        if offset is not None and not low <= offset <= high:
            client.close()
            raise _gone(topic, partition, offset, low, high)
        self._position = low if offset is None else offset
        self._at_end = False
        self._committed = -1
        client.start(OFFSET_BEGINNING if offset is None else offset)

    def poll(self, limit: int) -> Fetched | None:
        """Up to `limit` records that the client has at hand."""
        fetched, events = self._client.consume(limit)
        for event in events:
            self._on_event(event)
        if fetched is not None:
            last = int(fetched.offsets[-1])
            self._at_end = self._at_end and self._position > last
            self._position = max(self._position, last + 1)
        return fetched

    def _on_event(self, event: ClientEvent) -> None:
        if event.code == KafkaError._PARTITION_EOF:  # noqa: SLF001  # its public name
            self._position = max(self._position, event.offset)
            self._at_end = True
        elif event.code in (
            KafkaError._AUTO_OFFSET_RESET,  # noqa: SLF001  # its public name
            KafkaError.OFFSET_OUT_OF_RANGE,
        ):
            low, high = self._client.bounds(_TIMEOUT_S)
            raise _gone(self._topic, self._partition, self._position, low, high)
        elif event.code in _FATAL:
            raise FlowError(
                f"Reading partition {self._partition} of topic {self._topic} failed at "
                f"offset {self._position}: {event.text}",
                "Mend the topic or the access rights and start again; the flow goes on from "
                "its last snapshot.",
            )
        else:  # brokers away and the like: librdkafka goes on trying
            _LOGGER.warning(
                "Partition %d of topic %s: %s",
                self._partition,
                self._topic,
                event.text,
                extra=self._place(),
            )

    @property
    def position(self) -> int:
        """Offset of the next record."""
        return self._position

    @property
    def at_end(self) -> bool:
        """Whether the end of the partition was reached."""
        return self._at_end

    def known_end(self) -> int | None:
        """The end of the partition as of the last answer of the broker."""
        return self._client.known_end()

    def commit(self, offset: int) -> None:
        """Commit for lag tools; the flow itself never reads it back."""
        if offset == self._committed:
            return
        self._committed = offset
        try:
            self._client.commit(offset)
        except ClientError as error:
            _LOGGER.warning(
                "Committing offsets for lag tools failed: %s", error, extra=self._place()
            )
        else:
            _LOGGER.info(
                "Partition %d of topic %s was processed up to a snapshot",
                self._partition,
                self._topic,
                extra=self._place(),
            )

    def _place(self) -> dict[str, str | int]:
        """For the log: what is about this partition, and where it is read."""
        return {"topic": self._topic, "partition": self._partition, "offset": self._position}

    def close(self) -> None:
        """Leave; pending commits are given a moment."""
        self._client.close()


def _gone(topic: str, partition: int, offset: int, low: int, high: int) -> FlowError:
    return FlowError(
        f"Offset {offset} of partition {partition} is no longer in topic {topic}, "
        f"which now holds offsets {low} to {high}",
        "Records were deleted before the flow had read them, or the topic was made anew. "
        "Restore them, or start a new FLOW_VERSION (with an OUTPUT_TOPIC and an empty "
        "recovery directory of its own) that computes from what is left.",
    )


def _bounds(client: Client) -> tuple[int, int]:
    """See `Client.bounds`; waits for a leader that does not yet know that it is one.

    So it is for a moment after a topic was made, or when its leader has changed.
    """
    deadline_s = time.monotonic() + _TIMEOUT_S
    while True:
        try:
            return client.bounds(_TIMEOUT_S)
        except ClientError as error:
            if "leader" not in str(error).lower() or time.monotonic() > deadline_s:
                raise
        time.sleep(_AGAIN_S)


class KafkaLog:
    """A topic; see `sources.log.Log`.

    Args:
        config: librdkafka settings, `bootstrap.servers` among them.
        topic: topic name.
        group: consumer group that lag tools see.
        with_keys: whether to bring the records' keys too.

    Raises:
        FlowError: The broker cannot be reached or the topic does not exist.
    """

    def __init__(
        self, config: Mapping[str, str | int], topic: str, group: str, *, with_keys: bool = False
    ) -> None:
        self._config = {**config, "group.id": group}
        self._topic = topic
        self._with_keys = with_keys
        found = kafka_cluster(config).topics.get(topic)
        if found is None or not found.partitions:
            raise FlowError(
                f"The input topic {topic} does not exist on "
                f"KAFKA_BOOTSTRAP_SERVERS={config['bootstrap.servers']}",
                "Create it with the partition count it is to keep, or name another one in "
                "INPUT_TOPIC; where it exists, let the flow's user describe it.",
            )
        self._partitions = len(found.partitions)

    @property
    def topic(self) -> str:
        """Name of the topic."""
        return self._topic

    @property
    def partitions(self) -> int:
        """Number of partitions it had at start."""
        return self._partitions

    def open(self, partition: int, offset: int | None) -> KafkaFetcher:
        """Read a partition from `offset` or its start."""
        return KafkaFetcher(self._client(partition), self._topic, partition, offset)

    def end(self, partition: int) -> int:
        """Offset after the last committed record."""
        client = self._client(partition)
        try:
            return _bounds(client)[1]
        except ClientError as error:
            raise FlowError(
                f"The end of partition {partition} of topic {self._topic} cannot be read: {error}",
                _TRY_AGAIN,
            ) from error
        finally:
            client.close()

    def _client(self, partition: int) -> Client:
        make = NativeConsumer if is_available() else StockConsumer
        config = {**self._config, **CONSUMER_CONFIG}
        return make(config, self._topic, partition, with_keys=self._with_keys)
