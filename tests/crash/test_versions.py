"""Two versions of a flow side by side."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.crash.cases import CASES
from tests.crash.harness import DISTURBED, Tally, compare, run_plan
from tests.crash.plan import Step
from tests.crash.sink_case import SinkCase
from tests.crash.watch import Watch
from tests.real.flows import Cluster, FlowProcess

pytestmark = [pytest.mark.slow, pytest.mark.parametrize("flow", CASES)]

NewCase = Callable[..., SinkCase]


def test_two_versions_side_by_side_do_not_touch_each_other(
    new_case: NewCase, tmp_path: Path, tally: Tally, first_seed: int, flow: str
) -> None:
    """Both give what they give alone, though they share brokers, input and server.

    The second defines its output otherwise, so it has a topic and a database of its own.
    Sharing a database is for versions with the same definition only: rows have no version,
    so of two different rows of a key one replaces the other.
    """
    case = new_case(flow, seed=first_seed + 41, records=12_000)
    second = case.another("2", **case.other_version)
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
            assert not any(process.returncode for process in flows), [p.output() for p in flows]
            assert time.monotonic() < deadline_s
            time.sleep(0.05)
        for piece in range(20, 90, 5):
            case.grow(piece / 100)
            time.sleep(0.1)
    finally:
        for process in flows:
            process.kill9()
    tally.kills[case.module] += len(flows)
    tally.starts[case.module] += len(flows)
    case.grow(1.0)
    for number, each in enumerate((case, second)):
        directory = tmp_path / str(number)
        compare(each, directory, tally, run_plan(each, [Step()], directory, tally))
    ours, theirs = case.contents(DISTURBED), second.contents(DISTURBED)
    topics = [name for name in ours if name.startswith("topic results/")]
    assert any(ours[name] != theirs.get(name) for name in topics), "they were to differ"


def test_two_versions_of_the_same_definition_may_share_a_database(
    new_case: NewCase, tmp_path: Path, tally: Tally, first_seed: int, flow: str
) -> None:
    case = new_case(flow, seed=first_seed + 42, records=4_000)
    case.grow(1.0)
    second = case.another("2", DATABASE_URL=case.url(DISTURBED))
    flows = []
    try:
        for number, each in enumerate((case, second)):
            flows.append(
                Cluster(
                    case.module,
                    processes=1,
                    log=tmp_path / f"{number}.log",
                    env=each.env(DISTURBED, to_the_end=True),
                    recovery_dir=None,
                )
            )
        for each, process in zip((case, second), flows, strict=True):
            Watch(each, process, Step()).outcome()
    finally:
        for process in flows:
            process.kill9()
    tally.starts[case.module] += len(flows)
    compare(case, tmp_path, tally)
    ours, theirs = case.contents(DISTURBED), second.contents(DISTURBED)
    topics = [name for name in ours if name.startswith("topic ")]
    assert all(ours[name] == theirs[name] for name in topics)
