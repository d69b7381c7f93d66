"""Kills at named points and at random moments change nothing in any output.

To run a failing plan again, paste it: `prove(candles(seed=…, records=…), [Step(…), …], …)`.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.crash.candles_case import CandlesCase
from tests.crash.harness import Tally, prove
from tests.crash.plan import POINTS, Step, random_plan, show, tour_of_points

Candles = Callable[..., CandlesCase]


def test_a_plan_depends_on_its_seed_alone() -> None:
    plan = random_plan(7, 9)
    assert plan == random_plan(7, 9) != random_plan(8, 9)
    assert eval(show(plan), {"Step": Step}) == plan
    assert [step.is_last for step in plan] == [False] * 9 + [True]
    assert {step.point.split(":")[0] for step in tour_of_points(1)[:-1]} == set(POINTS)


def test_death_at_each_fail_point_changes_nothing(
    candles: Candles, tmp_path: Path, tally: Tally
) -> None:
    print(show(prove(candles(seed=1, records=6_000), tour_of_points(1), tmp_path, tally)))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_random_kills_change_nothing(
    candles: Candles, tmp_path: Path, tally: Tally, seed: int
) -> None:
    print(show(prove(candles(seed=seed, records=12_000), random_plan(seed, 11), tmp_path, tally)))
