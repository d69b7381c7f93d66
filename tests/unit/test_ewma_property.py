"""The ewma operators equal the oracle, however the log is cut, interleaved or restored."""

import math
import pickle
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.ewma import Ewma, EwmaRule
from operators.ordered import OrderedShard
from operators.ordered_scatter import Scatter, ScatterRule, ShardEvents
from schemas.stream import NEVER, Output
from tests import ewma_oracle, strategies
from tests.oracle import FOREVER, T
from tests.unit.test_candles_property import end_of, events_of

BASE = strategies.BASE_MS
Rule = ewma_oracle.Ewma


def fold_of(rule: Rule) -> Ewma:
    return Ewma(EwmaRule(rule.period, rule.mode, rule.alpha, rule.halflife_ms, rule.weighted))


def as_rows(output: Output) -> list[dict]:
    rows = output.rows.to_pylist()
    for row, tick in zip(rows, output.positions.tolist(), strict=True):
        row["tick"] = tick
        for name in ("window_start", "window_end"):
            row[name] = round(row[name].timestamp() * 1000)
    return rows


class Run:
    """The operators without Bytewax: one shard that takes all keys."""

    def __init__(self, logs: list[list[T]], rule: Rule, seed: int, *, restore: bool) -> None:
        self.random = random.Random(seed)
        self.logs, self.rule, self.restore = logs, rule, restore
        self.scatter = Scatter(fold_of(rule), ScatterRule("ewma", "trades", 1))
        self.shard = self.new_shard(None)
        self.rows: list[dict] = []
        self.late = 0
        self.lane = NEVER

    def new_shard(self, state: Any) -> OrderedShard:
        return OrderedShard(fold_of(self.rule), len(self.logs), 1_000, state)

    def restored(self) -> OrderedShard:
        return self.new_shard(pickle.loads(pickle.dumps(self.shard.snapshot())))

    def feed(self, events: Any) -> None:
        items = [item for _, item in self.scatter(events)]
        self.late += sum(i.rows.num_rows for i in items if isinstance(i, Output))
        batch = [i for i in items if isinstance(i, ShardEvents)]
        if batch:
            self.take(self.shard.on_batch(batch)[0])
        if self.restore and self.random.random() < 0.3:
            self.shard = self.restored()

    def take(self, items: list[Output]) -> None:
        for item in items:
            assert item.position == item.positions[-1]
            assert item.positions[0] > self.lane, "a tick was cut in two"
            self.lane = item.position
            self.rows += as_rows(item)

    def all(self) -> list[dict]:
        queues = [events_of(p, log, self.rule, self.random) for p, log in enumerate(self.logs)]
        while any(queues):
            self.feed(self.random.choice([q for q in queues if q]).pop(0))
        return self.rows

    def finish(self) -> list[dict]:
        self.restore = False  # a partition says again that it has ended, a shard need not know
        for partition, log in enumerate(self.logs):
            newest = max((t.time for t in log), default=None)
            self.feed(end_of(partition, NEVER if newest is None else newest - self.rule.lateness))
        return self.rows


@st.composite
def rules(draw: st.DrawFn) -> Rule:
    mode = draw(st.sampled_from(["window", "carry", "time"]))
    timed = mode == "time"
    return Rule(
        draw(st.sampled_from([1_000, 60_000, 300_000])),
        mode,
        None if timed else draw(st.sampled_from([2 / 301, 0.5, 1.0, 1e-9])),
        draw(st.sampled_from([1.0, 500.0, 60_000.0])) if timed else None,
        weighted=draw(st.booleans()),
        lateness=draw(st.sampled_from([0, 2_000, 5_000])),
    )


def assert_same(rows: list[dict], expected: list[dict], *ignored: str) -> None:
    """Equal but for the average's last bits: the oracle evaluates it in another order."""
    assert len(rows) == len(expected)
    for row, other in zip(rows, expected, strict=True):
        skip = {"value", *ignored}
        assert {k: v for k, v in row.items() if k not in skip} == {
            k: v for k, v in other.items() if k not in skip
        }
        assert math.isclose(row["value"], other["value"], rel_tol=1e-9)


@settings(max_examples=100)
@given(strategies.logs(), rules(), st.integers(0, 2**32), st.booleans())
def test_rows_equal_the_oracle_for_any_batching_interleaving_and_restore(
    logs: list[list[T]], rule: Rule, seed: int, restore: bool
) -> None:
    rows = Run(logs, rule, seed, restore=restore).all()
    assert_same(rows, ewma_oracle.averages(logs, rule))
    other = Run(logs, rule, seed + 1, restore=not restore)
    assert rows == other.all(), "to the bit"


