"""What the crash tests share: cases that clean up, seeds, and the summary of all plans.

`--crash-seed N` draws other plans and logs; a failure names the command that repeats its own.
`--crash-report FILE` writes the summary there, with date, machine and versions, and fails the
run when it was no evidence: too few kills, or a flow or fail point that was never hit.
"""

import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from benchmarks import machine
from tests.crash.cases import CASES
from tests.crash.plan import BETWEEN_SINKS, KAFKA_POINTS, POSTGRES_POINTS, SOURCE_POINTS
from tests.crash.sink_case import SinkCase
from tests.crash.tally import Tally
from tests.real.kafka_client import Kafka
from tests.real.postgres import PostgresServer

_OUTCOMES = ("passed", "failed", "error", "skipped")
_POINTS = (*SOURCE_POINTS, *KAFKA_POINTS, *POSTGRES_POINTS, *BETWEEN_SINKS)
_FLOWS = tuple(case.module for case in CASES.values())

_tally = pytest.StashKey[Tally]()
_machine = pytest.StashKey[dict[str, Any]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--crash-seed", type=int, default=0, help="first seed of plans and logs")
    parser.addoption("--crash-report", type=Path, help="file for the summary of all plans")


def _seed(config: pytest.Config) -> int:
    # Unknown where the run was not started for this directory.
    return int(config.getoption("crash_seed", 0))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    try:
        yield
    except Exception as error:
        error.add_note(
            f"The same seeds and plans again: python -m pytest '{item.nodeid}' "
            f"-m 'slow or not slow' --crash-seed {_seed(item.config)}"
        )
        raise


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    tally = session.config.stash.get(_tally, None)
    report = session.config.getoption("crash_report", None)
    if report and session.exitstatus == pytest.ExitCode.OK:
        missing = (tally or Tally()).missing(_POINTS, _FLOWS)
        if missing:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    tally = config.stash.get(_tally, None)
    if tally is None:
        return
    report = config.getoption("crash_report", None)
    lines = str(tally).splitlines()
    if report:
        counts = {outcome: len(terminalreporter.getreports(outcome)) for outcome in _OUTCOMES}
        tests = ", ".join(f"{n} {outcome}" for outcome, n in counts.items())
        missing = [f"NO EVIDENCE: {text}" for text in tally.missing(_POINTS, _FLOWS)]
        found = config.stash[_machine]
        lines = [
            f"tests: {tests}; first seed: {_seed(config)}",
            *missing,
            "",
            *lines,
            "",
            machine.sentence(found),
        ]
        report.parent.mkdir(parents=True, exist_ok=True)
        report.write_text("\n".join(["Crash evidence: `make crash`", "", *lines, ""]))
    for line in lines:
        terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def compiled_kernels() -> None:
    """A start that had to compile first would find the log grown: nothing left to be in flight."""
    subprocess.run([sys.executable, "-m", "operators.compiled"], check=True, timeout=300)


@pytest.fixture(scope="session")
def tally(pytestconfig: pytest.Config, postgres: PostgresServer) -> Tally:
    """Counts of all plans."""
    if pytestconfig.getoption("crash_report", None):
        pytestconfig.stash[_machine] = machine.describe(postgres.url)
    return pytestconfig.stash.setdefault(_tally, Tally())


@pytest.fixture(scope="session")
def first_seed(pytestconfig: pytest.Config) -> int:
    """What the seeds of plans and logs count from."""
    return _seed(pytestconfig)


@pytest.fixture
def new_case(
    kafka: Kafka, postgres: PostgresServer, topic: str, compiled_kernels: None
) -> Iterator[Callable[..., SinkCase]]:
    """Makes the case of a test: `new_case(flow, seed=, records=, …)`."""
    cases: list[SinkCase] = []

    def make(flow: str, **arguments: Any) -> SinkCase:
        cases.append(CASES[flow](kafka, postgres, topic, **arguments))
        return cases[-1]

    yield make
    postgres.start()  # in case the test left it dead
    for case in cases:
        case.close()


@pytest.fixture
def candles(new_case: Callable[..., SinkCase]) -> Callable[..., SinkCase]:
    """The same for candles: `candles(seed=, records=, …)`."""
    return partial(new_case, "candles")
