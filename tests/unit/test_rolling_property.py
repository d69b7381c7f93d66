"""Rolling statistics equal the oracle, however the log is cut, interleaved or read again."""

import pickle
import random
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.candle import CANDLE
from operators.combine import Combine, CombineRule, PanePartials
from operators.rolling import RollingRule, RollingShard, RollingState
from schemas.stream import NEVER, Events, Output
from tests import rolling_oracle, strategies
from tests.oracle import T
from tests.rolling_oracle import R, Rolling


def records(log: list[T]) -> list[R]:
    return [R(t.time, t.key, (t,)) for t in log]


def trade_columns(part: list[R]) -> dict[str, np.ndarray]:
    trades = [r.trades[0] for r in part]
    return {
        "price": np.array([t.price for t in trades], np.int64),
        "quantity": np.array([t.quantity for t in trades], np.int64),
        "side": np.array([t.side for t in trades], np.int8),
        "seq": np.array([t.seq for t in trades], np.int64),
    }


def batch(
    partition: int, log: list[R], first: int, last: int, rule: Rolling, columns: object
) -> Events:
    """Records [first, last) of a partition, with what came before them in mind."""
    part = log[first:last]
    newest = max((r.time for r in log[:first]), default=NEVER)
    time = np.array([r.time for r in part], np.int64)
    running = np.maximum.accumulate(np.concatenate(([newest], time)))
    names = sorted({r.key for r in part})
    return Events(
        partition,
        np.arange(first, last, dtype=np.int64),
        time,
        np.maximum(running[:-1] - rule.lateness, NEVER),
        np.array([names.index(r.key) for r in part], np.int32),
        names,
        columns(part),  # type: ignore[operator]
        pa.array([b"x"] * len(part), pa.binary()),
        max(NEVER, int(running[-1]) - rule.lateness),
        len(part),
    )


class Run:
    """The operators without Bytewax: one shard with all keys, a sink, and crashes.

    A crash goes back to a snapshot of any earlier moment. The source reads again from a point
    of each partition before which all lies before the window of the least watermark; the sink
    drops what lies at or below its position.
    """

    aggregate = CANDLE
    columns = staticmethod(trade_columns)

    def __init__(
        self, logs: list[list[R]], rule: Rolling, seed: int, *, crashes: bool = True
    ) -> None:
        self.random = random.Random(seed)
        self.logs, self.rule, self.crashes = logs, rule, crashes
        self.window = RollingRule(rule.window, rule.pane, rule.tick, rule.quiet, rule.candles)
        self.rows: list[dict] = []
        self.position = NEVER
        self.late: set[tuple[int, int]] = set()
        self.sizes = self.random.choice([[1], [0, 1, 2, 5], [0, 1, 1, 5, 1000]])
        self.resume(None, [0] * len(logs))

    def resume(self, state: RollingState | None, at: list[int]) -> None:
        rule = CombineRule("s", "t", 1, self.rule.pane, self.rule.horizon)
        self.combine = Combine(self.aggregate, rule)
        self.shard = RollingShard(self.window, len(self.logs), state)
        self.at = at
        self.emitted = state.emitted_ms if state else NEVER

    def watermarks(self) -> list[int]:
        logs = zip(self.logs, self.at, strict=True)
        return [
            max((r.time for r in log[:n]), default=NEVER) - self.rule.lateness for log, n in logs
        ]

    def replay_from(self, watermark: int) -> list[int]:
        """Offsets before which all lies before the window; the latest ones, or earlier."""
        first = watermark // self.rule.tick * self.rule.tick - self.rule.window
        out = []
        for log in self.logs:
            inside = [i for i, r in enumerate(log) if r.time >= first]
            latest = inside[0] if inside else len(log)
            out.append(latest if self.random.random() < 0.7 else self.random.randint(0, latest))
        return out

    def feed(self, events: Events) -> None:
        items = [item for _, item in self.combine(events)]
        for item in items:
            if isinstance(item, Output):
                self.late |= {(item.partition, int(o)) for o in item.positions}
        partials = [item for item in items if isinstance(item, PanePartials)]
        if partials:
            for output in self.shard.on_batch(partials)[0]:
                self.take(output)

    def take(self, output: Output) -> None:
        assert output.position == output.positions[-1]
        assert output.positions[0] > self.emitted, "a tick was cut in two, or emitted again"
        self.emitted = output.position
        new = output.after(self.position)
        if new is not None:
            self.position = new.position
            self.rows += as_rows(new)

    def all(self, ends: list[int] | None = None) -> list[dict]:
        """Read every partition to its end, or to `ends`, in any pieces and order."""
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

    def finish(self) -> list[dict]:
        for p, (log, n) in enumerate(zip(self.logs, self.at, strict=True)):
            end = batch(p, log, n, n, self.rule, self.columns)
            self.feed(replace(end, ended=True))
        return self.rows


def as_rows(output: Output) -> list[dict]:
    rows = output.rows.to_pylist()
    for row, tick in zip(rows, output.positions.tolist(), strict=True):
        row["tick"] = tick
        for name, value in row.items():
            if name.endswith("_time") and value is not None:
                row[name] = round(value.timestamp() * 1000)
    return rows


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
    run = Run(logs, rule, seed, crashes=crashes)
    same(run.all(), rolling_oracle.statistics(logs, rule))


@settings(max_examples=100)
@given(strategies.logs(), strategies.rolling_rules(), st.integers(0, 2**32), st.booleans())
def test_a_finite_run_goes_on_to_the_last_tick_that_holds_data(
    trades: list[list[T]], rule: Rolling, seed: int, crashes: bool
) -> None:
    logs = [records(log) for log in trades]
    run = Run(logs, rule, seed, crashes=crashes)
    run.all()
    same(run.finish(), rolling_oracle.statistics(logs, rule, limit=rolling_oracle.FOREVER))
    ticks = [a.tick for p, log in enumerate(logs) for a in rolling_oracle.arrivals(p, log, rule)]
    assert len(run.late) == ticks.count(None)
    if rule.window > 10_000_000:  # nothing has left: what was applied is still to be seen
        last = {row["instrument"]: row["trade_count"] for row in run.rows}
        assert sum(last.values()) + len(run.late) == sum(map(len, logs)), "applied + late = read"


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
    run = Run(logs, rule, seed)
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
    huge = Run([records(log)], rule, 0, crashes=False)
    huge.feed(batch(0, huge.logs[0], 0, len(log), rule, trade_columns))
    small = Run([records(log)], rule, 1, crashes=False)
    assert huge.rows == small.all()
    assert huge.rows