@settings(max_examples=100)
@given(strategies.logs(), rules(), st.integers(0, 2**32), st.booleans())
def test_a_finite_run_shows_every_period_and_counts_every_trade_once(
    logs: list[list[T]], rule: Rule, seed: int, restore: bool
) -> None:
    run = Run(logs, rule, seed, restore=restore)
    run.all()
    rows = run.finish()
    assert_same(rows, ewma_oracle.averages(logs, rule, limit=FOREVER))
    folded = sum(row["trade_count"] for row in rows)
    assert folded + run.late == sum(map(len, logs)), "folded + late = read"
    accepted = sum(len(ewma_oracle.accepted(p, log, rule)) for p, log in enumerate(logs))
    assert folded == accepted


@settings(max_examples=150)
@given(strategies.logs(), rules(), st.integers(0, 2**32), st.data())
def test_finite_runs_on_a_growing_log_end_where_one_run_does(
    logs: list[list[T]], rule: Rule, seed: int, data: st.DataObject
) -> None:
    run = Run(logs, rule, seed, restore=True)
    queues = [events_of(p, log, rule, random.Random(seed)) for p, log in enumerate(logs)]
    for _ in range(data.draw(st.integers(1, 3))):
        for queue in queues:
            for _ in range(data.draw(st.integers(0, len(queue)))):
                run.feed(queue.pop(0))
        run.restore = False
        for partition, watermark_ms in enumerate(run.shard._watermarks_ms):
            run.feed(end_of(partition, watermark_ms))
        run.shard = run.restored()
        if data.draw(st.booleans()):
            shown = len(run.rows)
            for partition, watermark_ms in enumerate(run.shard._watermarks_ms):
                run.feed(end_of(partition, watermark_ms))
            assert len(run.rows) == shown, "a run that reads nothing publishes nothing"
            run.shard = run.restored()
        run.restore = True
    for queue in queues:
        for events in queue:
            run.feed(events)
    run.finish()
    last: dict[tuple, dict] = {}
    for row in run.rows:
        key = (row["instrument"], row["window_start"])
        assert row["revision"] == (last[key]["revision"] + 1 if key in last else 0)
        last[key] = row
    expected = ewma_oracle.averages(logs, rule, limit=FOREVER)
    expected.sort(key=lambda row: (row["instrument"], row["window_start"]))
    assert_same([last[key] for key in sorted(last)], expected, "revision", "tick")


@pytest.mark.parametrize("mode", ["window", "carry", "time"])
def test_a_batch_of_one_equals_a_huge_batch(mode: str) -> None:
    rng = random.Random(5)
    log = []
    for i in range(20_000):
        time = BASE + i * 3 - rng.choice([0, 0, 1_500, 2_500])
        price, quantity = rng.randrange(1, 10**12), rng.randrange(1, 10**12)
        log.append(T(time, f"I{rng.randrange(50)}", price, quantity, rng.randrange(2), i))
    timed = mode == "time"
    rule = Rule(1_000, mode, None if timed else 2 / 301, 10_000.0 if timed else None, weighted=True)
    huge = Run([log], rule, 0, restore=False)
    huge.random.choice = lambda options: options[-1]  # type: ignore[method-assign]
    small = Run([log], rule, 1, restore=False)
    rows = huge.all()
    assert rows == small.all()
    assert len(rows) > 1_000


@settings(max_examples=50)
@given(st.integers(0, 2**32), st.permutations(range(6)))
def test_ties_are_folded_by_sequence_then_by_place_in_the_log(seed: int, order: list[int]) -> None:
    trades = [T(BASE + 5, "a", p, 10**8, 0, s) for s, p in enumerate((3, 9, 1, 7, 2, 8), start=1)]
    untied = [T(BASE + 5, "a", p, 10**8) for p in (4, 6)]
    rule = Rule(alpha=0.5)
    run = Run([untied, [trades[i] for i in order]], rule, seed, restore=True)
    run.all()
    (row,) = run.finish()
    y = 4.0
    for price in (6, 3, 9, 1, 7, 2, 8):
        y = 0.5 * y + 0.5 * price
    assert math.isclose(row["value"] * 1e8, y)
    assert row["last_price"] == "0.00000008"
