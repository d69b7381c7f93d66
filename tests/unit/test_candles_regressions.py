"""Mistakes of earlier systems that must not come back, each by name."""

import pytest

from tests.oracle import Rule, T
from tests.strategies import BASE_MS as BASE
from tests.unit.test_candles_property import CandlesRun

ONE = 10**8
MINUTE = 60_000


def candles(*logs: list[T], rule: Rule | None = None, seed: int = 0) -> list[dict]:
    """All rows of a finite run."""
    run = CandlesRun(list(logs), rule or Rule(), seed, restore=True)
    run.all()
    return run.finish()


def of(rows: list[dict], *names: str) -> list[tuple]:
    return [tuple(row[name] for name in names) for row in rows]


def test_low_is_never_zero_for_positive_prices() -> None:
    (row,) = candles([T(BASE + i, "A", (7 + i) * ONE, ONE) for i in range(3)])
    assert row["low"] == "7"


def test_high_and_low_are_those_of_the_window_alone() -> None:
    rows = candles(
        [T(BASE + i * MINUTE, "A", price * ONE, ONE) for i, price in enumerate((1_000, 7, 6))]
    )
    assert of(rows, "high", "low") == [("1000", "1000"), ("7", "7"), ("6", "6")]


def test_fractional_prices_are_exact() -> None:
    (row,) = candles([T(BASE, "A", 525_000_000, 3 * ONE), T(BASE + 1, "A", 1, 1)])
    assert (row["open"], row["close"]) == ("5.25", "0.00000001")
    assert row["quote_volume"] == "15.7500000000000001"


@pytest.mark.parametrize("seed", range(5))
def test_open_and_close_depend_on_event_time_and_sequence_not_on_arrival(seed: int) -> None:
    trades = [
        T(BASE + 9_000, "A", 4 * ONE, ONE, 0, 4),
        T(BASE + 8_000, "A", 1 * ONE, ONE, 0, 1),
        T(BASE + 9_000, "A", 3 * ONE, ONE, 0, 3),
        T(BASE + 8_000, "A", 2 * ONE, ONE, 0, 2),
    ]
    (row,) = candles(trades[seed % 4 :] + trades[: seed % 4], trades[:0], seed=seed)
    assert (row["open"], row["close"]) == ("1", "4")


def test_start_and_end_of_a_row_are_the_windows_not_the_first_trades() -> None:
    (row,) = candles([T(BASE + 31_234, "A", ONE, ONE)])
    assert (row["open_time"], row["close_time"]) == (BASE, BASE + MINUTE)
    assert row["open_trade_time"] == BASE + 31_234


def test_a_trade_for_a_passed_minute_is_a_correction() -> None:
    log = [
        T(BASE + 1_000, "A", 5 * ONE, ONE),
        T(BASE + 2 * MINUTE, "A", 6 * ONE, ONE),
        T(BASE + 2_000, "A", 9 * ONE, ONE),
        T(BASE + 4 * MINUTE, "B", ONE, ONE),
    ]
    first = [r for r in candles(log) if r["open_time"] == BASE]
    assert of(first, "revision", "close", "trade_count") == [(0, "5", 1), (1, "9", 2)]


def test_a_trade_beyond_the_correction_horizon_is_late_not_lost() -> None:
    log = [T(BASE + 10 * MINUTE, "A", ONE, ONE), T(BASE, "A", ONE, ONE)]
    run = CandlesRun([log], Rule(), 0, restore=False)
    run.all()
    rows = run.finish()
    assert (sum(r["trade_count"] for r in rows), run.late) == (1, 1)


def test_the_tumbling_picture_of_running_sums() -> None:
    values = [(0, 1), (0, 2), (0, 3), (1, 4), (1, 5), (2, 6)]
    running = []
    for n in range(1, len(values) + 1):
        log = [T(BASE + w * MINUTE + i, "A", v * ONE, ONE) for i, (w, v) in enumerate(values[:n])]
        running.append(candles(log)[-1]["quote_volume"])
    assert running == ["1", "3", "6", "4", "9", "6"]


def test_a_silent_instrument_gets_gap_candles_until_it_has_been_silent_for_too_long() -> None:
    log = [T(BASE, "A", 5 * ONE, ONE)] + [T(BASE + i * MINUTE, "B", ONE, ONE) for i in range(8)]
    rows = candles(log, rule=Rule(fill=True, silence=3 * MINUTE))
    silent = [r for r in rows if r["instrument"] == "A"]
    assert of(silent, "gap_filled", "close", "volume", "trade_count") == [
        (False, "5", "1", 1),
        *[(True, "5", "0", 0)] * 3,
    ]


def test_a_correction_moves_the_gap_candles_behind_it() -> None:
    log = [
        T(BASE, "A", 5 * ONE, ONE),
        T(BASE + 3 * MINUTE + 3_000, "B", ONE, ONE),
        T(BASE + 1, "A", 8 * ONE, ONE),
        T(BASE + 4 * MINUTE, "B", ONE, ONE),
    ]
    rows = [r for r in candles(log, rule=Rule(fill=True)) if r["instrument"] == "A"]
    second = [r for r in rows if r["open_time"] == BASE + MINUTE]
    assert of(second, "revision", "close", "gap_filled") == [(0, "5", True), (1, "8", True)]


def test_a_hole_in_the_sequence_is_shown_inside_and_between_candles() -> None:
    log = [
        *[T(BASE + i, "inside", ONE, ONE, 0, seq) for i, seq in enumerate((1, 2, 4))],
        T(BASE, "between", ONE, ONE, 0, 1),
        T(BASE + MINUTE, "between", ONE, ONE, 0, 3),
        T(BASE + MINUTE, "whole", ONE, ONE, 0, 7),
        T(BASE + MINUTE, "none", ONE, ONE),
    ]
    rows = {(r["instrument"], r["open_time"]): r["complete"] for r in candles(log)}
    assert rows == {
        ("inside", BASE): False,
        ("between", BASE): True,
        ("between", BASE + MINUTE): False,
        ("whole", BASE + MINUTE): True,
        ("none", BASE + MINUTE): True,
    }
