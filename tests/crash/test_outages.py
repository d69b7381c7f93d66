"""What a flow needs is taken away: the broker, the database, its recovery store."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import pytest

from tests import candles_io as io
from tests.crash.candles_case import CandlesCase
from tests.crash.harness import DISTURBED, Tally, compare, prove, run_plan
from tests.crash.plan import Step
from tests.real.flows import FlowProcess
from tests.real.kafka import KafkaBroker
from tests.real.postgres import PostgresServer

pytestmark = pytest.mark.slow

Candles = Callable[..., CandlesCase]
_OUTAGES = 3


class Server(Protocol):
    def start(self) -> None: ...
    def kill(self) -> None: ...


def test_a_lost_recovery_store_costs_time_only(
    candles: Candles, tmp_path: Path, tally: Tally
) -> None:
    plan = [
        Step(after_s=1.0),
        Step(workers=2, after_s=0.5, forget=True),
        Step(point="kafka.after_commit:3", forget=True),
        Step(processes=2, after_s=0.5, forget=True),
        Step(forget=True),
    ]
    prove(candles(seed=31, records=12_000), plan, tmp_path, tally)


def test_a_killed_broker_stops_nothing(
    kafka_broker: KafkaBroker, candles: Candles, tmp_path: Path, tally: Tally
) -> None:
    _take_away(kafka_broker, candles(seed=32, records=24_000), tmp_path, tally)


def test_a_killed_database_stops_nothing(
    postgres: PostgresServer, candles: Candles, tmp_path: Path, tally: Tally
) -> None:
    _take_away(postgres, candles(seed=33, records=24_000), tmp_path, tally)


def _take_away(server: Server, case: CandlesCase, directory: Path, tally: Tally) -> None:
    """Kill and start `server` under a running flow, which must live through it."""
    case.grow(0.1)
    flow = FlowProcess(
        case.module,
        log=directory / "flow.log",
        env=case.env(DISTURBED),
        recovery_dir=directory / "recovery",
    )
    try:
        _wait(flow, lambda: io.count(case.url(DISTURBED), "candles") > 0)  # both sinks work
        for outage in range(_OUTAGES):
            _grow_and_wait(flow, case, 0.1 + 0.8 * (outage + 1) / _OUTAGES)
            server.kill()
            time.sleep(1.5)
            server.start()
        _grow_and_wait(flow, case, 0.95)
        flow.terminate()
        assert flow.wait(60) == 0, flow.output()
    finally:
        flow.kill9()
    tally.runs += 1
    compare(case, directory, tally, run_plan(case, [Step()], directory, tally))


def _grow_and_wait(flow: FlowProcess, case: CandlesCase, share: float) -> None:
    before = case.written(DISTURBED)
    case.grow(share)
    _wait(flow, lambda: case.written(DISTURBED) > before)


def _wait(flow: FlowProcess, condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 60
    while not condition():
        assert flow.returncode is None, flow.output()
        assert time.monotonic() < deadline_s, flow.output()
        time.sleep(0.01)
