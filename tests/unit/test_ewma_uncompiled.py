"""The kernels of ordered folds are ordinary functions: uncompiled, in a process of their own,
they give the same rows and late counts to the bit."""

import random

import pytest

from tests import strategies
from tests.ewma_oracle import Ewma
from tests.oracle import T
from tests.uncompiled import TIMEOUT_S, print_rows, same_uncompiled
from tests.unit.test_ewma_property import EwmaRun

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
        run = EwmaRun([_log(rng), _log(rng)], rule, seed, restore=True)
        run.all()
        rows = [row | {"value": row["value"].hex()} for row in run.finish()]
        out += [{"seed": seed, "late": run.late}, *rows]
    return out


@pytest.mark.timeout(2 * TIMEOUT_S)
def test_the_averages_are_the_same_uncompiled() -> None:
    plain = same_uncompiled("tests.unit.test_ewma_uncompiled", _rows)
    assert all(row["late"] > 0 for row in plain if "late" in row)


if __name__ == "__main__":
    print_rows(_rows)
