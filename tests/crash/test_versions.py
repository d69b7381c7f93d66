"""Two versions of a flow side by side."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.crash.case import SinkCase
from tests.crash.harness import DISTURBED, Tally, compare, run_plan
from tests.crash.plan import Step
from tests.real.flows import FlowProcess

Candles = Callable[..., SinkCase]


@pytest.mark.slow
def test_two_versions_side_by_side_do_not_touch_each_other(
    candles: Candles, tmp_path: Path, tally: Tally, first_seed: int
) -> None:
    """Both give what they give alone, though they share brokers, input and server.

    The second defines its output otherwise (`LATENESS_S`), so it has a topic and a database
    of its own. Sharing a database is for versions with the same definition only: rows have
    no version, so of two different rows of a key one replaces the other.
    """
    case = candles(seed=first_seed + 41, records=12_000)
    second = case.another("2", LATENESS_S="0.2")
    flows = []
    try:
        for number, each in enumerate((case, second)):
            directory = tmp_path / str(number)
            directory.mkdir()
            flows.append(
                FlowProcess(
                    case.module,
                    log=directory / "live.log",
                    env=each.env(DISTURBED),
                    recovery_dir=directory / "recovery",
                )
            )
        case.grow(0.2)
        deadline_s = time.monotonic() + 60
        while not (case.written(DISTURBED) and second.written(DISTURBED)):
            assert not any(flow.returncode for flow in flows), [flow.output() for flow in flows]
            assert time.monotonic() < deadline_s
            time.sleep(0.05)
        for piece in range(20, 90, 5):
            case.grow(piece / 100)
            time.sleep(0.1)
    finally:
        for flow in flows:
            flow.kill9()
    tally.kills += len(flows)
    tally.starts += len(flows)
    case.grow(1.0)
    for number, each in enumerate((case, second)):
        directory = tmp_path / str(number)
        compare(each, directory, tally, run_plan(each, [Step()], directory, tally))
    ours, theirs = case.contents(DISTURBED), second.contents(DISTURBED)
    assert ours["table candles"] != theirs["table candles"], "they were to differ"


@pytest.mark.slow
def test_two_versions_of_the_same_definition_may_share_a_database(
    candles: Candles, tmp_path: Path, tally: Tally, first_seed: int
) -> None:
    case = candles(seed=first_seed + 42, records=4_000)
    case.grow(1.0)
    second = case.another("2", DATABASE_URL=case.url(DISTURBED))
    flows = []
    try:
        for number, each in enumerate((case, second)):
            flows.append(
                FlowProcess(
                    case.module,
                    log=tmp_path / f"{number}.log",
                    env=each.env(DISTURBED, to_the_end=True),
                    recovery_dir=None,
                )
            )
        for flow in flows:
            assert flow.wait(120) == 0, flow.output()
    finally:
        for flow in flows:
            flow.kill9()
    tally.starts += len(flows)
    compare(case, tmp_path, tally)
    ours, theirs = case.contents(DISTURBED), second.contents(DISTURBED)
    topics = [name for name in ours if name.startswith("topic ")]
    assert all(ours[name] == theirs[name] for name in topics)
