"""Exact money equals `decimal` and Python's integers, compiled and uncompiled."""

from collections.abc import Callable, Sequence
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from schemas import fixed_point as fp

_EXACT = Context(prec=200)
_LIMB = 2**64 - 1

_int64s = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.sampled_from([-(2**63), -1, 0, 1, 2**62, 2**63 - 2, 2**63 - 1]),
    st.integers(0, 18).map(lambda k: 10**k),
    st.integers(1, 19).flatmap(lambda k: st.integers(0, 10**k).map(lambda x: min(x, 2**63 - 1))),
    # halves: 5, 15, 25, ... followed by zeros, with neighbours
    st.builds(
        lambda odd, k, off: min(max((2 * odd + 1) * 5 * 10**k + off, 1), 2**63 - 1),
        st.integers(0, 10**4),
        st.integers(0, 17),
        st.integers(-1, 1),
    ),
)
_scales = st.integers(-30, 40)
_wides = st.one_of(
    st.integers(0, 2**128 - 1),
    st.integers(0, 128).flatmap(lambda bits: st.integers(0, 2**bits - 1 if bits else 0)),
    st.integers(0, 38).map(lambda k: 10**k),
    st.integers(0, 38).map(lambda k: 10**k - 1),
    st.sampled_from([2**64 - 1, 2**64, 2**128 - 1]),
)


def _kernel(name: str, *, compiled: bool) -> Callable[..., Any]:
    function = getattr(fp, name)
    return function if compiled else function.py_func


both = pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "uncompiled"])


