"""`python -m dataflows.compiled` leaves nothing to compile for the start of a flow.

An image has what it made, and each start that compiles takes seconds more.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import numba
import pytest

from tests import candles_io as io
from tests import flow_io
from tests.real.kafka_client import Kafka


@pytest.fixture(scope="module")
def made() -> Path:
    """Where the command has put kernels."""
    command = [sys.executable, "-m", "dataflows.compiled"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return Path(numba.config.CACHE_DIR)


@pytest.fixture
def kernels(made: Path, tmp_path: Path) -> Path:
    """A place of the test's own for kernels, with all that the command makes."""
    shutil.copytree(made, tmp_path / "kernels" / made.name)
    return tmp_path / "kernels"


def files(kernels: Path) -> set[str]:
    return {path.name for path in kernels.rglob("*.nb?")}


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
