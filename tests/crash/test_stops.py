"""SIGTERM in full flight: the flow ends with 0, and the next start reads no record again."""

import re
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.crash.cases import CASES, with_slow
from tests.crash.harness import DISTURBED, Tally, compare, run_plan
from tests.crash.plan import Step
from tests.crash.sink_case import SinkCase
from tests.real.flows import FlowProcess
from tests.real.process import free_port

_STILL_S = 0.4


def records_read(port: int) -> int | None:
    """By the process since its start; None when it does not answer."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            text = answer.read().decode()
    except OSError:
        return None
    records = re.compile(r"^tidemark_source_records_total{.*} ([0-9.e+]+)$", re.MULTILINE)
    return round(sum(map(float, records.findall(text))))


# A flow whose state is its log reads a part of it again after every stop, by design.
@pytest.mark.parametrize(
    "flow", with_slow(name for name, case in CASES.items() if not case.reads_again)
)
@pytest.mark.parametrize("workers", [1, 2])
def test_sigterm_in_full_flight_replays_nothing(
    new_case: Callable[..., SinkCase],
    tmp_path: Path,
    tally: Tally,
    first_seed: int,
    flow: str,
    workers: int,
) -> None:
    """Both starts together read each record once.

    Snapshots are rare, so the one that counts is the last. The commits after the signal are
    slow, so that a process that reads no more is still there to say how much it has read.
    """
    case = new_case(flow, seed=first_seed + 61, records=20_000)
    port = free_port()
    env = case.env(DISTURBED) | {"METRICS_PORT": str(port)}

    def start(name: str, workers: int, env: dict[str, str]) -> FlowProcess:
        tally.starts[case.module] += 1
        return FlowProcess(
            case.module,
            log=tmp_path / f"{name}.log",
            env=env,
            recovery_dir=tmp_path / "recovery",
            workers=workers,
            snapshot_interval_s=3_600,
        )

    first = start("first", workers, env | {"FAILPOINTS": "kafka.before_write~0.5"})
    before = 0
    try:
        deadline_s = time.monotonic() + 60
        share = 0.0
        while not case.written(DISTURBED):
            assert first.returncode is None, first.output()
            assert time.monotonic() < deadline_s, first.output()
            share = min(share + 0.01, 0.4)
            case.grow(share)
        first.terminate()
        still_since_s = time.monotonic()
        # No question may be open when it ends: Bytewax 0.21.1 would wait for its own answer.
        while first.returncode is None and time.monotonic() - still_since_s < _STILL_S:
            share += 0.005
            case.grow(min(share, 0.8))
            found = records_read(port) or before
            if found > before:
                before, still_since_s = found, time.monotonic()
        assert first.wait(60) == 0, first.output()
    finally:
        first.kill9()
    tally.stops += 1
    case.grow(1.0)
    assert 0 < before < 0.8 * case.records

    second = start("second", 3 - workers, env)
    after = 0
    try:
        deadline_s = time.monotonic() + 60
        while before + after < case.records:
            assert second.returncode is None, second.output()
            assert time.monotonic() < deadline_s, f"{before} and {after} of {case.records} read"
            time.sleep(0.1)
            after = records_read(port) or 0
        time.sleep(_STILL_S)
        after = records_read(port) or after
        second.terminate()
        assert second.wait(60) == 0, second.output()
    finally:
        second.kill9()
    tally.stops += 1
    assert before + after == case.records
    compare(case, tmp_path, tally, run_plan(case, [Step()], tmp_path, tally))
