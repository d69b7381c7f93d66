"""The candles operators equal the oracle, however the log is cut, interleaved or restored."""

import random

from hypothesis import example, given, settings
from hypothesis import strategies as st

from operators.candle import CANDLE
from operators.combine import Combine, CombineRule
from operators.tumbling import Preview, TumblingShard, preview_rows
from operators.window_table import WindowRule
from tests import oracle, strategies
from tests.oracle import Rule, T
from tests.runs import Run, events_of, watermark_ms

BASE = strategies.BASE_MS


class CandlesRun(Run):
    @property
    def window_rule(self) -> WindowRule:
        rule = self.rule
        return WindowRule(
            rule.intervals,
            horizon_ms=rule.horizon,
            fill_gaps=rule.fill,
            silence_ms=rule.silence,
            memory_ms=rule.memory,
        )

    def new_step(self) -> Combine:
        return Combine(CANDLE, CombineRule("candles", "trades", 1, horizon_ms=self.rule.horizon))

    def new_shard(self, state: object) -> TumblingShard:
        partitions = len(self.logs)
        return TumblingShard(CANDLE, self.window_rule, partitions, 0.0, state, clock=lambda: 0.0)

    def take(self, items: list) -> None:
        previews = [item for item in items if isinstance(item, Preview)]
        for item in previews:
            rows = preview_rows([item, item], CANDLE, self.window_rule)
            assert not any(rows["is_closed"].to_pylist())
            assert rows[: len(rows) // 2].equals(rows[len(rows) // 2 :])
        super().take([item for item in items if not isinstance(item, Preview)])


def key_order(rows: list[dict]) -> list[dict]:
    """Compare with a message that shows the first difference."""
    return [dict(sorted(row.items())) for row in rows]


@settings(max_examples=100)
@given(strategies.logs(), strategies.rules(), st.integers(0, 2**32), st.booleans())
def test_rows_equal_the_oracle_for_any_batching_interleaving_and_restore(
    logs: list[list[T]], rule: Rule, seed: int, restore: bool
) -> None:
    run = CandlesRun(logs, rule, seed, restore=restore)
    assert key_order(run.all()) == key_order(oracle.candles(logs, rule))


@settings(max_examples=100)
@given(strategies.logs(), strategies.rules(), st.integers(0, 2**32), st.booleans())
def test_a_finite_run_closes_every_window_that_holds_data(
    logs: list[list[T]], rule: Rule, seed: int, restore: bool
) -> None:
    run = CandlesRun(logs, rule, seed, restore=restore)
    run.all()
    rows = run.finish()
    last = {(r["instrument"], r["interval"], r["open_time"]): r for r in rows}
    read = sum(map(len, logs))
    for interval in rule.intervals:
        counted = sum(r["trade_count"] for r in last.values() if r["interval"] == interval)
        assert counted + run.late == read, "aggregated + late = read"
    late = sum(a.tick is None for p, log in enumerate(logs) for a in oracle.arrivals(p, log, rule))
    assert run.late == late
    expected = oracle.candles(logs, rule, limit=oracle.FOREVER)
    assert key_order(rows) == key_order(expected)


@settings(max_examples=100)
@given(strategies.logs(), strategies.rules(), st.integers(0, 2**32), st.data())
def test_going_on_after_a_finite_run_loses_and_repeats_nothing(
    logs: list[list[T]], rule: Rule, seed: int, data: st.DataObject
) -> None:
    cuts = [data.draw(st.integers(0, len(log))) for log in logs]
    run = CandlesRun(logs, rule, seed, restore=True)
    begun = [log[:cut] for log, cut in zip(logs, cuts, strict=True)]
    for p, log in enumerate(begun):
        for events in events_of(p, log, rule, run.random):
            run.feed(events)
    run.finish([watermark_ms(log, rule) for log in begun])
    run.shard = run.restored()
    for p, (log, cut) in enumerate(zip(logs, cuts, strict=True)):
        for events in events_of(p, log, rule, run.random, cut):
            run.feed(events)
    run.finish()
    last = {(r["instrument"], r["interval"], r["open_time"]): r for r in run.rows}
    revisions: dict[tuple, list[int]] = {}
    for row in run.rows:
        key = (row["instrument"], row["interval"], row["open_time"])
        revisions.setdefault(key, []).append(row["revision"])
    assert all(r == list(range(len(r))) for r in revisions.values()), "revisions rise by one"
    expected = {
        (r["instrument"], r["interval"], r["open_time"]): r
        for r in oracle.candles(logs, rule, limit=oracle.FOREVER)
    }
    if not rule.fill:  # a gap can have been shown early, never a trade lost
        assert last.keys() == expected.keys()
    for key, row in expected.items():
        if row["trade_count"]:
            ignore = ("revision", "tick", "complete") if rule.fill else ("revision", "tick")
            assert {k: v for k, v in row.items() if k not in ignore} == {
                k: v for k, v in last[key].items() if k not in ignore
            }


def test_a_batch_of_one_equals_a_huge_batch() -> None:
    rng = random.Random(5)
    log = []
    for i in range(20_000):
        time = BASE + i * 3 - rng.choice([0, 0, 2_500])
        price, quantity = rng.randrange(1, 10**12), rng.randrange(1, 10**12)
        log.append(T(time, f"I{rng.randrange(50)}", price, quantity, rng.randrange(2), i))
    rule = Rule((1_000, 60_000))
    huge = CandlesRun([log], rule, 0, restore=False)
    huge.random.choice = lambda options: options[-1]  # type: ignore[method-assign]
    small = CandlesRun([log], rule, 1, restore=False)
    assert huge.all() == small.all()


@example(seed=0)
@given(st.integers(0, 2**32))
@settings(max_examples=20)
def test_ties_in_time_and_sequence_are_broken_by_the_place_in_the_log(seed: int) -> None:
    log = [T(BASE + 5, "a", p, 10**8) for p in (3, 9, 1, 7)]
    run = CandlesRun([log, []], Rule(), seed, restore=True)
    run.all()
    (row,) = run.finish()
    assert (row["open"], row["close"]) == ("0.00000003", "0.00000007")
