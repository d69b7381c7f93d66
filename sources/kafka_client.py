"""The Kafka client of one partition: a protocol, and the stock client behind it.

Two clients speak it: `StockConsumer` here, confluent-kafka's own with an object per
message, which is the reference and runs everywhere; and `sources.librdkafka.NativeConsumer`,
which drains the same library without such objects.
"""

import logging
import threading
from collections.abc import Mapping
from typing import NamedTuple, Protocol

import numpy as np
import pyarrow as pa
from confluent_kafka import Consumer, KafkaException, TopicPartition

from schemas.stream import Fetched

__all__ = ["Client", "ClientError", "ClientEvent", "Config", "StockConsumer"]

_LOGGER = logging.getLogger(__name__)

Config = Mapping[str, str | int | bool]
"""librdkafka settings."""


class ClientError(Exception):
    """The client or the broker refused something; the text is librdkafka's."""


class ClientEvent(NamedTuple):
    """Something other than a record among what was fetched, such as the partition's end."""

    code: int
    offset: int
    text: str


class Client(Protocol):
    """Reads one partition; `start` comes before `consume`."""

    def bounds(self, timeout_s: float) -> tuple[int, int]:
        """First offset in the log, and the one after the last readable record.

        Raises:
            ClientError: The broker did not answer in time, or refused.
        """
        ...

    def start(self, offset: int) -> None:
        """Begin to fetch at `offset`."""
        ...

    def consume(self, limit: int) -> tuple[Fetched | None, list[ClientEvent]]:
        """Up to `limit` records and events that are at hand; never waits."""
        ...

    def known_end(self) -> int | None:
        """Offset after the last record, as the broker said with the last records fetched.

        None before it has, and once closed. Any thread may ask.
        """
        ...

    def commit(self, offset: int) -> None:
        """Commit for the group, without waiting.

        Raises:
            ClientError: The request was refused at once.
        """
        ...

    def close(self) -> None:
        """Stop fetching and let go."""
        ...


class StockConsumer:
    """confluent-kafka's consumer; see `Client`.

    Args:
        config: librdkafka settings.
        topic: topic name.
        partition: partition number.
        with_keys: whether to bring the records' keys too.
    """

    def __init__(
        self, config: Config, topic: str, partition: int, *, with_keys: bool = False
    ) -> None:
        self._place = (topic, partition)
        self._with_keys = with_keys
        self._consumer = Consumer(dict(config), logger=_LOGGER)
        self._is_closed = False
        self._closing = threading.Lock()  # against a look from another thread

    def bounds(self, timeout_s: float) -> tuple[int, int]:
        """See `Client`."""
        try:
            low, high = self._consumer.get_watermark_offsets(
                TopicPartition(*self._place), timeout=timeout_s
            )
        except KafkaException as error:
            raise ClientError(error.args[0].str()) from error
        return low, high

    def start(self, offset: int) -> None:
        """See `Client`."""
        self._consumer.assign([TopicPartition(*self._place, offset)])

    def consume(self, limit: int) -> tuple[Fetched | None, list[ClientEvent]]:
        """See `Client`."""
        messages = self._consumer.consume(limit, 0)
        events = []
        for message in messages:
            error = message.error()
            if error is not None:
                events.append(ClientEvent(error.code(), message.offset() or 0, error.str()))
        records = [m for m in messages if m.error() is None] if events else messages
        if not records:
            return None, events
        fetched = Fetched(
            pa.array([record.value() for record in records], pa.binary()),
            np.array([record.offset() for record in records], np.int64),
            np.array([record.timestamp()[1] for record in records], np.int64),
            pa.array([r.key() for r in records], pa.binary()) if self._with_keys else None,
        )
        return fetched, events

    def known_end(self) -> int | None:
        """See `Client`."""
        with self._closing:
            if self._is_closed:
                return None
            place = TopicPartition(*self._place)
            _, high = self._consumer.get_watermark_offsets(place, cached=True)
            return high if high >= 0 else None

    def commit(self, offset: int) -> None:
        """See `Client`."""
        try:
            self._consumer.commit(offsets=[TopicPartition(*self._place, offset)], asynchronous=True)
        except KafkaException as error:
            raise ClientError(error.args[0].str()) from error

    def close(self) -> None:
        """See `Client`."""
        with self._closing:
            self._is_closed = True
        self._consumer.close()
