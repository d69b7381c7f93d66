"""Lower rolling windows to rows: exact figures as text, times as timestamps.

A pure function of the kernel's rows. Percent and average are rounded half to even at eight
places; everything else is exact. An empty window has volumes of 0 and no prices.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numba import njit
from numpy.typing import NDArray

from operators.rolling_table import RollingRule
from schemas.fixed_point import SCALE, decimal_array, divide_wide, multiply_wide
from schemas.statistics import STATISTICS_SCHEMA

__all__ = ["rolling_rows"]

_UTC_MS = pa.timestamp("ms", tz="UTC")
_PERCENT = 100 * 10**SCALE
# Scalars of Arrow's own: it takes a tenth of a millisecond to make one of Python's.
_NULL, _NOTHING, _ZERO, _MINUS = (pa.scalar(text, pa.string()) for text in (None, "", "0", "-"))


@njit(cache=True)
def _times_percent(
    change: NDArray[np.int64], low: NDArray[np.uint64], high: NDArray[np.uint64]
) -> None:
    for i in range(len(change)):
        low[i], high[i] = multiply_wide(change[i], _PERCENT)


def _percent(
    change: NDArray[np.int64], price: NDArray[np.int64]
) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Limbs of 100 change / price at 1e-8, half to even; both (n,), price is positive.

    The quotient may need more than 64 bits, so the high limb is divided first; what is left
    of it is below the price, and the rest of the quotient fits.
    """
    low, high = np.empty(len(change), np.uint64), np.empty(len(change), np.uint64)
    _times_percent(change, low, high)
    divisor = price.astype(np.uint64)
    quotient_high, left = np.divmod(high, divisor)
    quotient = np.empty(len(change), np.uint64)
    divide_wide(low, left, divisor, np.zeros_like(divisor), quotient)
    # With something left the quotient is 2 or more, unless it was rounded up to 2**64.
    return quotient, quotient_high + ((quotient == 0) & (left > 0))


def _signed(text: pa.StringArray, negative: NDArray[np.bool_]) -> pa.StringArray:
    """Put a minus before negative numbers other than 0."""
    if not negative.any():
        return text
    minus = pc.and_(pa.array(negative), pc.not_equal(text, _ZERO))
    return pc.if_else(minus, pc.binary_join_element_wise(_MINUS, text, _NOTHING), text)


def rolling_rows(rows: NDArray[Any], names: Sequence[str], rule: RollingRule) -> pa.RecordBatch:
    """Rows of (n,) windows, in their order.

    Args:
        rows: (n,) `operators.rolling_ticks.ROW`.
        names: instruments by the rows' `key`.
        rule: the windows' parameters.

    Returns:
        (n,) rows of `schemas.statistics.STATISTICS_SCHEMA`.
    """
    empty = rows["count"] == 0
    absent = pa.array(empty) if empty.any() else None

    def figure(low: NDArray[Any], high: NDArray[Any] | None = None) -> pa.StringArray:
        text = decimal_array(low, high, SCALE)
        return text if absent is None else pc.if_else(absent, _NULL, text)

    def time(ms: NDArray[np.int64], mask: NDArray[np.bool_] | None = None) -> pa.TimestampArray:
        return pa.array(ms, pa.int64(), mask=mask).view(_UTC_MS)

    change = rows["last"] - rows["open"]
    falls = change < 0
    size = np.abs(change)
    average = np.empty(len(rows), np.uint64)
    volume_low, volume_high, quote_low, quote_high = (
        np.ascontiguousarray(rows[name])
        for name in ("volume_low", "volume_high", "quote_low", "quote_high")
    )
    divide_wide(quote_low, quote_high, volume_low, volume_high, average)
    columns = {
        "instrument": pa.array(names, pa.string()).take(pa.array(rows["key"])),
        "open_time": time(rows["tick"] - rule.window_ms),
        "close_time": time(rows["tick"]),
        "open": figure(rows["open"]),
        "high": figure(rows["high"]),
        "low": figure(rows["low"]),
        "last": figure(rows["last"]),
        "price_change": _signed(figure(size), falls),
        "price_change_percent": _signed(
            figure(*_percent(size, np.where(empty, 1, rows["open"]))), falls
        ),
        "volume": decimal_array(volume_low, volume_high, SCALE),
        "quote_volume": decimal_array(quote_low, quote_high, 2 * SCALE),
        "weighted_average_price": figure(average),
        "trade_count": pa.array(rows["count"]),
        "first_trade_id": pa.array(rows["first_seq"], mask=rows["first_seq"] <= 0),
        "last_trade_id": pa.array(rows["last_seq"], mask=rows["last_seq"] <= 0),
        "high_time": time(rows["high_time"], empty),
        "low_time": time(rows["low_time"], empty),
    }
    return pa.record_batch(
        [columns[field.name] for field in STATISTICS_SCHEMA], schema=STATISTICS_SCHEMA
    )
