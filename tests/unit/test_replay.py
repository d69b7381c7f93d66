"""Reading a span of the log again after a restart: what a snapshot holds, and its bounds."""

import pickle
from dataclasses import replace

import numpy as np
import pytest

from schemas.errors import FlowError
from schemas.stream import NEVER, Output
from schemas.tables import LATE_SCHEMA
from schemas.trades import TradeCodec
from sources import timeline
from sources.emitted import Emitted
from sources.partitioned import LogPartition, LogSource, PartitionState, ReplayState, SourceRule
from sources.timeline import Checkpoint, IdleDecision, SourceState, Timeline
from tests.list_log import NOW_MS, Clock, ListLog, trade

_NONE = SourceRule("test", lateness_ms=2_000, idle_timeout_s=10)
_RULE = replace(_NONE, replay_ms=60_000)
_NOTHING = ReplayState(Checkpoint(0, NEVER, NEVER), (), 0, NEVER)


def partition_of(
    log: ListLog,
    rule: SourceRule = _RULE,
    state: SourceState | None = None,
    clock: Clock | None = None,
) -> LogPartition:
    return LogPartition(log, TradeCodec(), rule, 0, state, clock or Clock())


def steady(seconds: int) -> ListLog:
    """One record a second up to now, in batches of ten."""
    log = ListLog(batch=10)
    for second in range(seconds):
        log.append(trade(NOW_MS - 1_000 * (seconds - 1 - second)), NOW_MS)
    return log


def read(source: LogPartition) -> list[tuple[int, int]]:
    """Offset and arrival watermark of all that is there."""
    rows: list[tuple[int, int]] = []
    while True:
        events = source.next_batch()
        if not events:
            return rows
        rows += zip(events[0].offsets.tolist(), events[0].watermark_ms.tolist(), strict=True)


def replayed(source: LogPartition) -> ReplayState:
    state = source.snapshot()
    assert isinstance(state, ReplayState)
    return state


# Back to where the newest event is before the span.


def test_a_snapshot_points_back_by_the_span_and_at_most_a_batch_more() -> None:
    log = steady(200)
    source = partition_of(log)
    rows = read(source)
    state = replayed(source)
    emitted_ms = NOW_MS - 2_000  # the watermark
    # Offset 137 is the last second before emitted - 60 s; batches of ten begin at 130.
    before = NOW_MS - 1_000 * (199 - 129)
    assert state == ReplayState(Checkpoint(130, before, before), (), 200, emitted_ms)
    restored = partition_of(log, _RULE, state)
    assert restored._timeline.is_replaying
    assert read(restored) == rows[130:]
    assert not restored._timeline.is_replaying
    assert replayed(restored) == state, "the checkpoints were made anew"


def test_the_newest_event_counts_and_not_the_watermark() -> None:
    log = ListLog(batch=1)
    for age_s in (65, 63, 61, 64, 30, 5, 0):
        log.append(trade(NOW_MS - age_s * 1_000), NOW_MS)
    source = partition_of(log)
    read(source)
    # The span begins 62 s ago. Before offset 2 the newest event is 63 s old, and the record
    # of 61 s is in the span although the watermark says 63 s after it.
    assert replayed(source).start == Checkpoint(2, NOW_MS - 63_000, NOW_MS - 63_000)


def test_the_flow_decides_how_far_back_and_never_takes_it_back() -> None:
    log, emitted = steady(200), [NEVER]
    source = LogPartition(log, TradeCodec(), _RULE, 0, None, Clock(), emitted=lambda: emitted[0])
    read(source)
    assert replayed(source) == ReplayState(Checkpoint(0, NEVER, NEVER), (), 200, NEVER)
    emitted[0] = NOW_MS - 100_000  # a slower partition holds it up
    state = replayed(source)
    assert (state.start.offset, state.emitted_ms) == (30, NOW_MS - 100_000)
    emitted[0] = NEVER  # as after a restart
    restored = LogPartition(log, TradeCodec(), _RULE, 0, state, Clock(), emitted=lambda: emitted[0])
    assert replayed(restored) == state
    restored.next_batch()
    assert replayed(restored) == state, "in the middle of reading again"
    emitted[0] = NOW_MS + 10**9
    read(restored)
    assert replayed(restored).emitted_ms == restored.watermark_ms


