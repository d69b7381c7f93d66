"""The rolling kernels run uncompiled, in a process of their own, to the same rows."""

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
from tests.oracle import T
from tests.rolling_oracle import R, Rolling
from tests.unit.test_rolling_candles import CandleRun
from tests.unit.test_rolling_property import Run, records

_ROOT = Path(__file__).resolve().parents[2]
_TIMEOUT_S = 120
_MINUTE = 60_000


def _trades(rng: random.Random) -> list[T]:
    time, log = strategies.BASE_MS, []
    for seq in range(1, 121):
        time += rng.choice(strategies._STEPS)
        price, quantity = rng.choice([1, 5, 2**62, 10**9]), rng.choice([1, 10**8, 2**33])
        delay = rng.choice(strategies._DELAYS)
        log.append(T(time - delay, rng.choice("abé"), price, quantity, 0, rng.choice([seq, 0])))
    return log


def _candles(rng: random.Random) -> list[R]:
    start, log = strategies.BASE_MS, []
    for _ in range(60):
        start += _MINUTE * rng.choice([0, 1, 3])
        at = start - _MINUTE * rng.choice([0, 0, 1, 4])
        trades = [
            T(at + i, "a", rng.randrange(1, 10**12), 10**8, 0, (at + i) * 8 + i)
            for i in range(rng.randrange(4))
        ]
        log.append(R(at + _MINUTE - 1, "a", tuple(trades)))
    return log


def _rows() -> list[dict]:
    out = []
    for seed, rule in enumerate(
        [Rolling(600_000), Rolling(8_000, tick=2_000), Rolling(5 * _MINUTE, _MINUTE, _MINUTE)]
    ):
        rng = random.Random(seed)
        run = Run([records(_trades(rng)), records(_trades(rng))], rule, seed)
        run.all()
        out += run.finish()
    rule = Rolling(5 * _MINUTE, _MINUTE, _MINUTE, candles=True)
    rng = random.Random(9)
    candles = CandleRun([_candles(rng), _candles(rng)], rule, 0)
    candles.all()
    return out + candles.finish()


@pytest.mark.timeout(2 * _TIMEOUT_S)
def test_the_rows_are_the_same_uncompiled() -> None:
    assert not numba.config.DISABLE_JIT
    child = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.unit.test_rolling_uncompiled"],
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
    assert any(row["trade_count"] == 0 for row in plain), "empty windows"


if __name__ == "__main__":
    assert numba.config.DISABLE_JIT
    with np.errstate(over="ignore"):  # limbs and hashes wrap on purpose
        print(json.dumps(_rows()))
