"""Kills at named points and at random moments change nothing in any output.

To run a plan that was shortened by hand: `prove(case, [Step(…), …], tmp_path, tally)`.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from schemas.market_pb2 import Candle
from tests import candles_io as io
from tests.crash.cases import CASES, with_slow
from tests.crash.harness import DISTURBED, Tally, prove
from tests.crash.plan import (
    BETWEEN_SINKS,
    KAFKA_POINTS,
    LAYOUTS,
    POSTGRES_POINTS,
    SOURCE_POINTS,
    Step,
    random_plan,
    show,
    tour_of_points,
)
from tests.crash.sink_case import SinkCase
from tests.oracle import Rule
from tests.real.kafka_client import Kafka

NewCase = Callable[..., SinkCase]
POINTS = SOURCE_POINTS | KAFKA_POINTS | POSTGRES_POINTS | BETWEEN_SINKS
SEEDS, SEEDS_OF_OTHERS = 9, 2
"""Random plans of candles, and of each other flow."""
SHORT_PLAN = [
    Step(point="kafka.after_commit:2"),
    Step(processes=2, snapshot_interval_s=0, after_s=0.3, alone=1),
    Step(point="postgres.between_write_and_commit:2"),
    Step(workers=2, after_s=0.2, stop=True),
    Step(),
]


def test_a_plan_depends_on_its_seed_alone() -> None:
    plan = random_plan(7, 9, POINTS)
    assert plan == random_plan(7, 9, POINTS) != random_plan(8, 9, POINTS)
    assert eval(show(plan), {"Step": Step}) == plan
    assert [step.is_last for step in plan] == [False] * (len(plan) - 1) + [True]
    assert sum(step.is_kill for step in plan) == 9
    assert sorted(step.point_name for step in tour_of_points(1, POINTS)[:-1]) == sorted(POINTS)


def test_random_plans_have_kills_of_every_kind() -> None:
    steps = [step for seed in range(1, SEEDS + 1) for step in random_plan(seed, 10, POINTS)]
    assert {step.point_name for step in steps} == {"", *POINTS}
    assert {(step.processes, step.workers) for step in steps if step.is_kill} == set(LAYOUTS)
    assert {step.since for step in steps} == {"start", "write"}
    assert {step.alone for step in steps} == {None, 0, 1}
    assert {step.snapshot_interval_s for step in steps} == {0, 1}
    assert any(step.stop for step in steps)
    assert any(step.forget for step in steps)


@pytest.mark.parametrize("flow", with_slow())
def test_death_at_each_fail_point_changes_nothing(
    new_case: NewCase, tmp_path: Path, tally: Tally, first_seed: int, flow: str
) -> None:
    case = new_case(flow, seed=first_seed, records=8_000)
    print(show(prove(case, tour_of_points(first_seed, case.points), tmp_path, tally)))


@pytest.mark.parametrize("flow", [flow for flow in CASES if flow != "candles"])
def test_a_few_kills_change_nothing(
    new_case: NewCase, tmp_path: Path, tally: Tally, first_seed: int, flow: str
) -> None:
    """Short, so that each flow has its kills in `make test`; candles has more than these."""
    case = new_case(flow, seed=first_seed, records=4_000)
    print(show(prove(case, SHORT_PLAN, tmp_path, tally)))


def test_ten_kills_and_random_workers_leave_both_outputs_byte_for_byte_calm_and_as_the_oracle(
    candles: NewCase, kafka: Kafka, tmp_path: Path, tally: Tally, first_seed: int
) -> None:
    """Both outputs equal those of an undisturbed run, and each of their rows the oracle's."""
    records = 8_000
    case = candles(seed=first_seed, records=records)
    plan = random_plan(first_seed, 10, case.points)
    done = prove(case, plan, tmp_path, tally)
    print(show(done))
    assert sum(step.is_kill for step in done) == 10
    lengths = {".1s": 1_000, ".1m": 60_000}
    expected = io.expected(io.random_log(first_seed, records), Rule(tuple(lengths.values())))
    assert any(row["revision"] for rows in expected for row in rows), "corrections were to be seen"
    for suffix, length in lengths.items():
        topic = case.output_topic(DISTURBED) + suffix
        published = io.kafka_rows(kafka, topic)
        assert published == [[r for r in rows if r["interval"] == length] for rows in expected]
        # A message has no other bytes than these, so equal rows are equal bytes.
        for record in (record for partition in kafka.read(topic) for record in partition):
            assert Candle.FromString(record.value).SerializeToString() == record.value
    assert io.table_rows(case.url(DISTURBED)) == io.final(expected)
    for store, account in case.accounted(DISTURBED).items():
        assert min(account) > 0, f"{store}: some of each were to be seen, {account}"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flow", "nth"),
    [(f, n) for f in CASES for n in range(SEEDS if f == "candles" else SEEDS_OF_OTHERS)],
)
def test_random_kills_change_nothing(
    new_case: NewCase, tmp_path: Path, tally: Tally, first_seed: int, flow: str, nth: int
) -> None:
    seed = first_seed + 1 + nth
    case = new_case(flow, seed=seed, records=12_000)
    print(show(prove(case, random_plan(seed, 10, case.points), tmp_path, tally)))