def test_what_a_finite_run_flushes_does_not_count() -> None:
    """Each shard then goes on to its own last tick, beyond what others have emitted."""
    log, emitted = steady(200), [NOW_MS - 100_000]
    rule = replace(_RULE, stop_at_end=True)
    source = LogPartition(log, TradeCodec(), rule, 0, None, Clock(), emitted=lambda: emitted[0])
    while not source._ended:
        source.next_batch()
    emitted[0] = NOW_MS - 2_000
    state = replayed(source)
    assert (state.start.offset, state.emitted_ms) == (30, NOW_MS - 100_000)


def test_a_source_of_several_partitions_must_hear_from_its_flow() -> None:
    log = steady(1)
    log.partitions = 2
    with pytest.raises(ValueError, match="slowest"):
        LogSource(log, TradeCodec(), _RULE)
    assert LogSource(log, TradeCodec(), _RULE, emitted=Emitted()).list_parts()
    assert LogSource(log, TradeCodec(), _NONE).list_parts()


def test_results_tell_how_far_the_flow_has_emitted() -> None:
    emitted = Emitted()
    rows = LATE_SCHEMA.empty_table().to_batches() or [None]
    told = [("results", 5_000), ("late", 10**9), ("results", 4_000)]
    for kind, position in told:
        none = np.empty(0, np.int64)
        emitted.hear("step", ("lane", Output(kind, 0, none, position, rows[0])))
    assert emitted() == 5_000


def test_without_a_span_the_snapshot_is_the_place_reached() -> None:
    log = steady(20)
    source = partition_of(log, _NONE)
    read(source)
    assert source.snapshot() == PartitionState(20, NOW_MS, None)
    assert not source._timeline._decisions
    assert len(source._timeline._checkpoints) == 1


# Idle decisions on the way.


def idle_log() -> tuple[ListLog, Clock, LogPartition, list[tuple[int, int]]]:
    """Two records, a decision, two records, two decisions, two records."""
    log, clock = ListLog(), Clock()
    source = partition_of(log, _RULE, None, clock)
    rows = []
    for waits in (1, 2, 0):
        for _ in range(2):
            log.append(trade(round(clock.now_s * 1_000) - 500), round(clock.now_s * 1_000))
        rows += read(source)
        for _ in range(waits):
            clock.now_s += 10
            source.snapshot()
            read(source)
    return log, clock, source, rows


def test_decisions_take_effect_where_they_did_even_within_a_batch() -> None:
    log, clock, source, rows = idle_log()
    state = replayed(source)
    first, last = NOW_MS + 10_000, NOW_MS + 30_000  # the two at one offset became one
    assert state.decisions == (IdleDecision(2, first), IdleDecision(4, last))
    assert [arrival for _, arrival in rows] == [
        NEVER,
        NOW_MS - 2_500,
        first - 2_000,
        first - 2_000,
        last - 2_000,
        last - 2_000,
    ]
    for log.batch in (1, 2, 3, 4, 10):
        assert read(partition_of(log, _RULE, state, clock)) == rows


def test_a_checkpoint_holds_what_was_decided_before_it() -> None:
    log, clock = ListLog(batch=1), Clock()
    source = partition_of(log, _RULE, None, clock)
    log.append(trade(NOW_MS - 85_000), NOW_MS)
    read(source)
    clock.now_s += 10
    source.snapshot()
    for seconds in (-50, -40, 30):
        log.append(trade(NOW_MS + seconds * 1_000), NOW_MS)
    read(source)
    state = replayed(source)
    assert state.start == Checkpoint(3, NOW_MS + 10_000, NOW_MS - 40_000)
    assert state.decisions == ()
    assert read(partition_of(log, _RULE, state, clock)) == [(3, NOW_MS + 8_000)]


