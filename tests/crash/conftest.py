"""What the crash tests share: cases that clean up, and the line that sums all plans up."""

from collections.abc import Callable, Iterator

import pytest

from tests.crash.candles_case import CandlesCase
from tests.crash.harness import Tally
from tests.real.kafka_client import Kafka
from tests.real.postgres import PostgresServer

_tally = pytest.StashKey[Tally]()


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    tally = config.stash.get(_tally, None)
    if tally is not None:
        terminalreporter.write_line(str(tally))


@pytest.fixture(scope="session")
def tally(pytestconfig: pytest.Config) -> Tally:
    """Counts of all plans."""
    return pytestconfig.stash.setdefault(_tally, Tally())


@pytest.fixture
def candles(
    kafka: Kafka, postgres: PostgresServer, topic: str
) -> Iterator[Callable[..., CandlesCase]]:
    """Makes the case of a test: `candles(seed=, records=, …)`."""
    cases: list[CandlesCase] = []

    def make(**arguments: object) -> CandlesCase:
        cases.append(CandlesCase(kafka, postgres, topic, **arguments))  # type: ignore[arg-type]
        return cases[-1]

    yield make
    postgres.start()  # in case the test left it dead
    for case in cases:
        case.close()