def _limbs(numbers: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    low = np.array([x & _LIMB for x in numbers], np.uint64)
    return low, np.array([x >> 64 for x in numbers], np.uint64)


def _fixed(
    pairs: Sequence[tuple[int, int] | None], *, compiled: bool = True
) -> list[tuple[int, int]]:
    """(value, status) of (unscaled, scale) pairs; None for a missing figure."""
    n = len(pairs)
    unscaled = np.array([p[0] if p else 7 for p in pairs], np.int64)
    scale = np.array([p[1] if p else 0 for p in pairs], np.int32)
    present = np.array([p is not None for p in pairs], bool)
    value, status = np.full(n, -9, np.int64), np.full(n, 9, np.uint8)
    with np.errstate(over="ignore"):
        _kernel("fixed_point", compiled=compiled)(unscaled, scale, present, value, status)
    return list(zip(value.tolist(), status.tolist(), strict=True))


def _expected(pair: tuple[int, int] | None) -> tuple[int, int]:
    if pair is None:
        return 0, fp.MISSING
    if pair[0] <= 0:
        return 0, fp.NOT_POSITIVE
    exact = Decimal(pair[0]).scaleb(8 - pair[1], _EXACT)
    value = int(exact.to_integral_value(ROUND_HALF_EVEN, _EXACT))
    if value >= 2**63:
        return 0, fp.OVERFLOW
    return (value, fp.OK) if value else (0, fp.NOT_POSITIVE)


@both
@settings(max_examples=60)
@given(st.lists(st.one_of(st.none(), st.tuples(_int64s, _scales)), min_size=1, max_size=60))
@example([(5, 9), (15, 9), (25, 9), (5 * 10**18, 27), (5 * 10**18 + 1, 27), (2**63 - 1, 28)])
@example([(2**63 - 1, 8), (2**63 - 1, 7), (92_233_720_368, 0), (92_233_720_369, 0), (1, -11)])
def test_fixed_point_equals_decimal_rounded_half_to_even(
    compiled: bool,
    pairs: list[tuple[int, int] | None],
) -> None:
    assert _fixed(pairs, compiled=compiled) == [_expected(pair) for pair in pairs]


@both
@pytest.mark.parametrize("scale", [-(2**31), 2**31 - 1])
def test_the_widest_scales_are_no_surprise(
    compiled: bool,
    scale: int,
) -> None:
    status = fp.OVERFLOW if scale < 0 else fp.NOT_POSITIVE
    assert _fixed([(1, scale), (2**63 - 1, scale)], compiled=compiled) == [(0, status)] * 2


def test_fractional_price_5_25_is_525_at_scale_2() -> None:
    assert _fixed([(525, 2)]) == [(525_000_000, fp.OK)]
    low, high = _limbs([525_000_000])
    assert fp.decimal_array(low, high, fp.SCALE).to_pylist() == ["5.25"]


def test_stored_scale_does_not_change_the_result() -> None:
    pairs = [(525, 2), (5_250, 3), (525_000_000, 8), (5_250_000_000_000, 12), (525 * 10**16, 18)]
    assert _fixed(pairs) == [(525_000_000, fp.OK)] * len(pairs)
    assert _fixed([(100, 0), (1, -2), (10**18, 16)]) == [(10**10, fp.OK)] * 3


def test_a_figure_too_small_for_the_scale_is_not_positive() -> None:
    assert _fixed([(1, 8), (1, 9), (5, 9), (6, 9)]) == [
        (1, fp.OK),
        (0, fp.NOT_POSITIVE),
        (0, fp.NOT_POSITIVE),  # a tie, to the even zero
        (1, fp.OK),
    ]


def test_the_largest_figure_is_the_last_that_fits_int64() -> None:
    assert _fixed([(2**63 - 1, 8), (2**63 - 1, 7)]) == [(2**63 - 1, fp.OK), (0, fp.OVERFLOW)]
    largest = (2**63 - 1) // 10**8
    assert _fixed([(largest, 0), (largest + 1, 0)]) == [(largest * 10**8, fp.OK), (0, fp.OVERFLOW)]


@both
@settings(max_examples=100)
@given(
    a=st.one_of(st.integers(0, 2**63 - 1), st.integers(0, 2**33)),
    b=st.one_of(st.integers(0, 2**63 - 1), st.integers(0, 2**33)),
)
@example(a=2**63 - 1, b=2**63 - 1)
@example(a=2**32 - 1, b=2**32 + 1)
def test_multiply_wide_equals_python(
    compiled: bool,
    a: int,
    b: int,
) -> None:
    with np.errstate(over="ignore"):
        low, high = _kernel("multiply_wide", compiled=compiled)(np.int64(a), np.int64(b))
    assert int(low) + (int(high) << 64) == a * b


@both
@settings(max_examples=100)
@given(a=_wides, b=_wides)
@example(a=_LIMB, b=1)
@example(a=2**127 - 1, b=2**127)
def test_add_wide_equals_python(
    compiled: bool,
    a: int,
    b: int,
) -> None:
    b = min(b, 2**128 - 1 - a)  # the caller's part of the contract
    limbs = [np.uint64(x) for x in (a & _LIMB, a >> 64, b & _LIMB, b >> 64)]
    with np.errstate(over="ignore"):
        low, high = _kernel("add_wide", compiled=compiled)(*limbs)
    assert int(low) + (int(high) << 64) == a + b


def _text(number: int, places: int) -> str:
    plain = format(Decimal(number).scaleb(-places, _EXACT), "f")
    return plain.rstrip("0").rstrip(".") if "." in plain else plain


@settings(max_examples=100)
@given(st.lists(_wides, max_size=20), st.sampled_from([0, 1, 8, 16, 38, 44]))
@example([0, 1, 10, 99, 100, 2**128 - 1], 8)
@example([10**17, 10**16, 10**15], 16)
def test_decimal_array_equals_decimal_formatting(numbers: list[int], places: int) -> None:
    low, high = _limbs(numbers)
    expected = [_text(number, places) for number in numbers]
    assert fp.decimal_array(low, high, places).to_pylist() == expected


@settings(max_examples=50)
@given(st.lists(st.integers(0, 2**63 - 1), max_size=20), st.sampled_from([0, 8]))
def test_decimal_array_of_one_limb_takes_strided_fields_of_any_integer_type(
    numbers: list[int], places: int
) -> None:
    expected = [_text(number, places) for number in numbers]
    records = np.zeros(len(numbers), [("other", "i1"), ("figure", "i8")])
    records["figure"] = numbers
    for column in (records["figure"], np.array(numbers, np.uint64)):
        array = fp.decimal_array(column, None, places)
        array.validate(full=True)
        assert array.to_pylist() == expected


@settings(max_examples=20)
@given(st.lists(_wides, min_size=1, max_size=10), st.sampled_from([0, 8, 16, 44]))
def test_text_is_the_same_uncompiled(numbers: list[int], places: int) -> None:
    low, high = _limbs(numbers)
    texts = []
    for kernel in (fp._write_text, fp._write_text.py_func):
        offsets = np.empty(len(numbers) + 1, np.int32)
        text = np.empty(len(numbers) * (fp._DIGITS + 1), np.uint8)
        with np.errstate(over="ignore"):
            end = kernel(low, high, places, offsets, text)
        texts.append((end, offsets.tolist(), text[:end].tobytes()))
    assert texts[0] == texts[1]


@st.composite
def _divisions(draw: st.DrawFn) -> tuple[int, int]:
    """Numerator and divisor whose quotient fits 64 bits; ties and divisor 0 among them."""
    divisor = draw(st.one_of(st.integers(0, 126).map(lambda k: 2**k), _wides.map(lambda x: x >> 1)))
    if draw(st.booleans()):
        quotient = draw(st.one_of(st.integers(0, 2**64 - 2), st.integers(0, 9)))
        rest = draw(st.sampled_from([0, divisor // 2, (divisor + 1) // 2, max(divisor - 1, 0)]))
        numerator = quotient * divisor + rest
    else:
        numerator = draw(_wides)
    most = max((2**64 - 1) * divisor, 0)
    return min(numerator, most if divisor else 2**128 - 1, 2**128 - 1), divisor


def _quotient(numerator: int, divisor: int) -> int:
    if not divisor:
        return 0
    exact = _EXACT.divide(Decimal(numerator), Decimal(divisor))
    return int(exact.to_integral_value(ROUND_HALF_EVEN, _EXACT))


@both
@settings(max_examples=60)
@given(st.lists(_divisions(), min_size=1, max_size=8))
@example([(5, 2), (7, 2), (1, 2), (3, 2), (2**127, 2**126), (0, 5), (5, 0), (2**128 - 1, 0)])
def test_divide_wide_equals_decimal_rounded_half_to_even(
    compiled: bool,
    pairs: list[tuple[int, int]],
) -> None:
    low, high = _limbs([numerator for numerator, _ in pairs])
    divisor_low, divisor_high = _limbs([divisor for _, divisor in pairs])
    quotient = np.full(len(pairs), 9, np.uint64)
    with np.errstate(over="ignore"):
        _kernel("divide_wide", compiled=compiled)(low, high, divisor_low, divisor_high, quotient)
    assert quotient.tolist() == [_quotient(*pair) for pair in pairs]


@settings(max_examples=30)
@given(_divisions().filter(lambda pair: pair[1] > 0))
def test_one_division_is_the_same_uncompiled(pair: tuple[int, int]) -> None:
    limbs = [np.uint64(x) for number in pair for x in (number & _LIMB, number >> 64)]
    with np.errstate(over="ignore"):
        assert int(fp._divide_one.py_func(*limbs)) == _quotient(*pair)


def test_a_sum_of_2_to_the_32_largest_products_fits() -> None:
    largest = 2**fp.PRODUCT_LIMIT_BITS - 1
    assert largest * 2**32 < 2**128
    total = [np.uint64(0), np.uint64(0)]
    for _ in range(1_000):
        total = list(fp.add_wide(*total, np.uint64(largest & _LIMB), np.uint64(largest >> 64)))
    assert int(total[0]) + (int(total[1]) << 64) == 1_000 * largest
