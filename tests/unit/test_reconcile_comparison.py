"""Comparing figures: what counts as different, by how much, and what is not compared."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataflows.commands.comparison import (
    INFINITE,
    Check,
    Meaning,
    Tally,
    candle_checks,
    day_checks,
    meaning_of,
    ppm_between,
)
from sources.deribit_chart import Figures, ListedInstrument

D = Decimal
LINEAR = meaning_of(ListedInstrument("future", is_reversed=False))
INVERSE = meaning_of(ListedInstrument("future", is_reversed=True))
OPTION = meaning_of(ListedInstrument("option", is_reversed=True))
WIDE = st.decimals(0, D(2**127), places=16, allow_nan=False)


def ours(time_ms: int, *, traded: bool = True, complete: bool = True, **changed: str) -> Figures:
    figures = {"open": "2", "high": "4", "low": "1", "close": "3", "volume": "10",
               "quote_volume": "25"} | changed  # fmt: skip
    return Figures(time_ms, {name: D(text) for name, text in figures.items()}, traded, complete)


def theirs(time_ms: int, *, traded: bool = True, **changed: str) -> Figures:
    figures = {"open": "2.0", "high": "4", "low": "1", "close": "3.00", "volume": "10",
               "cost": "25"} | changed  # fmt: skip
    return Figures(time_ms, {name: D(text) for name, text in figures.items()}, traded)


def checks(here: list[Figures], there: list[Figures], meaning: Meaning = LINEAR) -> list[Check]:
    return list(candle_checks("X", here, there, meaning.candle))


def different(found: list[Check]) -> list[tuple[int, str, Decimal]]:
    return [(check.time_ms, check.field, check.ppm) for check in found if check.ppm]


def test_equal_candles_differ_in_nothing() -> None:
    found = checks([ours(0), ours(60)], [theirs(0), theirs(60)])
    assert not different(found)
    fields = ["trades", "open", "high", "low", "close", "volume", "quote_volume"]
    assert [check.field for check in found] == fields * 2


def test_a_difference_counts_in_ppm_of_the_exchanges_value() -> None:
    found = checks([ours(0, high="4.000004", volume="0")], [theirs(0)])
    assert different(found) == [(0, "high", 1), (0, "volume", 1_000_000)]


def test_what_one_side_lacks_is_told_alone() -> None:
    found = checks([ours(0), ours(120)], [theirs(60), theirs(120)])
    assert different(found) == [(0, "trades", INFINITE), (60, "trades", INFINITE)]
    assert [(check.ours, check.theirs) for check in found[:2]] == [(1, 0), (0, 1)]


def test_a_candle_without_trades_is_the_same_as_none() -> None:
    filler = theirs(0, traded=False, volume="0", cost="0")
    own = ours(0, traded=False, volume="0", quote_volume="0")
    assert checks([], [filler]) == checks([own], []) == []
    assert not different(checks([own], [filler]))
    assert different(checks([ours(0, traded=False, close="7")], [filler]))
    assert different(checks([own], [theirs(0)])) == [(0, "trades", INFINITE)]
    assert different(checks([ours(0)], [filler])) == [(0, "trades", INFINITE)]


def test_incomplete_candles_are_marked() -> None:
    tally = Tally(D(0), 10)
    for check in checks([ours(0, complete=False, low="0.5"), ours(60)], [theirs(0), theirs(60)]):
        tally.add(check)
    assert tally.incomplete == 1
    assert [(check.field, check.is_complete) for check in tally.worst] == [("low", False)]


def test_an_inverse_future_counts_dollars() -> None:
    # 10 dollars in trades are a cost of 10; the volume of 0.0001 cannot be had from ours.
    found = checks([ours(0, quote_volume="1e9")], [theirs(0, volume="0.0001", cost="10")], INVERSE)
    assert not different(found)
    assert [check.field for check in found][-1] == "quote_volume"
    assert {(one.of, one.field) for one in INVERSE.left_out} == {
        ("candle", "volume"), ("24h", "volume"),
    }  # fmt: skip


def test_an_option_and_a_combination_of_options_count_the_base_currency() -> None:
    assert meaning_of(ListedInstrument("option_combo", is_reversed=True)) == OPTION
    found = checks([ours(0)], [theirs(0, cost="77")], OPTION)
    assert [check.field for check in found][-1] == "volume"
    assert not different(found)


def test_every_field_is_compared_or_left_out_with_a_reason() -> None:
    for meaning in (LINEAR, INVERSE, OPTION):
        left_out = [(one.of, one.field) for one in meaning.left_out]
        compared = [("candle", one.field) for one in meaning.candle]
        compared += [("24h", one.field) for one in meaning.day]
        assert not set(left_out) & set(compared)
        assert {field for _, field in left_out + compared} >= {"volume", "quote_volume"}
        assert len(left_out + compared) == 12


def day(*, traded: bool = True, **figures: str | None) -> Figures:
    base = {
        "high": "4",
        "low": "1",
        "last": "2",
        "volume": "8",
        "quote_volume": "9",
        "price_change_percent": "1.23456789",
        "volume_usd": "8",
        "price_change": "1.2346",
    }
    values = base | figures
    return Figures(7, {k: None if v is None else D(v) for k, v in values.items()}, traded)


def test_a_window_of_24_hours() -> None:
    assert not different(list(day_checks("X", day(), day(), INVERSE.day)))
    found = list(day_checks("X", day(last="2.1"), day(price_change="1.2345"), INVERSE.day))
    assert different(found) == [(7, "last", 50_000), (7, "price_change", 1)]
    assert different(list(day_checks("X", None, day(), INVERSE.day))) == [(7, "trades", INFINITE)]
    nothing = day(traded=False, high=None, low=None, price_change=None, volume="0")
    assert list(day_checks("X", None, nothing, INVERSE.day)) == []
    assert list(day_checks("X", day(traded=False, last=None), nothing, INVERSE.day)) == []


def test_a_missing_figure_is_no_small_difference() -> None:
    assert ppm_between("high", None, None) == 0
    assert ppm_between("high", None, D(1)) == ppm_between("high", D(1), None) == INFINITE
    assert ppm_between("volume", D("1e-16"), D(0)) == INFINITE


@given(WIDE, WIDE)
def test_only_equal_values_have_no_difference(own: Decimal, other: Decimal) -> None:
    assert (ppm_between("volume", own, other) == 0) == (own == other)
    assert ppm_between("volume", own, own) == 0


def check(ppm: Decimal, time_ms: int = 0) -> Check:
    return Check("candle", "high", "X", time_ms, D(1), D(1), ppm, is_complete=True)


@given(st.lists(st.integers(0, 5).map(D) | st.just(INFINITE)), st.integers(0, 4), st.integers(0, 4))
def test_the_tally_is_that_of_a_plain_list(ppms: list[Decimal], tolerance: int, most: int) -> None:
    tally = Tally(D(tolerance), most)
    for time_ms, ppm in enumerate(ppms):
        tally.add(check(ppm, time_ms))
    beyond = [(ppm, time_ms) for time_ms, ppm in enumerate(ppms) if ppm > tolerance]
    beyond.sort(key=lambda one: (-one[0], one[1]))
    assert [(one.ppm, one.time_ms) for one in tally.worst] == beyond[:most]
    assert tally.different == len(beyond)
    if ppms:
        field = tally.fields["candle", "high"]
        assert (field.compared, field.different) == (len(ppms), len(beyond))
        largest = max(ppms)
        assert field.largest == (check(largest, ppms.index(largest)) if largest else None)


@pytest.mark.parametrize("tolerance", ["0", "0.999999", "1"])
def test_the_tolerance_is_inclusive(tolerance: str) -> None:
    tally = Tally(D(tolerance), 1)
    tally.add(check(D(1)))
    assert tally.different == (tolerance != "1")
