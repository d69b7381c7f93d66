"""`python -m dataflows.compiled` leaves nothing to compile for the start of a flow.

An image has what it made, and each start that compiles takes seconds more.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numba
import pytest

from tests import candles_io as io
from tests import flow_io
from tests.real.flows import FlowProcess
from tests.real.kafka_client import Kafka

CODE = re.compile(r"^\[cache\] data (?:loaded from|saved to) '(.*)'$", re.MULTILINE)


@pytest.fixture(scope="module")
def made() -> set[Path]:
    """Files with the code that the command makes, or finds made."""
    env = os.environ | {"NUMBA_DEBUG_CACHE": "1"}
    command = [sys.executable, "-m", "dataflows.compiled"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(map(Path, CODE.findall(done.stdout)))


@pytest.fixture
def kernels(made: set[Path], tmp_path: Path) -> Path:
    """A place of the test's own for kernels, without what other runs have added."""
    cache = Path(numba.config.CACHE_DIR)
    copied = tmp_path / "kernels" / cache.name
    shutil.copytree(cache, copied)
    for code in cache.rglob("*.nbc"):
        if code not in made:
            (copied / code.relative_to(cache)).unlink()
    return tmp_path / "kernels"


def files(kernels: Path) -> set[str]:
    return {path.name for path in kernels.rglob("*.nbc")}


def test_candles_on_kafka(kafka: Kafka, topic: str, postgres_url: str, kernels: Path) -> None:
    logs = io.random_log(3, 3_000)
    kafka.create_topic(topic, len(logs))
    before = files(kernels)
    assert before
    env = io.settings(kafka, topic, postgres_url, NUMBA_CACHE_DIR=str(kernels), INTERVALS="1s,1m")
    for run in range(2):  # the second goes on from a recovery store
        io.produce(kafka, topic, logs)
        recovery = kernels.parent / "recovery"
        flow_io.finish(
            "dataflows.candles", kernels.parent, env, recovery=recovery, name=f"run-{run}"
        )
        assert files(kernels) == before


def test_live_candles_on_kafka(
    kafka: Kafka, topic: str, postgres_url: str, kernels: Path, tmp_path: Path
) -> None:
    logs = io.random_log(4, 1_000)
    kafka.create_topic(topic, len(logs))
    io.produce(kafka, topic, logs)
    before = files(kernels)
    env = io.settings(kafka, topic, postgres_url, NUMBA_CACHE_DIR=str(kernels), STOP_AT_END="0")
    flow = FlowProcess("dataflows.candles", log=tmp_path / "log", env=env, recovery_dir=None)
    try:
        for table in ("candles", "candles_live"):
            flow_io.await_or_fail(flow, lambda table=table: io.count(postgres_url, table) > 0)
    finally:
        flow.kill9()
    assert files(kernels) == before


@pytest.mark.parametrize("flow", ["market", "sellers", "sessions"])
def test_an_embedded_run(flow: str, postgres_url: str, kernels: Path) -> None:
    before = files(kernels)
    env = {
        "DATA_DIR": str(kernels.parent / "data"),
        "DATABASE_URL": postgres_url,
        "MARKET_TRADES": "20000",
        "NUMBA_CACHE_DIR": str(kernels),
        "STATISTICS_WINDOW_S": "60",
        "STOP_AT_END": "1",
    }
    flow_io.finish(f"dataflows.{flow}", kernels.parent, env)
    assert files(kernels) == before
