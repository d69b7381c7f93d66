"""Rolling statistics equal the oracle, however the log is cut, interleaved or read again."""

import pickle
import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.candle import CANDLE
from operators.combine import Combine, CombineRule
from operators.rolling import RollingRule, RollingShard, RollingState
from schemas.stream import NEVER, Output
from tests import rolling_oracle, strategies
from tests.oracle import T
from tests.rolling_oracle import R, Rolling
from tests.runs import Run, batch, trade_columns, watermark_ms


def records(log: list[T]) -> list[R]:
    return [R(t.time, t.key, (t,)) for t in log]


def record_columns(part: list[R]) -> dict[str, np.ndarray]:
    return trade_columns([r.trades[0] for r in part])


class RollingRun(Run):
    """With a sink, and crashes.

    A crash goes back to a snapshot of any earlier moment. The source reads again from a point
    of each partition before which all lies before the window of the least watermark; the sink
    drops what lies at or below its position.
    """

    aggregate = CANDLE
    columns = staticmethod(record_columns)

    def __init__(
        self, logs: list[list[R]], rule: Rolling, seed: int, *, crashes: bool = True
    ) -> None:
        super().__init__(logs, rule, seed, restore=False)
        self.crashes = crashes
        self.position = NEVER
        self.at = [0] * len(logs)
        self.sizes = self.random.choice([[1], [0, 1, 2, 5], [0, 1, 1, 5, 1000]])

    def new_step(self) -> Combine:
        rule = CombineRule("s", "t", 1, self.rule.pane, self.rule.horizon)
        return Combine(self.aggregate, rule)

    def new_shard(self, state: RollingState | None) -> RollingShard:
        rule = self.rule
        window = RollingRule(rule.window, rule.pane, rule.tick, rule.quiet, rule.candles)
        return RollingShard(window, len(self.logs), state)

    def resume(self, state: RollingState, at: list[int]) -> None:
        self.step, self.shard = self.new_step(), self.new_shard(state)
        self.at = at
        self.emitted = state.emitted_ms

    @property
    def late(self) -> int:
        return len(set(self.late_places))  # some are read again

    def watermarks(self) -> list[int]:
        read = zip(self.logs, self.at, strict=True)
        return [watermark_ms(log[:n], self.rule) for log, n in read]

    def replay_from(self, watermark: int) -> list[int]:
        """Offsets before which all lies before the window; the latest ones, or earlier."""
        first = watermark // self.rule.tick * self.rule.tick - self.rule.window
        out = []
        for log in self.logs:
            inside = [i for i, r in enumerate(log) if r.time >= first]
            latest = inside[0] if inside else len(log)
            out.append(latest if self.random.random() < 0.7 else self.random.randint(0, latest))
        return out

    def publish(self, output: Output) -> None:
        new = output.after(self.position)
        if new is not None:
            self.position = new.position
            super().publish(new)

    def all(self, ends: list[int] | None = None) -> list[dict]:
        """Read every partition to its end, or to `ends`."""
        ends = ends or [len(log) for log in self.logs]
        stored = (self.shard.snapshot(), self.watermarks(), list(self.at))
        crashes = self.random.randint(1, 4) if self.crashes else 0
        while True:
            open_ = [p for p, end in enumerate(ends) if self.at[p] < end]
            if not open_:
                return self.rows
            if crashes and self.random.random() < 0.1:
                crashes -= 1
                state, marks, at = stored
                back = self.replay_from(min(marks))
                self.resume(
                    pickle.loads(pickle.dumps(state)),
                    [min(a, b) for a, b in zip(at, back, strict=True)],
                )
                continue
            partition = self.random.choice(open_)
            first = self.at[partition]
            last = min(first + self.random.choice(self.sizes), ends[partition])
            self.at[partition] = last
            self.feed(batch(partition, self.logs[partition], first, last, self.rule, self.columns))
            if self.random.random() < 0.3 and self.shard.snapshot().shard >= 0:
                caught_up = min(self.watermarks()) >= min(stored[1])
                if caught_up:  # a source that reads again points back at least as far
                    stored = (self.shard.snapshot(), self.watermarks(), list(self.at))


def same(rows: list[dict], expected: list[dict]) -> None:
    """Compare with a message that shows the first difference."""
    for one, other in zip(rows, expected, strict=False):
        assert dict(sorted(one.items())) == dict(sorted(other.items()))
    assert len(rows) == len(expected)


