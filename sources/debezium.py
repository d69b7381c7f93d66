"""The Bytewax source of Debezium's topics: whole transactions, in order of their commits.

It reads the topic of each table and the transaction topic, `<prefix>.transaction`, side by side;
`sources.debezium_merge` puts them together. One permanent partition, since transactions have one
order. Its snapshot is the next offset of each topic and what waits for the rest of its
transaction, so no record is read twice.

Contract: as of `sources.debezium_merge`; rejected records leave by topic and offset, as they lie.
"""

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from bytewax.inputs import StatefulSourcePartition
from typing_extensions import override

from schemas import failpoints, tracing
from schemas.errors import FlowError
from schemas.kafka_cluster import kafka_cluster
from schemas.origin import Origin
from schemas.registry import Registry
from schemas.stream import NEVER, Fetched, Output
from schemas.tables import REJECTED_SCHEMA
from schemas.transactions import Captured, CapturedTable
from sources import metrics, stopping
from sources.debezium_merge import Merge, MergeState
from sources.debezium_records import (
    AvroValues,
    End,
    Event,
    Rejected,
    as_json,
    decode_end,
    decode_event,
)
from sources.kafka import KafkaFetcher, KafkaLog
from sources.spans import with_span

__all__ = ["DebeziumPartition", "DebeziumPlace", "DebeziumState"]

_RECORDS = 2_000
_BUSY = timedelta(milliseconds=4)
_QUIET = timedelta(milliseconds=12)
_QUIET_S = 1.0
_ASK_S = 0.25


class DebeziumPlace(NamedTuple):
    """What to read.

    Attributes:
        config: librdkafka settings.
        prefix: `topic.prefix` of the connector.
        tables: what to capture, by name; in schema `public`.
        registry: of Avro values; None for JSON.
    """

    config: Mapping[str, str | int]
    prefix: str
    tables: Mapping[str, CapturedTable]
    registry: Registry | None = None

    @property
    def names(self) -> list[str]:
        """The tables as the markers name them."""
        return [f"public.{name}" for name in self.tables]

    @property
    def topics(self) -> list[str]:
        """Topics of the tables, then the transaction topic."""
        return [*(f"{self.prefix}.{name}" for name in self.names), f"{self.prefix}.transaction"]

    def check(self) -> None:
        """See that no topic has several partitions.

        Raises:
            FlowError: One has, or no broker answers.
        """
        found = kafka_cluster(self.config)
        for name in self.topics:
            if name in found.topics and len(found.topics[name].partitions) > 1:
                raise FlowError(
                    f"Topic {name} has {len(found.topics[name].partitions)} partitions, and the "
                    "order of transactions is known only within one",
                    "Let the connector write topics of one partition "
                    "(topic.creation.default.partitions=1), with another topic.prefix.",
                )


class DebeziumState(NamedTuple):
    """Snapshot: the next offset of each topic, and what waits."""

    offsets: tuple[int, ...]
    merge: MergeState


