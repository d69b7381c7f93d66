"""Lower candle cells to rows: exact figures as text, times as timestamps.

A pure function of the cells. VWAP is quote volume / volume, rounded half to even at eight
places; a gap has none.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from schemas.candles import CANDLE_SCHEMA, INTERVALS_MS
from schemas.fixed_point import SCALE, decimal_array, divide_wide

__all__ = ["candle_rows"]

_UTC_MS = pa.timestamp("ms", tz="UTC")
_NAMES = {length: name for name, length in INTERVALS_MS.items()}


def _times(ms: NDArray[np.int64], absent: NDArray[np.bool_] | None = None) -> pa.TimestampArray:
    return pa.array(ms, pa.int64(), mask=absent).view(_UTC_MS)


def _pick(names: Sequence[str], codes: NDArray[np.int32]) -> pa.StringArray:
    return pa.array([names[code] for code in codes.tolist()], pa.string())


def candle_rows(
    cells: NDArray[Any],
    names: Sequence[str],
    intervals_ms: Sequence[int],
    closed: bool,  # noqa: FBT001  # an aggregate's `lower`
) -> pa.RecordBatch:
    """Rows of (n,) candle cells, in their order.

    Args:
        cells: (n,) cell records of `operators.candle.CANDLE`.
        names: instruments by the cells' `key`.
        intervals_ms: interval lengths by the cells' `interval`.
        closed: whether these are final rows or previews.

    Returns:
        (n,) rows of `schemas.candles.CANDLE_SCHEMA`.
    """
    gap = cells["count"] == 0
    unsequenced = cells["seq_count"] == 0

    def wide(name: str, places: int) -> pa.StringArray:
        return decimal_array(cells[f"{name}_low"], cells[f"{name}_high"], places)

    vwap = np.empty(len(cells), np.uint64)
    divide_wide(
        np.ascontiguousarray(cells["quote_low"]),
        np.ascontiguousarray(cells["quote_high"]),
        np.ascontiguousarray(cells["volume_low"]),
        np.ascontiguousarray(cells["volume_high"]),
        vwap,
    )
    columns = {
        "instrument": _pick(names, cells["key"]),
        "interval": _pick([_NAMES[ms] for ms in intervals_ms], cells["interval"]),
        "open_time": _times(cells["start"]),
        "close_time": _times(cells["end"]),
        "open": decimal_array(cells["open"], None, SCALE),
        "high": decimal_array(cells["high"], None, SCALE),
        "low": decimal_array(cells["low"], None, SCALE),
        "close": decimal_array(cells["close"], None, SCALE),
        "volume": wide("volume", SCALE),
        "quote_volume": wide("quote", 2 * SCALE),
        "vwap": pa.array(
            decimal_array(vwap, None, SCALE).to_numpy(zero_copy_only=False), pa.string(), mask=gap
        ),
        "trade_count": pa.array(cells["count"]),
        "taker_buy_volume": wide("buy_volume", SCALE),
        "taker_buy_quote_volume": wide("buy_quote", 2 * SCALE),
        "first_trade_seq": pa.array(cells["seq_first"], mask=unsequenced),
        "last_trade_seq": pa.array(cells["seq_last"], mask=unsequenced),
        "open_trade_time": _times(cells["open_time"], gap),
        "high_trade_time": _times(cells["high_time"], gap),
        "low_trade_time": _times(cells["low_time"], gap),
        "close_trade_time": _times(cells["close_time"], gap),
        "is_closed": pa.array(np.full(len(cells), closed)),
        "revision": pa.array(cells["emitted"]),
        "gap_filled": pa.array(gap),
        "complete": pa.array(cells["seq_hole"] == 0),
    }
    return pa.record_batch([columns[field.name] for field in CANDLE_SCHEMA], schema=CANDLE_SCHEMA)
