"""A flow that keeps no window, only its last tick: restarts change nothing of what it emits.

One process life after the other reads one to three partitions, with idle decisions, rejected
and delayed records, in batches of any size, and is killed at any moment, also while it reads
again what the one before had read. Held against a reference that sees the whole log at once.
"""

import random
from dataclasses import dataclass, field
from unittest import mock

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.stream import NEVER, Events
from schemas.trades import TradeCodec
from sources import timeline
from sources.log_partition import LogPartition, SourceRule
from sources.siblings import Siblings
from sources.timeline import ReplayState
from tests.list_log import NOW_MS, Clock, ListLog, trade

TICK_MS = 5_000  # also the length of a pane
LATENESS_MS = 12_000
BEGIN_MS = NOW_MS // TICK_MS * TICK_MS - 50 * TICK_MS

Record = tuple[int, int, int, int]
"""Effective tick, pane, partition, offset."""
Decisions = list[tuple[int, int]]
"""Offset and event time of each idle decision."""


@dataclass
class Partition:
    """What a partition holds, and the one that reads it."""

    log: ListLog = field(default_factory=ListLog)
    times: dict[int, int | None] = field(default_factory=dict)
    """Event time by offset; None for a record to reject."""

    def append(self, rng: random.Random, now_ms: int) -> None:
        offset = self.log.end(0) + rng.choice([0, 0, 0, 2])
        time = now_ms - rng.choice([0, 0, 300, 4_000, 11_900, 12_100, 30_000, 120_000])
        kind = rng.choice(["good"] * 6 + ["undecodable", "ahead"])
        self.times[offset] = time if kind == "good" else None
        value = b"\xff" if kind == "undecodable" else trade(time + 10**9 * (kind == "ahead"))
        self.log.append(value, now_ms, offset)
        self.log.markers = rng.choice([0, 0, 1])

    def arrival_ms(self, decisions: Decisions) -> dict[int, int]:
        """The reference: the arrival watermark of each good record, and at the end."""
        marks = {}
        for offset in [*self.times, self.log.end(0)]:
            seen = [t for o, t in self.times.items() if o < offset and t is not None]
            seen += [time for o, time in decisions if o <= offset]
            marks[offset] = max(NEVER, max(seen, default=NEVER) - LATENESS_MS)
        return marks


def effective(time_ms: int, arrival_ms: int, partition: int, offset: int) -> Record:
    pane = time_ms // TICK_MS * TICK_MS
    tick = pane + TICK_MS
    if tick <= arrival_ms:
        tick = arrival_ms // TICK_MS * TICK_MS + TICK_MS
    return tick, pane, partition, offset


def row(records: list[Record], tick: int, window_ms: int) -> list[Record]:
    return sorted(r for r in records if r[0] <= tick and tick - window_ms <= r[1] < tick)


@dataclass
class Windows:
    """Downstream: the naive consumer, and the lane's position it would store."""

    window_ms: int
    sink: dict[int, list[Record]]
    watermarks_ms: list[int]
    tick: int = NEVER
    records: list[Record] = field(default_factory=list)

    def take(self, events: Events) -> None:
        p = events.partition
        rows = zip(events.event_time_ms, events.watermark_ms, events.offsets, strict=True)
        for time, arrival, offset in rows:
            self.records.append(effective(int(time), int(arrival), p, int(offset)))
        self.watermarks_ms[p] = events.watermark_after_ms
        for tick in range(max(self.tick, BEGIN_MS) + TICK_MS, min(self.watermarks_ms) + 1, TICK_MS):
            self.tick = tick
            now = row(self.records, tick, self.window_ms)
            assert self.sink.setdefault(tick, now) == now, "emitted before, and now another"


