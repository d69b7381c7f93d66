"""One partition of a source: columns out of bytes, with watermark, rejects and snapshots.

A partition's watermark is the newest event time seen less the lateness; every record
carries the watermark just before it (its arrival watermark).

Contract. What a partition emits, cut as it may be into batches, is a function of its log
and of its idle decisions. An idle decision is the one thing that comes from the clock: it
is taken inside `snapshot()` and acted on only in a later `next_batch`, when Bytewax has
made the snapshot durable; after a crash it is replayed from there, not taken again.

A restart goes on from the place reached, or with `SourceRule.replay_ms` reads that span of
event time again; what is told of it and repeated is the contract of `sources.timeline`.

Cost: one decode of the batch in compiled code and a handful of NumPy passes; no Python
object per record beyond what the client library makes.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
from bytewax.inputs import StatefulSourcePartition
from typing_extensions import override

from schemas import failpoints, tracing
from schemas.origin import Origin
from schemas.stream import NEVER, Codec, Decoded, Events, Fetched, KeyedCodec
from sources import metrics, stopping
from sources.log import Fetcher, Log
from sources.rejects import Rejects
from sources.siblings import Siblings
from sources.spans import with_span
from sources.timeline import Checkpoint, ReplayState, SourceState, Timeline, resume

__all__ = ["LogPartition", "SourceRule"]

_LEAST_BATCH = 500
_LARGEST_BATCH = 10_000
_SLOW_S = 0.05  # a round trip longer than this halves the batch
_POLL_AGAIN_S = 0.004
_POLL_QUIET_S = 0.012
_QUIET_S = 1.0
_LIVE_S = 60.0


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
        replay_ms: span of event time before the last emitted tick that a restart reads
            again, for a flow that keeps no copy of it; 0 to go on from the place reached.
            The log must hold its records for longer than that.
    """

    flow: str
    lateness_ms: int = 2_000
    ahead_ms: int = 600_000
    idle_timeout_s: float = 10.0
    stop_at_end: bool = False
    replay_ms: int = 0


