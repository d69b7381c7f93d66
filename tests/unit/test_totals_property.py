"""The sellers operators equal the oracle, however the log is cut, interleaved or restored."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.combine import Combine, CombineRule
from operators.totals import TOTALS
from operators.tumbling import TumblingShard
from operators.window_table import WindowRule
from schemas.stream import Events
from tests import strategies, totals_oracle
from tests.oracle import FOREVER, Rule, T
from tests.runs import Run

windows = st.builds(
    Rule,
    st.sampled_from([(1_000,), (60_000,), (3_600_000,)]),
    lateness=st.sampled_from([0, 2_000, 5_000]),
    horizon=st.sampled_from([0, 10_000, 300_000]),
)


class TotalsRun(Run):
    def new_step(self) -> Callable[[Events], list[tuple[str, Any]]]:
        combine = Combine(TOTALS, CombineRule("sellers", "sales", 1, horizon_ms=self.rule.horizon))

        def step(events: Events) -> list[tuple[str, Any]]:
            if events.columns:
                sign = np.where(events.columns["side"] == 0, 1, -1)
                events = replace(events, columns={"amount": events.columns["price"] * sign})
            return combine(events)

        return step

    def new_shard(self, state: Any) -> TumblingShard:
        rule = WindowRule(self.rule.intervals, horizon_ms=self.rule.horizon)
        return TumblingShard(TOTALS, rule, len(self.logs), None, state)


@settings(max_examples=100)
@given(strategies.logs(), windows, st.integers(0, 2**32), st.booleans())
def test_rows_equal_the_oracle_for_any_batching_interleaving_and_restore(
    logs: list[list[T]], rule: Rule, seed: int, restore: bool
) -> None:
    run = TotalsRun(logs, rule, seed, restore=restore)
    assert run.all() == totals_oracle.totals(logs, rule)


@settings(max_examples=60)
@given(strategies.logs(), windows, st.integers(0, 2**32))
def test_a_finite_run_closes_everything_and_loses_nothing(
    logs: list[list[T]], rule: Rule, seed: int
) -> None:
    run = TotalsRun(logs, rule, seed, restore=True)
    run.all()
    rows = run.finish()
    assert rows == totals_oracle.totals(logs, rule, limit=FOREVER)
    last = {(row["seller_id"], row["window_start"]): row for row in rows}
    aggregated = sum(row["sale_count"] for row in last.values())
    assert aggregated + run.late == sum(map(len, logs))
