"""The ewma operators equal the oracle, however the log is cut, interleaved or restored."""

import math
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.ewma import Ewma, EwmaRule
from operators.ordered import OrderedShard
from operators.ordered_scatter import Scatter, ScatterRule
from tests import ewma_oracle, strategies
from tests.oracle import FOREVER, T
from tests.runs import Run, events_of

BASE = strategies.BASE_MS
Rule = ewma_oracle.Ewma


def fold_of(rule: Rule) -> Ewma:
    return Ewma(EwmaRule(rule.period, rule.mode, rule.alpha, rule.halflife_ms, rule.weighted))


class EwmaRun(Run):
    def new_step(self) -> Scatter:
        return Scatter(fold_of(self.rule), ScatterRule("ewma", "trades", 1))

    def new_shard(self, state: Any) -> OrderedShard:
        return OrderedShard(fold_of(self.rule), len(self.logs), 1_000, state)


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


@settings(max_examples=100)
@given(strategies.logs(), rules(), st.integers(0, 2**32), st.booleans())
def test_rows_equal_the_oracle_for_any_batching_interleaving_and_restore(
    logs: list[list[T]], rule: Rule, seed: int, restore: bool
) -> None:
    run = EwmaRun(logs, rule, seed, restore=restore)
    assert run.all() == ewma_oracle.averages(logs, rule), "to the bit"


@settings(max_examples=100)
@given(strategies.logs(), rules(), st.integers(0, 2**32), st.booleans())
def test_a_finite_run_shows_every_period_and_counts_every_trade_once(
    logs: list[list[T]], rule: Rule, seed: int, restore: bool
) -> None:
    run = EwmaRun(logs, rule, seed, restore=restore)
    run.all()
    rows = run.finish()
    assert rows == ewma_oracle.averages(logs, rule, limit=FOREVER)
    folded = sum(row["trade_count"] for row in rows)
    assert folded + run.late == sum(map(len, logs)), "folded + late = read"
    accepted = sum(len(ewma_oracle.accepted(p, log, rule)) for p, log in enumerate(logs))
    assert folded == accepted


@settings(max_examples=150)
@given(strategies.logs(), rules(), st.integers(0, 2**32), st.data())
def test_finite_runs_on_a_growing_log_end_where_one_run_does(
    logs: list[list[T]], rule: Rule, seed: int, data: st.DataObject
) -> None:
    run = EwmaRun(logs, rule, seed, restore=True)
    queues = [events_of(p, log, rule, random.Random(seed)) for p, log in enumerate(logs)]
    for _ in range(data.draw(st.integers(1, 3))):
        for queue in queues:
            for _ in range(data.draw(st.integers(0, len(queue)))):
                run.feed(queue.pop(0))
        run.finish(run.shard._watermarks_ms)
        run.shard = run.restored()
        if data.draw(st.booleans()):
            shown = len(run.rows)
            run.finish(run.shard._watermarks_ms)
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
    expected = {
        (row["instrument"], row["window_start"]): row
        for row in ewma_oracle.averages(logs, rule, limit=FOREVER)
    }
    assert last.keys() == expected.keys()
    for key, row in last.items():
        assert row | {"revision": 0, "tick": 0} == expected[key] | {"tick": 0}


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
    huge = EwmaRun([log], rule, 0, restore=False)
    huge.random.choice = lambda options: options[-1]  # type: ignore[method-assign]
    small = EwmaRun([log], rule, 1, restore=False)
    rows = huge.all()
    assert rows == small.all()
    assert len(rows) > 1_000


@settings(max_examples=50)
@given(st.integers(0, 2**32), st.permutations(range(6)))
def test_ties_are_folded_by_sequence_then_by_place_in_the_log(seed: int, order: list[int]) -> None:
    trades = [T(BASE + 5, "a", p, 10**8, 0, s) for s, p in enumerate((3, 9, 1, 7, 2, 8), start=1)]
    untied = [T(BASE + 5, "a", p, 10**8) for p in (4, 6)]
    rule = Rule(alpha=0.5)
    run = EwmaRun([untied, [trades[i] for i in order]], rule, seed, restore=True)
    run.all()
    (row,) = run.finish()
    y = 4.0
    for price in (6, 3, 9, 1, 7, 2, 8):
        y = 0.5 * y + 0.5 * price
    assert math.isclose(row["value"] * 1e8, y)
    assert row["last_price"] == "0.00000008"
