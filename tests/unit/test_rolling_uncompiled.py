"""The rolling kernels run uncompiled, in a process of their own, to the same rows."""

import random

import pytest

from tests import strategies
from tests.oracle import T
from tests.rolling_oracle import R, Rolling
from tests.uncompiled import TIMEOUT_S, print_rows, same_uncompiled
from tests.unit.test_rolling_candles import CandleRun
from tests.unit.test_rolling_property import RollingRun, records

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
        run = RollingRun([records(_trades(rng)), records(_trades(rng))], rule, seed)
        run.all()
        out += run.finish()
    rule = Rolling(5 * _MINUTE, _MINUTE, _MINUTE, candles=True)
    rng = random.Random(9)
    candles = CandleRun([_candles(rng), _candles(rng)], rule, 0)
    candles.all()
    return out + candles.finish()


@pytest.mark.timeout(2 * TIMEOUT_S)
def test_the_rows_are_the_same_uncompiled() -> None:
    plain = same_uncompiled("tests.unit.test_rolling_uncompiled", _rows)
    assert any(row["trade_count"] == 0 for row in plain), "empty windows"


if __name__ == "__main__":
    print_rows(_rows)
