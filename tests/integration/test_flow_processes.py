"""Flows as processes, tried on one that counts into a file."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.real.flows import Cluster, FlowProcess

COUNTING_FLOW = """
import json, os
from datetime import datetime, timedelta, timezone
import bytewax.operators as op
from bytewax.connectors.files import FileSink
from bytewax.dataflow import Dataflow
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition

print(json.dumps(dict(os.environ)), flush=True)

class Count(StatefulSourcePartition):
    def __init__(self, state): self.at = state or 0
    def next_batch(self):
        if self.at == int(os.environ["LIMIT"]):
            if os.environ.get("STOP_AT_END"): raise StopIteration
            return []
        self.at += 1
        return [("0", str(self.at))]
    def next_awake(self): return datetime.now(timezone.utc) + timedelta(milliseconds=1)
    def snapshot(self): return self.at

class Counts(FixedPartitionedSource):
    def list_parts(self): return ["0"]
    def build_part(self, step_id, name, state): return Count(state)

flow = Dataflow("counting")
op.output("out", op.input("in", flow, Counts()), FileSink(os.environ["OUT"]))
"""
LIMIT = 1_500


@pytest.fixture
def env(tmp_path: Path) -> Mapping[str, str]:
    (tmp_path / "counting.py").write_text(COUNTING_FLOW)
    return {
        "PYTHONPATH": str(tmp_path),
        "LIMIT": str(LIMIT),
        "OUT": str(tmp_path / "out.txt"),
        "BYTEWAX_TESTING": "1",
    }


def counted(env: Mapping[str, str]) -> list[int]:
    return [int(line) for line in Path(env["OUT"]).read_text().split()]


def test_a_flow_sees_only_what_it_is_given(
    env: Mapping[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "stranger:9092")
    flow = FlowProcess(
        "counting", log=tmp_path / "log", env={**env, "STOP_AT_END": "1"}, recovery_dir=None
    )
    assert flow.wait(30) == 0, flow.output()
    seen = json.loads(flow.output().splitlines()[0])
    assert set(seen) - {"LC_CTYPE"} <= {"PATH", "HOME", "STOP_AT_END", *env}
    assert counted(env) == list(range(1, LIMIT + 1))


def test_sigterm_reaches_a_flow(env: Mapping[str, str], tmp_path: Path) -> None:
    flow = FlowProcess("counting", log=tmp_path / "log", env=env, recovery_dir=None)
    while not flow.output():
        time.sleep(0.02)
    flow.terminate()
    assert flow.wait(30) == -signal.SIGTERM


def test_a_cluster_works_together(env: Mapping[str, str], tmp_path: Path) -> None:
    cluster = Cluster(
        "counting",
        processes=2,
        log=tmp_path / "log.txt",
        env={**env, "STOP_AT_END": "1"},
        recovery_dir=tmp_path / "recovery",
    )
    assert cluster.wait(30) == 0, cluster.output()
    assert counted(env) == list(range(1, LIMIT + 1))


def test_a_flow_dies_with_the_tests_however_they_end(tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from tests.real.process import Child\n"
        "child = Child(['sleep', '600'], log=Path(sys.argv[1])); print(child.pid, flush=True)\n"
        "time.sleep(600)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "log")],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    ) as tests:
        assert tests.stdout is not None
        child = int(tests.stdout.readline())
        tests.kill()
    deadline = time.monotonic() + 10
    while _runs(child):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False
