"""The harness itself, on flows that count into a file: it lets right pass and wrong fail."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from tests.crash.case import Account
from tests.crash.harness import CrashError, Tally, prove
from tests.crash.plan import BETWEEN_SINKS, Step, random_plan

COUNTING_FLOW = """
import os
from datetime import datetime, timedelta, timezone
from pathlib import Path
import bytewax.operators as op
from bytewax.connectors.files import FileSink
from bytewax.dataflow import Dataflow
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.outputs import DynamicSink, StatelessSinkPartition

class Count(StatefulSourcePartition):
    def __init__(self, state): self.at = state or 0
    def next_batch(self):
        if os.environ["FLAW"] == "fails": raise ValueError("told to fail")
        if self.at >= int(Path(os.environ["LIMIT_FILE"]).read_text()):
            if os.environ.get("STOP_AT_END"): raise StopIteration
            return []
        self.at += 1
        if os.environ["FLAW"] == "miscounts" and self.at == 7: return []
        return [("0", str(self.at))]
    def next_awake(self): return datetime.now(timezone.utc) + timedelta(milliseconds=1)
    def snapshot(self):
        return self.at + 5 * (os.environ["FLAW"] == "loses" and self.at > 10)

class Counts(FixedPartitionedSource):
    def list_parts(self): return ["0"]
    def build_part(self, step_id, name, state): return Count(state)

class Appended(StatelessSinkPartition):
    def write_batch(self, items):
        with open(os.environ["OUT"], "a") as out:
            out.writelines(f"{number}\\n" for _, number in items)

class Append(DynamicSink):
    def build(self, step_id, worker_index, worker_count): return Appended()

flow = Dataflow("counting")
sink = Append() if os.environ["FLAW"] == "repeats" else FileSink(os.environ["OUT"])
op.output("out", op.input("in", flow, Counts()), sink)
"""
PLAN = [
    Step(snapshot_interval_s=0, after_s=0.3),
    Step(workers=2, snapshot_interval_s=1, after_s=0.2),
    Step(processes=2, snapshot_interval_s=0, after_s=0.4, alone=1),
    Step(),
]


class CountingCase:
    """Numbers into a file; no topic, no table, no fail point."""

    module = "counting"
    points: Mapping[str, int] = {}
    records = 1_000

    def __init__(self, directory: Path, flaw: str = "") -> None:
        self._directory = directory
        self._limit = directory / "limit"
        self._flaw = flaw
        (directory / "counting.py").write_text(COUNTING_FLOW)
        self._limit.write_text("0")

    def env(self, output: str, *, to_the_end: bool = False) -> dict[str, str]:
        return {
            "PYTHONPATH": str(self._directory),
            "LIMIT_FILE": str(self._limit),
            "OUT": str(self._directory / output),
            "FLAW": self._flaw,
            "STOP_AT_END": "1" if to_the_end else "",
            "BYTEWAX_TESTING": "1",
        }

    def grow(self, share: float) -> None:
        limit = max(int(self._limit.read_text()), round(share * self.records))
        draft = self._limit.with_suffix(".draft")
        draft.write_text(str(limit))
        draft.replace(self._limit)

    def written(self, output: str) -> int:
        path = self._directory / output
        return path.stat().st_size if path.exists() else 0

    def is_complete(self, output: str) -> bool:
        return False

    def contents(self, output: str) -> dict[str, list[bytes]]:
        return {"file": (self._directory / output).read_bytes().splitlines()}

    def expected(self) -> dict[str, list[bytes]]:
        numbers = range(1, self.records + 1)
        return {"file": [str(number).encode() for number in numbers]}

    def positions(self, output: str) -> dict[str, dict[str, int]]:
        return {}

    def accounted(self, output: str) -> dict[str, Account]:
        return {"file": Account(len(self.contents(output)["file"]), 0, 0)}


def test_a_flow_that_recovers_passes(tmp_path: Path) -> None:
    tally = Tally()
    done = prove(CountingCase(tmp_path), PLAN, tmp_path, tally)
    assert done == PLAN
    assert all(step.outcome for step in done)
    assert (tally.kills, tally.starts) == ({"counting": 3}, {"counting": 4})
    assert (tally.lost, tally.repeated) == (0, 0)


def test_random_kills_without_fail_points_pass(tmp_path: Path) -> None:
    case = CountingCase(tmp_path)
    plan = [replace(step, stop=False) for step in random_plan(1, 3, case.points)]
    prove(case, plan, tmp_path, Tally())


def test_a_flow_that_repeats_is_found_out(tmp_path: Path) -> None:
    tally = Tally()
    steps = [Step(snapshot_interval_s=600, after_s=0.3), Step()]
    with pytest.raises(CrashError, match=r"(?s)0 lost, \d+ repeated.*file holds.*Step\("):
        prove(CountingCase(tmp_path, "repeats"), steps, tmp_path, tally)
    assert tally.lost == 0 < tally.repeated


def test_a_flow_that_loses_is_found_out(tmp_path: Path) -> None:
    tally = Tally()
    with pytest.raises(CrashError, match=r"(?s)[1-9]\d* lost, 0 repeated.*file holds.*Step\("):
        prove(CountingCase(tmp_path, "loses"), PLAN[:2] + PLAN[-1:], tmp_path, tally)
    assert tally.lost > 0 == tally.repeated


def test_a_flow_that_is_wrong_without_any_kill_is_found_out(tmp_path: Path) -> None:
    tally = Tally()
    with pytest.raises(CrashError, match=r"the undisturbed run, file: 999 rows for 1000, 1 lost"):
        prove(CountingCase(tmp_path, "miscounts"), PLAN[:1] + PLAN[-1:], tmp_path, tally)
    assert (tally.lost, tally.repeated) == (0, 0)


def test_a_flow_that_fails_shows_its_plan_and_output(tmp_path: Path) -> None:
    with pytest.raises(CrashError, match=r"(?s)told to fail.*Step\("):
        prove(CountingCase(tmp_path, "fails"), PLAN, tmp_path, Tally())


def test_a_stop_that_does_not_end_with_0_is_a_failure(tmp_path: Path) -> None:
    steps = [Step(after_s=0.1, stop=True), Step()]  # the counting flow does not handle SIGTERM
    with pytest.raises(CrashError, match=r"Stopped .* it ended with \[-15\]"):
        prove(CountingCase(tmp_path), steps, tmp_path, Tally())


def test_too_few_kills_and_a_flow_or_point_never_hit_are_no_evidence() -> None:
    points, flows = list(BETWEEN_SINKS), ["candles", "ewma"]
    tally = Tally(kills=Counter(candles=99), points=Counter(points[:1]))
    assert tally.missing(points, flows) == [
        f"{points[1]} was never hit",
        "ewma was never killed",
        "99 kills are fewer than 100",
    ]
    kills = Counter(candles=60, ewma=40)
    assert Tally(kills=kills, points=Counter(points)).missing(points, flows) == []