def test_no_decision_is_taken_anew_and_none_is_forgotten_during_a_replay() -> None:
    log, clock, source, _ = idle_log()
    state = replayed(source)
    log.batch = 1
    for offsets in range(6):
        restored = partition_of(log, _RULE, state, clock)
        for _ in range(offsets):
            restored.next_batch()
        clock.now_s += 1_000
        assert replayed(restored) == state
        assert log.committed[-1] == 6


def test_a_pending_decision_waits_until_its_offset_is_reached_again() -> None:
    log, clock, source, rows = idle_log()
    clock.now_s += 10
    state = replayed(source)
    pending = IdleDecision(6, NOW_MS + 40_000)
    assert state.decisions[-1] == pending
    restored = partition_of(log, _RULE, state, clock)
    assert restored.snapshot() == state
    assert read(restored) == rows
    assert restored.watermark_ms == pending.newest_ms - 2_000
    clock.now_s += 1_000
    assert replayed(restored).decisions[-1] == pending, "long silent: a paused backfill"


def test_a_silent_partition_comes_to_point_at_the_end_of_its_log() -> None:
    log, clock = steady(100), Clock()
    source = partition_of(log, _RULE, None, clock)
    read(source)
    for _ in range(20):
        clock.now_s += 10
        source.snapshot()
        read(source)
    state = replayed(source)
    assert state.start == Checkpoint(100, NOW_MS + 200_000, NOW_MS)
    assert {decision.offset for decision in state.decisions} == {100}, "only the next one"
    restored = partition_of(log, _RULE, state, clock)
    assert not restored._timeline.is_replaying
    assert restored.watermark_ms == source.watermark_ms


def test_very_many_decisions_make_a_partition_wait_longer() -> None:
    many = tuple(IdleDecision(offset, NOW_MS) for offset in range(2_000))
    for known, factor in ((0, 1), (999, 1), (1_000, 2), (2_000, 4)):
        start = ReplayState(Checkpoint(0, NEVER, NEVER), many[:known], 0, NEVER)
        assert Timeline(start, 0, 60_000).patience == factor
    state = ReplayState(Checkpoint(0, NEVER, NEVER), many[:1_000], 1_000, NEVER)
    clock = Clock()
    log = ListLog(markers=1_000)
    source = LogPartition(log, TradeCodec(), _RULE, 0, state, clock, emitted=lambda: NEVER)
    for _ in range(3):
        read(source)
    clock.now_s += 15
    assert len(replayed(source).decisions) == 1_000
    clock.now_s += 5
    assert len(replayed(source).decisions) == 1_001


# Bounds.


@pytest.mark.parametrize("is_stuck", [False, True])
def test_memory_and_snapshot_do_not_grow_with_the_log(*, is_stuck: bool) -> None:
    day_ms = 86_400_000
    line = Timeline(_NOTHING, 2_000, day_ms)
    sizes = set()
    for i in range(50_000):  # two weeks, a batch every 25 s
        now_ms = NOW_MS + i * 25_000
        line.pass_records(i * 2 + 2, np.array([2 * i, 2 * i + 1]), np.array([now_ms, now_ms - 50]))
        if i % 10 == 0:
            state = line.snapshot(NOW_MS if is_stuck else now_ms)
            sizes.add(len(pickle.dumps(state)))
            if i > 10_000 and not is_stuck:
                assert isinstance(state, ReplayState)
                back_ms = line.newest_ms - state.start.event_ms
                assert day_ms < back_ms < day_ms * 1.01
                assert len(line._checkpoints) < 1_100
    assert len(line._checkpoints) <= timeline._CHECKPOINTS
    assert max(sizes) < 300


# Between settings, and at the end of the log.


