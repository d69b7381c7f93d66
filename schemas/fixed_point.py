"""Exact money: fixed point at 1e-8 in int64, sums in two uint64 limbs, decimal text out.

Prices and quantities are integers of 1e-8; a product is then an integer of 1e-16, and sums
of either need more than 64 bits. A wide number is (low, high): low + high * 2**64, never
negative. Integer addition is associative, so any split of the work gives the same bits.

Every function here is a plain loop over arrays, compiled; `.py_func` is the same code
uncompiled (wrap it in `numpy.errstate(over="ignore")`: limbs wrap on purpose).
"""

from typing import Any

import numpy as np
import pyarrow as pa
from numba import njit
from numpy.typing import NDArray

__all__ = [
    "MISSING",
    "NOT_POSITIVE",
    "OK",
    "OVERFLOW",
    "PRODUCT_LIMIT_BITS",
    "SCALE",
    "add_wide",
    "decimal_array",
    "divide_wide",
    "fixed_point",
    "multiply_wide",
]

SCALE = 8
"""Decimal places of prices and quantities."""

PRODUCT_LIMIT_BITS = 96
"""A product of price and quantity must stay below 2**96 (about 7.9e12 in units of 1e-16's
money), so that 2**32 of the largest trades fit a 128-bit sum."""

OK, MISSING, NOT_POSITIVE, OVERFLOW = 0, 1, 2, 3

_LOW_32 = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)
_64 = np.uint64(64)
_ONE = np.uint64(1)
_ZERO = np.uint64(0)
_TEN = np.uint64(10)
_CHUNK = np.uint64(10**9)
_MAX_SHIFT = 18  # 10**18 is the largest power of ten in int64
_POWERS = np.array([10**k for k in range(20)], dtype=np.uint64)
_INT64_MAX = np.uint64(2**63 - 1)
_DIGITS = 45
_TIES = np.uint64(2)


@njit(cache=True)
def fixed_point(
    unscaled: NDArray[np.int64],
    scale: NDArray[np.int32],
    present: NDArray[np.bool_],
    value: NDArray[np.int64],
    status: NDArray[np.uint8],
) -> None:
    """Bring unscaled / 10**scale to a positive integer of 1e-8, rounding half to even.

    All arrays are (n,); `value` and `status` are written. The stored scale does not change
    the result: 525 at scale 2 and 5250000000000 at scale 12 are both 525000000. Status is
    `OK`, `MISSING` (not present), `NOT_POSITIVE` (zero, negative, or rounded to zero) or
    `OVERFLOW` (2**63 and more); the value is 0 unless OK.
    """
    for i in range(len(unscaled)):
        value[i] = 0
        if not present[i]:
            status[i] = MISSING
            continue
        if unscaled[i] <= 0:
            status[i] = NOT_POSITIVE
            continue
        magnitude = np.uint64(unscaled[i])
        shift = np.int64(SCALE) - np.int64(scale[i])
        if shift >= 0:
            if shift > _MAX_SHIFT or magnitude > _INT64_MAX // _POWERS[shift]:
                status[i] = OVERFLOW
                continue
            magnitude = magnitude * _POWERS[shift]
        elif shift < -_MAX_SHIFT - 1:
            magnitude = _ZERO
        else:
            divisor = _POWERS[-shift]
            quotient = magnitude // divisor
            rest = magnitude - quotient * divisor
            half = divisor // _TIES
            if rest > half or (rest == half and (quotient & _ONE) == _ONE):
                quotient = quotient + _ONE
            magnitude = quotient
        if magnitude == _ZERO:
            status[i] = NOT_POSITIVE
            continue
        value[i] = np.int64(magnitude)
        status[i] = OK


@njit(cache=True)
def multiply_wide(a: int, b: int) -> tuple[np.uint64, np.uint64]:
    """Product of two non-negative int64 as (low, high), by schoolbook halves of 32 bits."""
    x = np.uint64(a)
    y = np.uint64(b)
    x_low = x & _LOW_32
    x_high = x >> _32
    y_low = y & _LOW_32
    y_high = y >> _32
    low = x_low * y_low
    middle = x_high * y_low + (low >> _32)
    other = x_low * y_high + (middle & _LOW_32)
    return (other << _32) | (low & _LOW_32), x_high * y_high + (middle >> _32) + (other >> _32)


@njit(cache=True)
def add_wide(
    low: np.uint64, high: np.uint64, other_low: np.uint64, other_high: np.uint64
) -> tuple[np.uint64, np.uint64]:
    """Sum of two wide numbers; the caller keeps it below 2**128."""
    total = low + other_low
    carry = _ONE if total < low else _ZERO
    return total, high + other_high + carry