@settings(max_examples=150)
@given(strategies.logs(), strategies.rolling_rules(), st.integers(0, 2**32), st.booleans())
def test_rows_equal_the_oracle_for_any_batching_interleaving_and_crashes(
    trades: list[list[T]], rule: Rolling, seed: int, crashes: bool
) -> None:
    logs = [records(log) for log in trades]
    run = RollingRun(logs, rule, seed, crashes=crashes)
    same(run.all(), rolling_oracle.statistics(logs, rule))


@settings(max_examples=100)
@given(strategies.logs(), strategies.rolling_rules(), st.integers(0, 2**32), st.booleans())
def test_a_finite_run_goes_on_to_the_last_tick_that_holds_data(
    trades: list[list[T]], rule: Rolling, seed: int, crashes: bool
) -> None:
    logs = [records(log) for log in trades]
    run = RollingRun(logs, rule, seed, crashes=crashes)
    run.all()
    same(run.finish(), rolling_oracle.statistics(logs, rule, limit=rolling_oracle.FOREVER))
    ticks = [a.tick for p, log in enumerate(logs) for a in rolling_oracle.arrivals(p, log, rule)]
    assert run.late == ticks.count(None)
    if rule.window > 10_000_000:  # nothing has left: what was applied is still to be seen
        last = {row["instrument"]: row["trade_count"] for row in run.rows}
        assert sum(last.values()) + run.late == sum(map(len, logs)), "applied + late = read"


@settings(max_examples=50)
@given(strategies.logs(), strategies.rolling_rules(), st.integers(0, 2**32))
def test_every_record_is_late_or_in_a_window_within_the_horizon_limit(
    trades: list[list[T]], rule: Rolling, seed: int
) -> None:
    limit = RollingRule(rule.window, rule.pane, rule.tick, rule.quiet).horizon_limit_ms
    rule = replace(rule, horizon=min(rule.horizon, limit))
    for p, log in enumerate(trades):
        for a in rolling_oracle.arrivals(p, records(log), rule):
            pane = a.record.time // rule.pane * rule.pane
            assert a.tick is None or pane >= a.tick - rule.window


@settings(max_examples=100)
@given(strategies.logs(), strategies.rolling_rules(), st.integers(0, 2**32), st.data())
def test_going_on_after_a_finite_run_gives_the_rows_after_it(
    trades: list[list[T]], rule: Rolling, seed: int, data: st.DataObject
) -> None:
    logs = [records(log) for log in trades]
    cuts = [data.draw(st.integers(0, len(log))) for log in logs]
    run = RollingRun(logs, rule, seed)
    run.all(cuts)
    run.finish()
    first = [log[:cut] for log, cut in zip(logs, cuts, strict=True)]
    early = rolling_oracle.statistics(first, rule, limit=rolling_oracle.FOREVER)
    same(run.rows, early)
    run.resume(run.shard.snapshot(), run.replay_from(min(run.watermarks())))
    run.all()
    run.finish()
    whole = rolling_oracle.statistics(logs, rule, limit=rolling_oracle.FOREVER)
    same(run.rows[len(early) :], [row for row in whole if row["tick"] > run_position(early)])


def run_position(rows: list[dict]) -> int:
    return int(rows[-1]["tick"]) if rows else NEVER


@pytest.mark.parametrize("tick", [1_000, 60_000])
def test_batches_of_one_equal_one_huge_batch(tick: int) -> None:
    rng = random.Random(5)
    log, time = [], strategies.BASE_MS
    for i in range(6_000):
        time += rng.choice([0, 1, 40])
        price, quantity = rng.randrange(1, 10**12), rng.randrange(1, 10**12)
        late = rng.choice([0, 0, 2_500])
        log.append(T(time - late, f"I{rng.randrange(50)}", price, quantity, rng.randrange(2), i))
    rule = Rolling(60_000, tick, tick)
    huge = RollingRun([records(log)], rule, 0, crashes=False)
    huge.feed(batch(0, huge.logs[0], 0, len(log), rule, record_columns))
    small = RollingRun([records(log)], rule, 1, crashes=False)
    assert huge.rows == small.all()
    assert huge.rows
