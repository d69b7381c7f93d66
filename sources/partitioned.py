"""The source of every log: columns out of bytes, with watermark, rejects and snapshots.

`LogSource` turns a `sources.log.Log` and a codec into a Bytewax source of `Events`, one
partition per log partition. A partition's watermark is the newest event time seen less the
lateness; every record carries the watermark just before it (its arrival watermark).

Contract. What a partition emits, cut as it may be into batches, is a function of its log
and of its idle decisions. An idle decision is the one thing that comes from the clock: it
is taken inside `snapshot()` and acted on only in a later `next_batch`, when Bytewax has
made the snapshot durable; after a crash it is replayed from there, not taken again.

Cost: one decode of the batch in compiled code and a handful of NumPy passes; no Python
object per record beyond what the client library makes.
"""

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from prometheus_client import Counter
from typing_extensions import override

from schemas import failpoints
from schemas.stream import NEVER, Codec, Decoded, Events, Fetched, Int64s
from schemas.tables import REJECTED_SCHEMA
from sources import stopping
from sources.log import Fetcher, Log

__all__ = ["AHEAD_OF_LOG", "LogPartition", "LogSource", "PartitionState", "SourceRule"]

AHEAD_OF_LOG = "ahead_of_log"
"""Reject reason: the event time is too far ahead of the log's own timestamp."""

_LEAST_BATCH = 500
_LARGEST_BATCH = 10_000
_SLOW_S = 0.05  # a round trip longer than this halves the batch
_POLL_AGAIN = timedelta(milliseconds=2)
_POLL_QUIET = timedelta(milliseconds=10)
_QUIET_S = 1.0
_LIVE_S = 60.0
_FAR_AHEAD_MS = 10_000

_READ = Counter("tidemark_source_records", "Records read.", ["flow", "partition"])
_REJECTED = Counter(
    "tidemark_source_rejected", "Records rejected.", ["flow", "partition", "reason"]
)


@dataclass(frozen=True, slots=True)
class SourceRule:
    """Parameters of a source.

    Attributes:
        flow: name, for dead letters and metrics.
        lateness_ms: how far the watermark stays behind the newest event time.
        ahead_ms: how far an event time may be ahead of the log's timestamp.
        idle_timeout_s: wall time at the end of the log after which a live partition lets
            its watermark follow the clock.
        stop_at_end: read each partition up to the end it had at start, then finish.
    """

    flow: str
    lateness_ms: int = 2_000
    ahead_ms: int = 600_000
    idle_timeout_s: float = 10.0
    stop_at_end: bool = False


class PartitionState(NamedTuple):
    """Snapshot of a partition.

    Attributes:
        offset: next offset to process.
        newest_ms: running maximum of event time; `NEVER` before the first record.
        idle_ms: the event time that an idle decision moves `newest_ms` to; None without.
    """

    offset: int
    newest_ms: int
    idle_ms: int | None


class Siblings:
    """What the partitions of a log in one process know of each other: how far they are.

    Two things follow, neither of which touches the results: whether the log is live, and
    that a partition far ahead in event time waits for those that have more to read, since
    what it brings could only be kept until they catch up.
    """

    def __init__(self) -> None:
        self.newest_ms = NEVER
        self._reading: dict[int, int] = {}

    def see(self, partition: int, newest_ms: int, *, has_more: bool) -> None:
        """Note how far a partition is, and whether it had records at hand."""
        self.newest_ms = max(self.newest_ms, newest_ms)
        if has_more:
            self._reading[partition] = newest_ms
        else:
            self._reading.pop(partition, None)

    def is_far_ahead(self, newest_ms: int) -> bool:
        """Whether a partition that is as far as this should let the others go first."""
        slowest_ms = min(tuple(self._reading.values()), default=newest_ms)
        return newest_ms - slowest_ms > _FAR_AHEAD_MS


