"""The kernels of ordered folds are ordinary functions: uncompiled, in a process of their own,
they give the same rows and late counts to the bit."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest

from tests import strategies
from tests.ewma_oracle import Ewma
from tests.oracle import T
from tests.unit.test_ewma_property import Run

_ROOT = Path(__file__).resolve().parents[2]
_TIMEOUT_S = 120
_RULES = [
    Ewma(),
    Ewma(1_000, weighted=True, lateness=0),
    Ewma(60_000, "carry", 0.3, weighted=True, lateness=5_000),
    Ewma(300_000, "time", None, 700.0),
    Ewma(60_000, "time", None, 60_000.0, weighted=True),
]


def _log(rng: random.Random) -> list[T]:
    time, log = strategies.BASE_MS, []
    for seq in range(1, 201):
        time += rng.choice(strategies._STEPS)
        log.append(
            T(
                time - rng.choice(strategies._DELAYS),
                rng.choice("abé"),
                rng.randrange(1, 2**62),
                rng.randrange(1, 2**33),
                0,
                rng.choice([seq, seq, 0]),
            )
        )
    return log


def _rows() -> list[dict]:
    out = []
    for seed, rule in enumerate(_RULES):
        rng = random.Random(seed)
        run = Run([_log(rng), _log(rng)], rule, seed, restore=True)
        run.all()
        rows = [row | {"value": row["value"].hex()} for row in run.finish()]
        out += [{"seed": seed, "late": run.late}, *rows]
    return out


@pytest.mark.timeout(2 * _TIMEOUT_S)
def test_the_averages_are_the_same_uncompiled() -> None:
    assert not numba.config.DISABLE_JIT
    child = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.unit.test_ewma_uncompiled"],
        cwd=_ROOT,
        env={**os.environ, "NUMBA_DISABLE_JIT": "1"},
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    assert child.returncode == 0, child.stderr
    plain, compiled = json.loads(child.stdout), json.loads(json.dumps(_rows()))
    assert len(plain) == len(compiled) > 200
    for one, other in zip(plain, compiled, strict=True):
        assert one == other
    assert all(row["late"] > 0 for row in plain if "late" in row)


if __name__ == "__main__":
    assert numba.config.DISABLE_JIT
    with np.errstate(over="ignore"):  # limbs wrap on purpose
        print(json.dumps(_rows()))