class DebeziumPartition(StatefulSourcePartition[Captured, DebeziumState]):
    """The one partition; see the module.

    Args:
        flow: name, for dead letters and metrics.
        place: what to read; its topics exist.
        state: where to go on; None to read from the start.
        group: consumer group that lag tools see.
        stop_at_end: end where the topics end at start.
        clock_s: a monotonic clock in seconds.

    Raises:
        FlowError: A topic cannot be read, or does not hold what the state needs.
    """

    def __init__(
        self,
        flow: str,
        place: DebeziumPlace,
        state: DebeziumState | None,
        *,
        group: str,
        stop_at_end: bool = False,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._flow = flow
        self._place = place
        self._clock_s = clock_s
        self._tables = list(place.tables.values())
        self._values = as_json if place.registry is None else AvroValues(place.registry)
        self._merge = Merge(place.names, state.merge if state else None)
        self._logs = [KafkaLog(place.config, topic, group) for topic in place.topics]
        offsets = state.offsets if state else (None,) * len(self._logs)
        self._fetchers: list[KafkaFetcher] = [
            log.open(0, offset) for log, offset in zip(self._logs, offsets, strict=True)
        ]
        self._ends = [log.end(0) for log in self._logs] if stop_at_end else None
        self._counters = [metrics.READ.labels(flow, topic) for topic in place.topics]
        self._awake: datetime | None = None
        self._active_s = clock_s()
        self._asked_s = [-_ASK_S] * len(self._logs)
        self._committed_ms = NEVER
        for topic, fetcher in zip(place.topics, self._fetchers, strict=True):
            metrics.watch(fetcher, flow, topic, metrics.standing_of)
        # Transactions are in order where they are put together, by the last of the topics.
        metrics.watch(self, flow, place.topics[-1], DebeziumPartition._standing)

    @override
    def next_batch(self) -> list[Captured]:
        if stopping.requested():
            raise StopIteration
        rejected: list[Output] = []
        most, newest_ms, read_s = 0, -1, time.time()
        for number, fetcher in enumerate(self._fetchers):
            is_table = number < len(self._tables)
            if not (self._merge.wants(number) if is_table else self._merge.wants_ends):
                continue
            fetched = fetcher.poll(_RECORDS)
            if fetched is not None:
                newest_ms = max(newest_ms, int(fetched.timestamps_ms.max()))
                rejected += self._take(number, fetched, Origin(read_s, newest_ms))
                most = max(most, len(fetched.offsets))
        transactions = self._merge.advance(self._is_read)
        if self._ends is not None and not (most or transactions) and self._has_ended():
            raise StopIteration
        for transaction in transactions[-1:]:
            self._committed_ms = max(self._committed_ms, transaction.committed_us // 1000)
        if most:
            self._active_s = self._clock_s()
        wait = _QUIET if self._is_quiet() else _BUSY
        self._awake = None if most >= _RECORDS else datetime.now(UTC) + wait
        if not (transactions or rejected):
            return []
        origin = Origin(read_s, newest_ms)
        if transactions:
            origin = with_span(
                origin,
                tracing.batch(read_s),
                self._flow,
                self._place.topics[-1],
                first=transactions[0].lsn,
                last=transactions[-1].lsn,
                records=sum(len(transaction.changes) for transaction in transactions),
                rejected=sum(output.rows.num_rows for output in rejected),
            )
        return [Captured(transactions, rejected, origin)]

    def _is_quiet(self) -> bool:
        return self._clock_s() - self._active_s > _QUIET_S

    def _standing(self) -> metrics.Standing:
        last = metrics.standing_of(self._fetchers[-1])
        return last._replace(watermark_ms=self._committed_ms, is_idle=self._is_quiet())

    def _take(self, number: int, fetched: Fetched, origin: Origin) -> list[Output]:
        """Take records of a topic in; the dead letters among them."""
        bad: list[tuple[int, str]] = []
        self._counters[number].inc(len(fetched.offsets))
        for at, value in enumerate(fetched.values.to_pylist()):
            if number < len(self._tables):
                found: Event | End | Rejected | None
                found = decode_event(value, self._tables[number], self._values)
            else:
                found = decode_end(value, self._values)
            if isinstance(found, Rejected):
                bad.append((at, found.reason))
                if found.event is None and number < len(self._tables):
                    self._merge.take_damage(number)
                found = found.event
            if isinstance(found, Event):
                self._merge.take(number, found)
            elif found is not None:
                self._merge.take_end(found)
        return [self._rejects(number, fetched, bad, origin)] if bad else []

    def _rejects(
        self, number: int, fetched: Fetched, bad: list[tuple[int, str]], origin: Origin
    ) -> Output:
        topic, n = self._place.topics[number], len(bad)
        for _, reason in bad:
            metrics.REJECTED.labels(self._flow, topic, reason).inc()
        at = np.array([index for index, _ in bad])
        offsets = fetched.offsets[at]
        columns = [
            pa.array([self._flow] * n),
            pa.array([topic] * n),
            pa.array([0] * n, pa.int32()),
            pa.array(offsets),
            pa.array([reason for _, reason in bad]),
            pa.array(fetched.timestamps_ms[at]).cast(pa.timestamp("ms", tz="UTC")),
            pa.nulls(n, pa.binary()),
            fetched.values.take(pa.array(at)),
        ]
        rows = pa.record_batch(columns, schema=REJECTED_SCHEMA)
        return Output("rejected", number, offsets, int(offsets[-1]), rows, origin=origin)

    def _is_read(self, number: int) -> bool:
        """Whether a topic was read to its end; asks the broker, but not all the time."""
        now_s = self._clock_s()
        if now_s - self._asked_s[number] < _ASK_S:
            return False
        self._asked_s[number] = now_s
        return self._fetchers[number].position >= self._logs[number].end(0)

    def _has_ended(self) -> bool:
        ends = self._ends or []
        return all(f.position >= end for f, end in zip(self._fetchers, ends, strict=True))

    @override
    def next_awake(self) -> datetime | None:
        return self._awake

    @override
    def snapshot(self) -> DebeziumState:
        failpoints.reached("debezium.before_snapshot")
        offsets = tuple(fetcher.position for fetcher in self._fetchers)
        for fetcher, offset in zip(self._fetchers, offsets, strict=True):
            fetcher.commit(offset)
        return DebeziumState(offsets, self._merge.snapshot())

    @override
    def close(self) -> None:
        metrics.forget(self)
        for fetcher in self._fetchers:
            fetcher.close()