class LogPartition(StatefulSourcePartition[Events, PartitionState]):
    """One partition; see the module.

    Args:
        log: where to read.
        codec: how to decode.
        rule: parameters.
        partition: number of the partition.
        state: where to go on; None to read from the start of the log.
        clock: seconds since the epoch.
        report: called with (partition, start, position, end, events) after each batch.
        siblings: shared by the partitions of the log in this process.
    """

    def __init__(
        self,
        log: Log,
        codec: Codec,
        rule: SourceRule,
        partition: int,
        state: PartitionState | None,
        clock: Callable[[], float] = time.time,
        report: Callable[[int, int, int, int, int], None] | None = None,
        siblings: Siblings | None = None,
    ) -> None:
        self._topic = log.topic
        self._codec = codec
        self._rule = rule
        self._partition = partition
        self._clock = clock
        self._report = report
        self._fetcher: Fetcher = log.open(partition, state.offset if state else None)
        self._newest_ms = state.newest_ms if state else NEVER
        self._idle_ms = state.idle_ms if state else None
        self._siblings = siblings or Siblings()
        self._siblings.see(partition, self._newest_ms, has_more=False)
        self._offset = state.offset if state else self._fetcher.position
        self._start = self._offset
        self._end = log.end(partition) if rule.stop_at_end else -1
        self._ended = False
        self._at_end_since: float | None = None
        self._limit = _LEAST_BATCH
        self._polled_at = 0.0
        self._awake: datetime | None = None
        self._read = _READ.labels(rule.flow, str(partition))

    @property
    def watermark_ms(self) -> int:
        """No event before this one will be on time; `NEVER` before the first record."""
        return max(NEVER, self._newest_ms - self._rule.lateness_ms)

    @override
    def next_batch(self) -> list[Events]:
        if self._ended or stopping.requested():
            raise StopIteration
        if self._idle_ms is not None:
            self._newest_ms = max(self._newest_ms, self._idle_ms)
            self._idle_ms = None
            self._siblings.see(self._partition, self._newest_ms, has_more=False)
            return [self._nothing()]
        if self._siblings.is_far_ahead(self._newest_ms):
            self._polled_at = 0.0
            self._awake = datetime.now(UTC) + _POLL_AGAIN
            return []
        fetched = self._poll()
        if fetched is None:
            self._siblings.see(self._partition, self._newest_ms, has_more=False)
            return self._on_empty()
        self._at_end_since = None
        events = self._events(fetched)
        self._siblings.see(self._partition, self._newest_ms, has_more=True)
        self._offset = int(fetched.offsets[-1]) + 1
        if self._report and self._rule.stop_at_end:
            self._report(self._partition, self._start, self._offset, self._end, events.read)
        return [events]

    def _poll(self) -> Fetched | None:
        """Fetch, with a batch size that keeps the time between two calls short."""
        now = time.monotonic()
        if self._polled_at and now - self._polled_at > _SLOW_S:
            self._limit = max(_LEAST_BATCH, self._limit // 2)
        fetched = self._fetcher.poll(self._limit)
        self._polled_at = now if fetched is not None else 0.0
        if fetched is None:
            return None
        full = len(fetched.offsets) >= self._limit
        if full:
            self._limit = min(_LARGEST_BATCH, self._limit * 2)
        self._awake = None if full else datetime.now(UTC) + _POLL_AGAIN
        if self._rule.stop_at_end and fetched.offsets[-1] >= self._end:
            n = int(np.searchsorted(fetched.offsets, self._end))
            if n == 0:
                return None
            fetched = Fetched(fetched.values[:n], fetched.offsets[:n], fetched.timestamps_ms[:n])
        return fetched

    def _on_empty(self) -> list[Events]:
        if self._rule.stop_at_end and self._fetcher.position >= self._end:
            self._ended = True
            if self._report:
                self._report(self._partition, self._start, self._end, self._end, 0)
            return [self._nothing(ended=True)]
        if self._fetcher.at_end:
            if self._at_end_since is None:
                self._at_end_since = self._clock()
        else:
            self._at_end_since = None
        quiet = self._at_end_since is not None and self._clock() - self._at_end_since > _QUIET_S
        self._awake = datetime.now(UTC) + (_POLL_QUIET if quiet else _POLL_AGAIN)
        return []

    def _nothing(self, *, ended: bool = False) -> Events:
        """A batch without records, for the watermark's sake."""
        none = np.empty(0, np.int64)
        return Events(
            self._partition,
            none,
            none,
            none,
            np.empty(0, np.int32),
            [],
            {},
            pa.array([], pa.binary()),
            self.watermark_ms,
            0,
            ended=ended,
        )

    def _events(self, fetched: Fetched) -> Events:
        read = len(fetched.offsets)
        decoded = self._codec.decode(fetched.values)
        self._read.inc(read)
        ahead = (fetched.timestamps_ms >= 0) & (
            decoded.event_time_ms > fetched.timestamps_ms + self._rule.ahead_ms
        )
        rejected, rejected_offsets = None, None
        if decoded.reasons.any() or ahead.any():
            bad = (decoded.reasons != 0) | ahead
            rejected, rejected_offsets = self._reject(fetched, decoded, bad)
            good = np.flatnonzero(~bad)
            fetched = Fetched(
                fetched.values.take(pa.array(good)),
                fetched.offsets[good],
                fetched.timestamps_ms[good],
            )
            decoded = Decoded(
                decoded.event_time_ms[good],
                decoded.key_codes[good],
                decoded.key_names,
                {name: column[good] for name, column in decoded.columns.items()},
                decoded.reasons[good],
            )
        watermarks = self._pass_watermark(decoded.event_time_ms)
        return Events(
            self._partition,
            fetched.offsets,
            decoded.event_time_ms,
            watermarks,
            decoded.key_codes,
            decoded.key_names,
            decoded.columns,
            fetched.values,
            self.watermark_ms,
            read,
            rejected,
            rejected_offsets,
        )

    def _pass_watermark(self, event_time_ms: Int64s) -> Int64s:
        """Arrival watermark of each record, and move past the last."""
        newest = np.empty(len(event_time_ms) + 1, np.int64)
        newest[0] = self._newest_ms
        newest[1:] = event_time_ms
        np.maximum.accumulate(newest, out=newest)
        self._newest_ms = int(newest[-1])
        return np.maximum(newest[:-1] - self._rule.lateness_ms, NEVER)

    def _reject(
        self, fetched: Fetched, decoded: Decoded, bad: "np.ndarray[tuple[int], np.dtype[np.bool_]]"
    ) -> tuple[pa.RecordBatch, Int64s]:
        at = np.flatnonzero(bad)
        names = (AHEAD_OF_LOG, *self._codec.reasons)
        reasons = [names[code] for code in decoded.reasons[at]]
        for reason in reasons:
            _REJECTED.labels(self._rule.flow, str(self._partition), reason).inc()
        offsets = fetched.offsets[at]
        stamps = fetched.timestamps_ms[at]
        n = len(at)
        rows = pa.record_batch(
            [
                pa.array([self._rule.flow] * n),
                pa.array([self._topic] * n),
                pa.array([self._partition] * n, pa.int32()),
                pa.array(offsets),
                pa.array(reasons, pa.string()),
                pa.array(stamps, pa.int64(), mask=stamps < 0).cast(pa.timestamp("ms", "UTC")),
                fetched.values.take(pa.array(at)),
            ],
            schema=REJECTED_SCHEMA,
        )
        return rows, offsets

    @override
    def next_awake(self) -> datetime | None:
        return self._awake

    @override
    def snapshot(self) -> PartitionState:
        failpoints.reached("source.before_snapshot")
        if self._idle_ms is None and self._is_idle():
            self._idle_ms = int(self._clock() * 1000)
        self._fetcher.commit(self._offset)
        failpoints.reached("source.after_snapshot")
        return PartitionState(self._offset, self._newest_ms, self._idle_ms)

    def _is_idle(self) -> bool:
        """Whether the partition has waited long enough at the end of a live log.

        A log whose last event is old is a paused backfill and waits; a partition that never
        had a record has nothing to wait for, and neither has one that is silent while the
        others of its log are live.
        """
        if self._at_end_since is None or self._rule.stop_at_end or stopping.requested():
            return False
        now = self._clock()
        if now - self._at_end_since < self._rule.idle_timeout_s:
            return False
        live_s = max(_LIVE_S, 10 * self._rule.idle_timeout_s)
        newest_ms = self._siblings.newest_ms
        return self._newest_ms == NEVER or now * 1000 - newest_ms < live_s * 1000

    @override
    def close(self) -> None:
        self._siblings.see(self._partition, self._newest_ms, has_more=False)
        self._fetcher.close()


class LogSource(FixedPartitionedSource[Events, PartitionState]):
    """Bytewax source over a log; one permanent, zero-padded partition per log partition.

    Args:
        log: where to read.
        codec: how to decode.
        rule: parameters.
        report: see `LogPartition`.
    """

    def __init__(
        self,
        log: Log,
        codec: Codec,
        rule: SourceRule,
        report: Callable[[int, int, int, int, int], None] | None = None,
    ) -> None:
        self._log = log
        self._codec = codec
        self._rule = rule
        self._report = report
        self._siblings = Siblings()

    @override
    def list_parts(self) -> list[str]:
        return [f"{partition:05d}" for partition in range(self._log.partitions)]

    @override
    def build_part(
        self, step_id: str, for_part: str, resume_state: PartitionState | None
    ) -> LogPartition:
        # Lists of thousands of messages wake the cyclic collector for nothing.
        gc.collect()
        gc.freeze()
        gc.set_threshold(100_000, 50, 100)
        return LogPartition(
            self._log,
            self._codec,
            self._rule,
            int(for_part),
            resume_state,
            report=self._report,
            siblings=self._siblings,
        )