class Flow:
    """The lives of one flow."""

    def __init__(self, rng: random.Random, partitions: int, window_ms: int) -> None:
        self.rng, self.window_ms = rng, window_ms
        self.rule = SourceRule("test", lateness_ms=LATENESS_MS, replay_ms=window_ms)
        self.clock = Clock()
        self.partitions = [Partition() for _ in range(partitions)]
        self.sink: dict[int, list[Record]] = {}
        self.stored: tuple[list[ReplayState | None], int] = ([None] * partitions, NEVER)
        self.stored_decisions: list[Decisions] = [[] for _ in range(partitions)]
        self.start()

    def start(self) -> None:
        states, tick = self.stored
        n = len(states)
        self.decisions = [list(known) for known in self.stored_decisions]
        self.queues: list[list[Events]] = [[] for _ in states]
        self.windows = Windows(self.window_ms, self.sink, [NEVER] * n, tick)
        self.told = NEVER
        for partition, state in zip(self.partitions, states, strict=True):
            partition.log.committed[:] = [state.reached] if state else []
        shared = Siblings() if self.rng.random() < 0.5 else None  # else each in its process
        self.sources = [
            LogPartition(
                partition.log,
                TradeCodec(),
                self.rule,
                p,
                state,
                self.clock,
                siblings=shared,
                emitted=(lambda: self.told) if n > 1 else None,
            )
            for p, (partition, state) in enumerate(zip(self.partitions, states, strict=True))
        ]
        self.reached = [state.reached if state else 0 for state in states]
        begins = [state.start.offset if state else 0 for state in states]
        self.due = [  # what must come from each, in this order
            [offset for offset in partition.times if offset >= begin]
            for partition, begin in zip(self.partitions, begins, strict=True)
        ]

    def append(self) -> None:
        now_ms = round(self.clock.now_s * 1_000)
        p = self.rng.randrange(len(self.partitions))
        for _ in range(self.rng.choice([1, 2, 8])):
            self.partitions[p].append(self.rng, now_ms)
            self.due[p].append(self.partitions[p].log.offsets[-1])

    def read(self, p: int) -> list[Events]:
        source, partition = self.sources[p], self.partitions[p]
        partition.log.batch = self.rng.choice([1, 2, 3, 9])
        batches = source.next_batch()
        marks = partition.arrival_ms(self.decisions[p])
        for events in batches:
            for offset, time, arrival in zip(
                events.offsets.tolist(),
                events.event_time_ms.tolist(),
                events.watermark_ms.tolist(),
                strict=True,
            ):
                assert (time, arrival) == (partition.times[offset], marks[offset])
            rejected = events.rejected_offsets
            bad = [] if rejected is None else rejected.tolist()
            assert all(partition.times[offset] is None for offset in bad)
            came = sorted([*events.offsets.tolist(), *bad])
            assert came == self.due[p][: len(came)], "each record once, in the log's order"
            assert {offset < self.reached[p] for offset in came} <= {events.replayed}
            del self.due[p][: len(came)]
        self.queues[p] += batches
        return batches

    def deliver(self, p: int) -> None:
        if self.queues[p]:
            self.windows.take(self.queues[p].pop(0))
        if self.rng.random() < 0.5:
            self.told = self.windows.tick

    def epoch(self) -> None:
        """Everyone's snapshot, each at its moment; nothing of the next epoch before all have
        theirs, as Bytewax has it. The flow may be killed before it is complete."""
        order = list(range(len(self.sources)))
        self.rng.shuffle(order)
        states: list[ReplayState | None] = [None] * len(order)
        while order:
            p = order.pop()
            states[p] = self.snapshot(p)
            for other in order:
                if self.rng.random() < 0.5:
                    self.read(other)
            self.deliver(self.rng.randrange(len(states)))
        if self.rng.random() < 0.1:
            self.start()
            return
        for queue in self.queues:
            for events in queue:
                self.windows.take(events)
            queue.clear()
        self.stored = (states, self.windows.tick)
        self.stored_decisions = [list(known) for known in self.decisions]
        self.check_coverage(states)

    def snapshot(self, p: int) -> ReplayState:
        self.clock.now_s += 0.001  # each decision has a time of its own
        source, committed = self.sources[p], self.partitions[p].log.committed
        replaying = source._timeline.is_replaying
        state = source.snapshot()
        assert isinstance(state, ReplayState)
        assert sorted(committed) == committed, "lag tools see no step back"
        now_ms = int(self.clock.now_s * 1_000)
        if state.decisions and state.decisions[-1].newest_ms == now_ms:
            assert not replaying
            self.decisions[p].append((state.reached, now_ms))
        assert len({d.offset for d in state.decisions}) == len(state.decisions)
        return state

    def check_coverage(self, states: list[ReplayState | None]) -> None:
        before_ms = self.windows.tick + TICK_MS - self.window_ms
        for state, partition in zip(states, self.partitions, strict=True):
            assert state is not None
            for offset, time in partition.times.items():
                assert time is None or offset >= state.start.offset or time < before_ms

    def run(self, steps: int) -> None:
        for _ in range(steps):
            act = self.rng.choice(["append", "wait", "epoch", "crash", *["read"] * 8])
            if act == "append":
                self.append()
            elif act == "wait":
                self.clock.now_s += self.rng.choice([0.2, 3, 11, 25])
            elif act == "epoch":
                self.epoch()
            elif act == "crash" and self.rng.random() < 0.5:
                self.start()
            else:
                p = self.rng.randrange(len(self.sources))
                self.read(p)
                self.deliver(self.rng.randrange(len(self.sources)))

    def finish(self) -> None:
        """Read to the end of the log."""
        while any(self.due):
            for p in range(len(self.sources)):
                self.read(p)
        for p in range(len(self.sources)):
            for _ in range(3):
                self.read(p)  # a decision may be left
            while self.queues[p]:
                self.deliver(p)

    def expected(self) -> dict[int, list[Record]]:
        """What a flow that was never restarted emits."""
        records, lowest_ms = [], []
        for p, partition in enumerate(self.partitions):
            marks = partition.arrival_ms(self.decisions[p])
            lowest_ms.append(marks[partition.log.end(0)])
            records += [
                effective(time, marks[offset], p, offset)
                for offset, time in partition.times.items()
                if time is not None
            ]
        ticks = range(BEGIN_MS + TICK_MS, min(lowest_ms) + 1, TICK_MS)
        return {tick: row(records, tick, self.window_ms) for tick in ticks}


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    rng=st.randoms(use_true_random=False),
    partitions=st.integers(1, 3),
    window_ms=st.sampled_from([TICK_MS, 4 * TICK_MS, 20 * TICK_MS]),
    steps=st.sampled_from([2, 1_000]),
    checkpoints=st.sampled_from([2, 5, 4_096]),
)
def test_a_window_rebuilt_by_reading_again_is_the_one_never_restarted(
    rng: random.Random, partitions: int, window_ms: int, steps: int, checkpoints: int
) -> None:
    with mock.patch.multiple(timeline, _STEPS=steps, _CHECKPOINTS=checkpoints):
        flow = Flow(rng, partitions, window_ms)
        flow.run(120)
        flow.finish()
    assert flow.sink == flow.expected()
