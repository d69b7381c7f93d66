"""Kernels are ordinary functions: run uncompiled, in a process of their own, they give the
same rows, previews and late counts as compiled.

The whole chain of the candles flow runs here without Numba's compiler: effective ticks,
groups, partials, windows, rows.
"""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest

from operators.candle import CANDLE
from operators.tumbling import Preview, preview_rows
from tests import strategies
from tests.oracle import Rule, T
from tests.unit.test_candles_property import Run

_ROOT = Path(__file__).resolve().parents[2]
_TIMEOUT_S = 120
_RULES = [
    Rule((60_000,)),
    Rule((60_000, 300_000), horizon=10_000, fill=True, silence=200_000),
    Rule((1_000, 60_000, 300_000, 3_600_000), lateness=0),
    Rule((60_000, 3_600_000), lateness=5_000, horizon=0, fill=True),
]


def _log(rng: random.Random) -> list[T]:
    """As `strategies.logs` makes them, from a seed that two processes can share."""
    time, log = strategies.BASE_MS, []
    for seq in range(1, 61):
        time += rng.choice(strategies._STEPS)
        log.append(
            T(
                time - rng.choice(strategies._DELAYS),
                rng.choice("abé"),
                rng.choice([1, 525_000_000, 2**62, 10**9, 3]),
                rng.choice([1, 10**8, 2**33]),
                rng.randrange(2),
                rng.choice([seq, seq, 0]),
            )
        )
    return log


class _Run(Run):
    """Keeps the previews as well."""

    def take(self, items: list) -> None:
        for item in items:
            if isinstance(item, Preview):
                rows = preview_rows([item], CANDLE, self.window_rule)
                self.rows.append({"preview": repr(rows.to_pylist())})
        super().take(items)


def _rows() -> list[dict]:
    out = []
    for seed, rule in enumerate(_RULES):
        rng = random.Random(seed)
        run = _Run([_log(rng), _log(rng)], rule, seed, restore=True)
        run.all()
        out += [{"seed": seed, "late": run.late}, *run.finish()]
    return out


@pytest.mark.timeout(2 * _TIMEOUT_S)
def test_the_flow_gives_the_same_rows_uncompiled() -> None:
    assert not numba.config.DISABLE_JIT
    child = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.unit.test_kernels_uncompiled"],
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
    assert any(row.get("revision", 0) > 0 for row in plain), "corrections"
    assert any(row.get("gap_filled") for row in plain), "gaps"
    assert any("preview" in row for row in plain)
    assert all(row["late"] > 0 for row in plain if "late" in row)


if __name__ == "__main__":
    assert numba.config.DISABLE_JIT
    with np.errstate(over="ignore"):  # limbs and hashes wrap on purpose
        print(json.dumps(_rows()))