@njit(cache=True)
def _divide_one(
    n_low: np.uint64, n_high: np.uint64, d_low: np.uint64, d_high: np.uint64
) -> np.uint64:
    """Quotient rounded half to even; restoring division, one bit a step."""
    rest_low = _ZERO
    rest_high = _ZERO
    quotient = _ZERO
    for step in range(128):
        bit = np.uint64(127 - step)
        limb = n_high if bit >= _64 else n_low
        top = (limb >> (bit % _64)) & _ONE
        rest_high = (rest_high << _ONE) | (rest_low >> np.uint64(63))
        rest_low = (rest_low << _ONE) | top
        quotient = quotient << _ONE
        if rest_high > d_high or (rest_high == d_high and rest_low >= d_low):
            borrow = _ONE if rest_low < d_low else _ZERO
            rest_low = rest_low - d_low
            rest_high = rest_high - d_high - borrow
            quotient = quotient | _ONE
    rest_high = (rest_high << _ONE) | (rest_low >> np.uint64(63))
    rest_low = rest_low << _ONE
    above = rest_high > d_high or (rest_high == d_high and rest_low > d_low)
    tie = rest_high == d_high and rest_low == d_low
    if above or (tie and (quotient & _ONE) == _ONE):
        quotient = quotient + _ONE
    return quotient


@njit(cache=True)
def divide_wide(
    low: NDArray[np.uint64],
    high: NDArray[np.uint64],
    divisor_low: NDArray[np.uint64],
    divisor_high: NDArray[np.uint64],
    quotient: NDArray[np.uint64],
) -> None:
    """Write (n,) quotients, rounded half to even; 0 where the divisor is 0.

    The caller knows that a quotient fits 64 bits and a divisor 127: an average price of
    prices below 2**63 over less than 2**64 trades does.
    """
    for i in range(len(low)):
        if divisor_low[i] == _ZERO and divisor_high[i] == _ZERO:
            quotient[i] = _ZERO
        else:
            quotient[i] = _divide_one(low[i], high[i], divisor_low[i], divisor_high[i])


@njit(cache=True)
def _write_text(
    low: NDArray[np.uint64],
    high: NDArray[np.uint64],
    places: int,
    offsets: NDArray[np.int32],
    text: NDArray[np.uint8],
) -> int:
    digits = np.zeros(_DIGITS, np.uint8)
    limbs = np.zeros(4, np.uint64)
    end = 0
    offsets[0] = 0
    for i in range(len(low)):
        limbs[0] = high[i] >> _32
        limbs[1] = high[i] & _LOW_32
        limbs[2] = low[i] >> _32
        limbs[3] = low[i] & _LOW_32
        digits[:] = 0
        at = _DIGITS
        while at > 0:  # nine digits a round, least significant first
            rest = _ZERO
            for k in range(4):
                part = (rest << _32) | limbs[k]
                limbs[k] = part // _CHUNK
                rest = part - limbs[k] * _CHUNK
            for _ in range(9):
                at -= 1
                tenth = rest // _TEN
                digits[at] = np.uint8(rest - tenth * _TEN)
                rest = tenth
        point = _DIGITS - places
        first = 0
        while first < point - 1 and digits[first] == 0:
            first += 1
        last = _DIGITS
        while last > point and digits[last - 1] == 0:
            last -= 1
        for at in range(first, last):
            if at == point:
                text[end] = 46  # the decimal point
                end += 1
            text[end] = 48 + digits[at]
            end += 1
        offsets[i + 1] = end
    return end


def decimal_array(low: NDArray[Any], high: NDArray[Any] | None, places: int) -> pa.StringArray:
    """Decimal text of (n,) wide integers of 10**-places.

    Args:
        low: (n,) integers, not negative; low limbs.
        high: (n,) uint64 high limbs; None when every number fits the low limb.
        places: decimal places, at most 44.

    Returns:
        (n,) strings without exponent, trailing zeros or a trailing point: `5.25`, `100`, `0`.
    """
    n = len(low)
    low_limbs = np.ascontiguousarray(low).astype(np.uint64)
    high_limbs = (
        np.zeros(n, np.uint64) if high is None else np.ascontiguousarray(high).astype(np.uint64)
    )
    offsets = np.empty(n + 1, np.int32)
    text = np.empty(n * (_DIGITS + 1), np.uint8)
    end = _write_text(low_limbs, high_limbs, places, offsets, text)
    return pa.StringArray.from_buffers(n, pa.py_buffer(offsets), pa.py_buffer(text[:end].copy()))