class LogPartition(StatefulSourcePartition[Events, SourceState]):
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
        emitted: a tick that the flow has emitted, see `sources.emitted`; None when this
            partition is the only one, so that its own watermark says it.

    Raises:
        FlowError: The log does not hold what the state needs, or the state was stored with
            another `replay_ms` and does not reach back far enough.
    """

    def __init__(
        self,
        log: Log,
        codec: Codec | KeyedCodec,
        rule: SourceRule,
        partition: int,
        state: SourceState | None,
        clock: Callable[[], float] = time.time,
        report: Callable[[int, int, int, int, int], None] | None = None,
        siblings: Siblings | None = None,
        emitted: Callable[[], int] | None = None,
    ) -> None:
        self._codec = codec
        self._rule = rule
        self._topic = log.topic
        self._partition = partition
        self._clock = clock
        self._report = report
        self._emitted = emitted
        self._rejects = Rejects(rule.flow, log.topic, partition, codec.reasons, rule.ahead_ms)
        self._fetcher, begin = _open(log, partition, state, rule.replay_ms)
        self._timeline = Timeline(begin, rule.lateness_ms, rule.replay_ms)
        self._siblings = siblings or Siblings()
        self._see(has_more=False)
        self._start = self._timeline.offset
        self._end = log.end(partition) if rule.stop_at_end else -1
        self._ended = False
        self._emitted_ms = NEVER  # heard when the partition ended
        self._at_end_since: float | None = None
        self._limit = _LEAST_BATCH
        self._polled_at = 0.0
        self._awake: datetime | None = None
        self._read = metrics.READ.labels(rule.flow, str(partition))
        metrics.watch(self, rule.flow, str(partition), LogPartition._standing)

    @property
    def watermark_ms(self) -> int:
        """No event before this one will be on time; `NEVER` before the first record."""
        return self._timeline.watermark_ms

    @override
    def next_batch(self) -> list[Events]:
        if self._ended or stopping.requested():
            raise StopIteration
        replayed = self._timeline.is_replaying
        if self._timeline.take_effect():
            self._see(has_more=False)
            return [self._nothing(replayed=replayed)]
        if self._siblings.is_far_ahead(self._timeline.newest_ms):
            self._polled_at = 0.0
            self._awake = _next_beat(_POLL_AGAIN_S)
            return []
        fetched = self._poll()
        if fetched is None:
            self._see(has_more=False)
            return self._on_empty()
        self._at_end_since = None
        events = [self._events(part) for part in self._parts(fetched)]
        self._see(has_more=True)
        if self._report and self._rule.stop_at_end:
            offset, read = self._timeline.offset, len(fetched.offsets)
            self._report(self._partition, self._start, offset, self._end, read)
        return events

    def _parts(self, fetched: Fetched) -> list[Fetched]:
        """What was processed before a restart, and what was not."""
        if not self._timeline.is_replaying:
            return [fetched]
        at = int(np.searchsorted(fetched.offsets, self._timeline.reached))
        return [part for part in (fetched[:at], fetched[at:]) if len(part.offsets)]

    def _see(self, *, has_more: bool) -> None:
        self._siblings.see(self._partition, self._timeline.newest_ms, has_more=has_more)

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
        self._awake = None if full else _next_beat(_POLL_AGAIN_S)
        if self._rule.stop_at_end and fetched.offsets[-1] >= self._end:
            n = int(np.searchsorted(fetched.offsets, self._end))
            if n == 0:
                return None
            fetched = fetched[:n]
        return fetched

    def _on_empty(self) -> list[Events]:
        if self._fetcher.at_end:
            self._timeline.pass_hole(self._fetcher.position)
        if self._rule.stop_at_end and self._fetcher.position >= self._end:
            self._emitted_ms = self._hear()
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
        self._awake = _next_beat(_POLL_QUIET_S if quiet else _POLL_AGAIN_S)
        return []

    def _nothing(self, *, ended: bool = False, replayed: bool = False) -> Events:
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
            replayed=replayed,
            origin=Origin(self._clock()),
        )

    def _events(self, fetched: Fetched) -> Events:
        origin = Origin(self._clock(), int(fetched.timestamps_ms.max()))
        span = tracing.batch(origin.read_s)
        first, last = int(fetched.offsets[0]), int(fetched.offsets[-1])
        decoded = _decode(self._codec, fetched)
        replayed = self._timeline.is_replaying
        read = len(fetched.offsets)
        self._read.inc(read)
        fetched, decoded, rejected, rejected_offsets = self._rejects.part(fetched, decoded)
        watermarks = self._timeline.pass_records(last + 1, fetched.offsets, decoded.event_time_ms)
        origin = with_span(
            origin,
            span,
            self._rule.flow,
            self._topic,
            first=first,
            last=last,
            records=read,
            rejected=0 if rejected is None else rejected.num_rows,
            partition=self._partition,
            watermark_ms=self.watermark_ms,
        )
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
            replayed=replayed,
            origin=origin,
        )

    @override
    def next_awake(self) -> datetime | None:
        return self._awake

    @override
    def snapshot(self) -> SourceState:
        failpoints.reached("source.before_snapshot")
        timeline = self._timeline
        if timeline.may_decide and self._is_idle():
            timeline.decide(int(self._clock() * 1000))
        self._fetcher.commit(timeline.reached)
        failpoints.reached("source.after_snapshot")
        # Once all have ended, each shard goes on to its own last tick: others are not there.
        return timeline.snapshot(self._emitted_ms if self._ended else self._hear())

    def _hear(self) -> int:
        return self._emitted() if self._emitted else self._timeline.watermark_ms

    def _is_idle(self) -> bool:
        """Whether the partition has waited long enough at the end of a live log.

        A log whose last event is old is a paused backfill and waits; a partition that never
        had a record has nothing to wait for, and neither has one that is silent while the
        others of its log are live.
        """
        if self._rule.stop_at_end or stopping.requested() or not self._is_silent():
            return False
        now = self._clock()
        live_s = max(_LIVE_S, 10 * self._rule.idle_timeout_s)
        newest_ms = self._siblings.newest_ms
        is_new = self._timeline.newest_ms == NEVER
        return is_new or now * 1000 - newest_ms < live_s * 1000

    def _is_silent(self) -> bool:
        """Whether nothing has come for the idle timeout, at the end of the log."""
        since_s = self._at_end_since
        timeout_s = self._rule.idle_timeout_s * self._timeline.patience
        return since_s is not None and self._clock() - since_s >= timeout_s

    def _standing(self) -> metrics.Standing:
        now = metrics.standing_of(self._fetcher, self.watermark_ms)
        return now._replace(is_idle=self._is_silent())

    @override
    def close(self) -> None:
        metrics.forget(self)
        self._see(has_more=False)
        self._fetcher.close()


def _decode(codec: Codec | KeyedCodec, fetched: Fetched) -> Decoded:
    if not isinstance(codec, KeyedCodec):
        return codec.decode(fetched.values)
    assert fetched.keys is not None  # noqa: S101  # a flow opens its log with what it needs
    return codec.decode_keyed(fetched.keys, fetched.values)


def _next_beat(span_s: float) -> datetime:
    """The next multiple of a span of wall time: all partitions are polled in one go.

    A shard then takes in what all of them bring at once, where it would else be called, and
    show previews, for each apart.
    """
    return datetime.fromtimestamp((time.time() // span_s + 1) * span_s, UTC)


def _open(
    log: Log, partition: int, state: SourceState | None, replay_ms: int
) -> tuple[Fetcher, ReplayState]:
    """A fetcher at the place to read from, and the state there."""
    if state is None:
        fetcher = log.open(partition, None)
        start = Checkpoint(fetcher.position, NEVER, NEVER)
        return fetcher, ReplayState(start, (), start.offset, NEVER)
    begin = resume(state, replay_ms, f"partition {partition} of {log.topic}")
    if begin.reached > begin.start.offset:
        # A log made anew may hold the start and not, yet, the place reached.
        log.open(partition, begin.reached).close()
    return log.open(partition, begin.start.offset), begin