@pytest.mark.parametrize(
    ("state", "replay_ms"),
    [
        (PartitionState(10, NOW_MS, None), 60_000),
        (PartitionState(10, NEVER, NOW_MS), 0),  # serves as the control: no span, no question
        (ReplayState(Checkpoint(3, NOW_MS, NOW_MS), (), 9, NOW_MS + 60_001), 60_001),
        (ReplayState(Checkpoint(0, NEVER, NEVER), (), 9, NOW_MS), 0),
        (ReplayState(Checkpoint(3, NOW_MS, NOW_MS), (), 9, NEVER), 1),
    ],
)
def test_a_state_that_does_not_reach_back_is_refused(state: SourceState, replay_ms: int) -> None:
    rule = replace(_NONE, replay_ms=replay_ms)
    if isinstance(state, PartitionState) and replay_ms == 0:
        assert partition_of(steady(20), rule, state)
        return
    with pytest.raises(FlowError, match=r"partition 0 of trades .* another span.*FLOW_VERSION"):
        partition_of(steady(20), rule, state)


def test_a_state_that_reaches_back_far_enough_serves_another_span() -> None:
    log = steady(200)
    source = partition_of(log)
    rows = read(source)
    state = replayed(source)
    for replay_ms in (1_000, 30_000, 60_000, 67_999):  # a batch more than asked for was kept
        restored = partition_of(log, replace(_RULE, replay_ms=replay_ms), state)
        assert read(restored) == rows[130:]
    with pytest.raises(FlowError):
        partition_of(log, replace(_RULE, replay_ms=68_000), state)
    nothing_read = PartitionState(0, NEVER, None)
    assert read(partition_of(log, _RULE, nothing_read)) == rows
    begun = replayed(LogPartition(log, TradeCodec(), _RULE, 0, None, Clock()))
    assert read(partition_of(log, replace(_RULE, replay_ms=10**9), begun)) == rows


class Truncated(ListLog):
    def open(self, partition: int, offset: int | None) -> "object":  # type: ignore[override]
        if offset is not None and offset > self.end(0):
            raise FlowError(f"Offset {offset} is no longer there", "Restore it.")
        return super().open(partition, offset)


def test_a_log_made_anew_is_refused_although_it_holds_the_start() -> None:
    state = ReplayState(Checkpoint(3, NOW_MS, NOW_MS), (), 9, NOW_MS + 70_000)
    log = Truncated()
    for _ in range(8):
        log.append(trade(NOW_MS), NOW_MS)
    with pytest.raises(FlowError, match="Offset 9"):
        partition_of(log, _RULE, state)


def test_a_finite_run_ends_at_the_end_of_the_log_after_what_it_read_again() -> None:
    log, clock, source, rows = idle_log()
    clock.now_s += 10
    state = replayed(source)
    log.append(trade(NOW_MS + 29_000), NOW_MS + 29_000)
    reports: list[tuple[int, ...]] = []
    restored = LogPartition(
        log,
        TradeCodec(),
        replace(_RULE, stop_at_end=True),
        0,
        state,
        clock,
        report=lambda *report: reports.append(report),
    )
    again = []
    while not reports or reports[-1][2] < 7:
        for events in restored.next_batch():
            again += zip(events.offsets.tolist(), events.watermark_ms.tolist(), strict=True)
    assert again == [*rows, (6, NOW_MS + 38_000)]
    (end,) = restored.next_batch()
    assert end.ended
    assert end.watermark_after_ms == NOW_MS + 38_000
    assert reports[-1] == (0, 0, 7, 7, 0)
    assert replayed(restored).reached == 7


def test_records_that_are_gone_from_the_end_of_the_log_hold_nothing_up() -> None:
    log, clock, source, _ = idle_log()
    clock.now_s += 10
    state = replayed(source)
    del log.values[4:], log.offsets[4:], log.stamps[4:]  # as compaction may do
    log.markers = 2
    restored = partition_of(log, _RULE, state, clock)
    read(restored)
    assert not restored._timeline.is_replaying
    read(restored)
    assert restored.watermark_ms == NOW_MS + 38_000, "the pending decision has taken effect"
