"""Kernels are ordinary functions: run uncompiled, in a process of their own, they give the
same rows, previews and late counts as compiled.

The whole chain of the candles flow runs here without Numba's compiler: effective ticks,
groups, partials, windows, rows.
"""

import random

import pytest

from operators.candle import CANDLE
from operators.tumbling import Preview, preview_rows
from tests import strategies
from tests.oracle import Rule, T
from tests.uncompiled import TIMEOUT_S, print_rows, same_uncompiled
from tests.unit.test_candles_property import CandlesRun

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


class _Run(CandlesRun):
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


@pytest.mark.timeout(2 * TIMEOUT_S)
def test_the_flow_gives_the_same_rows_uncompiled() -> None:
    plain = same_uncompiled("tests.unit.test_kernels_uncompiled", _rows)
    assert any(row.get("revision", 0) > 0 for row in plain), "corrections"
    assert any(row.get("gap_filled") for row in plain), "gaps"
    assert any("preview" in row for row in plain)
    assert all(row["late"] > 0 for row in plain if "late" in row)


if __name__ == "__main__":
    print_rows(_rows)
