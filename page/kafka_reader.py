"""Follows the result topics: what is committed to one is published at once.

No group is joined and nothing is committed: each page reads all partitions by itself, from a
bounded piece of their end. Topics that do not exist yet are read once they do. When the brokers
go away, the reader says so; the client connects again by itself.
"""

import asyncio
import logging
import secrets
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import TimeoutError as NotYetError
from contextlib import suppress

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from page.hub import Hub
from page.kinds import Kind, Row
from page.postgres_reader import Report
from page.records import Decode, decoder

__all__ = ["KafkaReader"]

_TAIL = {"candle": 5_000, "ewma": 2_000, "sales": 2_000}
_SHORT_TAIL = 500
_BATCH = 500
_WAIT_S = 0.05
_LOOK_S = 2.0
_ANSWER_S = 5.0
_RETRY_S = 1.0
_STOP_S = 5.0
_LOGGER = logging.getLogger(__name__)

Place = tuple[str, int]


class KafkaReader:
    """Publishes the rows of the topics until it is cancelled.

    Args:
        kinds: by name.
        topics: kind and name of each topic.
        hub: where rows go.
        config: librdkafka settings for reaching the brokers.
        is_framed: whether values carry the schema registry's header.
        report: told what is wrong.

    Attributes:
        ready: set once what was there at first is published.
    """

    def __init__(
        self,
        kinds: Mapping[str, Kind],
        topics: Sequence[tuple[str, str]],
        hub: Hub,
        *,
        config: Mapping[str, str | int],
        is_framed: bool,
        report: Report,
    ) -> None:
        self._hub = hub
        self._report = report
        self._tails = {topic: _TAIL.get(kind, _SHORT_TAIL) for kind, topic in topics}
        self._decoders: dict[str, Decode] = {
            topic: decoder(kinds[kind], is_framed=is_framed) for kind, topic in topics
        }
        self._config = {
            **config,
            "group.id": f"page-{secrets.token_hex(8)}",  # asked for, and never joined
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",
            "fetch.queue.backoff.ms": 5,
            "fetch.wait.max.ms": 50,
            "reconnect.backoff.max.ms": 2_000,
        }
        self._next: dict[Place, int] = {}
        self._unreadable: dict[str, int] = defaultdict(int)
        self._stopping = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.ready = asyncio.Event()

    async def run(self) -> None:
        """Follow the topics, through outages, for ever."""
        self._loop = asyncio.get_running_loop()
        thread = threading.Thread(target=self._read_for_ever, name="page-kafka", daemon=True)
        thread.start()
        try:
            await asyncio.Event().wait()
        finally:
            self._stopping.set()
            # Not joined on this thread: the other may be about to publish.
            await asyncio.to_thread(thread.join, _STOP_S)

    def _read_for_ever(self) -> None:
        while not self._stopping.is_set():
            try:
                consumer = Consumer(dict(self._config), logger=_LOGGER)
                try:
                    self._read(consumer)
                finally:
                    consumer.close()
            except KafkaException as error:
                self._tell(f"Kafka cannot be read ({error.args[0].str()})")
                self._stopping.wait(_RETRY_S)

    def _read(self, consumer: Consumer) -> None:
        """Read with one consumer until it fails for good."""
        read: set[Place] = set()
        waiting: set[Place] | None = None
        looked_s = 0.0
        while not self._stopping.is_set():
            if time.monotonic() - looked_s >= _LOOK_S:
                with suppress(NotYetError):
                    found = self._look(consumer, read)
                    if waiting is None and found is not None:
                        waiting = set(read)
                looked_s = time.monotonic()
            messages = consumer.consume(_BATCH, _WAIT_S)
            ended = self._publish(messages)
            if waiting is not None:
                waiting -= ended
                if not waiting:
                    self._call(self.ready.set)

    def _look(self, consumer: Consumer, read: set[Place]) -> bool | None:
        """Begin to read partitions that have come to be; None when no broker answers."""
        try:
            topics = consumer.list_topics(timeout=_ANSWER_S).topics
            there = {
                (name, partition)
                for name in self._decoders
                if name in topics and topics[name].error is None
                for partition in topics[name].partitions
            }
            gone = read - there
            if gone:
                consumer.incremental_unassign([TopicPartition(*place) for place in gone])
                read -= gone
                for place in gone:
                    self._next.pop(place, None)
            for place in sorted(there - read):
                at = self._next.get(place)
                if at is None:
                    low, high = consumer.get_watermark_offsets(
                        TopicPartition(*place), timeout=_ANSWER_S
                    )
                    at = max(low, high - self._tails[place[0]])
                consumer.incremental_assign([TopicPartition(*place, at)])
                read.add(place)
        except KafkaException as error:
            reason: KafkaError = error.args[0]
            if reason.fatal():
                raise
            self._tell(f"Kafka does not answer ({reason.str()})")
            return None
        unreadable = (f"{n:,} records of {name}" for name, n in self._unreadable.items())
        problem = ", ".join(unreadable)
        self._tell(f"{problem} cannot be read" if problem else None)
        return True

    def _publish(self, messages: Sequence[Message]) -> set[Place]:
        """Publish records; the partitions that were read to their end."""
        values: dict[str, list[bytes]] = defaultdict(list)
        ended: set[Place] = set()
        for message in messages:
            topic, partition, error = message.topic(), message.partition(), message.error()
            if error is not None:
                if error.fatal():
                    raise KafkaException(error)
                if error.code() == KafkaError._PARTITION_EOF and topic is not None:  # noqa: SLF001  # its public name
                    ended.add((topic, partition or 0))
                continue
            value, offset = message.value(), message.offset()
            if topic is None or offset is None:
                continue
            self._next[topic, partition or 0] = offset + 1
            if value is not None:
                values[topic].append(value)
        for topic, some in values.items():
            rows, unreadable = self._decoders[topic](some)
            if unreadable:
                self._unreadable[topic] += unreadable
            self._hand_over(rows)
        return ended

    def _hand_over(self, rows: list[Row]) -> None:
        """Publish on the event loop, and wait until that is done: no queue between the two."""
        assert self._loop is not None  # noqa: S101  # set before the thread started
        done = asyncio.run_coroutine_threadsafe(self._take(rows), self._loop)
        while not self._stopping.is_set():
            with suppress(NotYetError):
                done.result(_WAIT_S)
                return

    async def _take(self, rows: list[Row]) -> None:
        self._hub.publish(rows)

    def _tell(self, problem: str | None) -> None:
        self._call(lambda: self._report(problem))

    def _call(self, function: Callable[[], None]) -> None:
        assert self._loop is not None  # noqa: S101  # set before the thread started
        with suppress(RuntimeError):  # the loop is closed: nobody listens any more
            self._loop.call_soon_threadsafe(function)
