"""What a flow needs is taken away: the broker, the database, its recovery store."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import pytest

from tests.crash.cases import CASES
from tests.crash.harness import DISTURBED, Tally, compare, prove, run_plan
from tests.crash.plan import Step
from tests.crash.sink_case import SinkCase
from tests.real.flows import FlowProcess
from tests.real.kafka import KafkaBroker
from tests.real.postgres import PostgresServer

pytestmark = [pytest.mark.slow, pytest.mark.parametrize("flow", CASES)]

NewCase = Callable[..., SinkCase]
_OUTAGES = 3


class Server(Protocol):
    def start(self) -> None: ...
    def kill(self) -> None: ...


def test_a_lost_recovery_store_costs_time_only(
    new_case: NewCase, tmp_path: Path, tally: Tally, first_seed: int, flow: str
) -> None:
    plan = [
        Step(after_s=1.0),
        Step(workers=2, after_s=0.5, forget=True),
        Step(point="kafka.after_commit:3", forget=True),
        Step(processes=2, after_s=0.5, forget=True),
        Step(forget=True),
    ]
    prove(new_case(flow, seed=first_seed + 31, records=12_000), plan, tmp_path, tally)


def test_a_killed_broker_stops_nothing(
    kafka_broker: KafkaBroker,
    new_case: NewCase,
    tmp_path: Path,
    tally: Tally,
    first_seed: int,
    flow: str,
) -> None:
    case = new_case(flow, seed=first_seed + 32, records=24_000)
    _take_away("Kafka", kafka_broker, case, tmp_path, tally)


def test_a_killed_database_stops_nothing(
    postgres: PostgresServer,
    new_case: NewCase,
    tmp_path: Path,
    tally: Tally,
    first_seed: int,
    flow: str,
) -> None:
    case = new_case(flow, seed=first_seed + 33, records=24_000)
    _take_away("PostgreSQL", postgres, case, tmp_path, tally)


def _take_away(name: str, server: Server, case: SinkCase, directory: Path, tally: Tally) -> None:
    """Kill and start `server` under a running flow, which must live through it."""
    case.grow(0.1)
    flow = FlowProcess(
        case.module,
        log=directory / "flow.log",
        env=case.env(DISTURBED),
        recovery_dir=directory / "recovery",
    )
    tally.starts[case.module] += 1
    try:
        _wait(flow, lambda: all(case.positions(DISTURBED).values()))  # both sinks work
        for outage in range(_OUTAGES):
            _grow_and_wait(flow, case, 0.1 + 0.8 * (outage + 1) / _OUTAGES)
            server.kill()
            time.sleep(1.5)
            server.start()
            tally.outages[name] += 1
        _grow_and_wait(flow, case, 0.95)
        flow.terminate()
        assert flow.wait(60) == 0, flow.output()
    finally:
        flow.kill9()
    tally.stops += 1
    compare(case, directory, tally, run_plan(case, [Step()], directory, tally))


def _grow_and_wait(flow: FlowProcess, case: SinkCase, share: float) -> None:
    before = case.written(DISTURBED)
    case.grow(share)
    _wait(flow, lambda: case.written(DISTURBED) > before)


def _wait(flow: FlowProcess, condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 60
    while not condition():
        assert flow.returncode is None, flow.output()
        assert time.monotonic() < deadline_s, flow.output()
        time.sleep(0.01)
