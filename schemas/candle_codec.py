"""Column codec of our own candles: `Candle` messages to fixed-point columns.

So a flow can take `candles.1m` instead of the trades it was made of. An event is a whole
candle; it happens in the candle's last millisecond. A corrected candle stands for all of
the one before, see `operators.rolling_candles`.

Columns: `open`, `high`, `low`, `close` int64 of 1e-8; `volume_low`, `volume_high` limbs of
1e-8 and `quote_low`, `quote_high` limbs of 1e-16, uint64; `count`, `first_seq`, `last_seq`
int64; `open_time`, `high_time`, `low_time`, `close_time` int64 ms, of the trades. All are 0
in a candle without trades.
"""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from google.protobuf.message import DecodeError
from numba import njit
from numpy.typing import NDArray
from ptars import HandlerPool

from schemas import market_pb2
from schemas.binary import binary_views
from schemas.candles import INTERVALS_MS
from schemas.fixed_point import SCALE, add_wide
from schemas.key_codes import is_key
from schemas.stream import Decoded
from schemas.wire import strip_header

__all__ = ["CANDLE_REASONS", "CandleCodec"]

CANDLE_REASONS = (
    "no_value",
    "no_wire_header",
    "undecodable",
    "missing_instrument",
    "invalid_instrument",
    "other_interval",
    "not_closed",
    "invalid_time",
    "invalid_price",
    "invalid_volume",
    "invalid_count",
    "invalid_trade_time",
)
_REASON = {name: 1 + i for i, name in enumerate(CANDLE_REASONS)}

_HANDLER = HandlerPool([market_pb2.Candle.DESCRIPTOR.file]).get_for_message(
    market_pb2.Candle.DESCRIPTOR
)
_TRUSTED_BYTES = 4_096  # a longer value is no candle; groups in groups could harm the decoder
_YEAR_10000_MS = 253_402_300_800_000
_PRICES = ("open", "high", "low", "close")
_TRADE_TIMES = ("open", "high", "low", "close")
_MOST_DIGITS = 38  # 10**38 is below 2**128
_ZERO, _NINE, _POINT = 48, 57, 46
# Limits that let a million of the largest candles be summed exactly.
_COUNT_LIMIT = 2**32
_VOLUME_HIGH_LIMIT = np.uint64(2**32)
_QUOTE_HIGH_LIMIT = np.uint64(2**44)
_PRICE_LIMIT = np.uint64(2**63)


@njit(cache=True)
def _read_decimals(
    offsets: NDArray[np.int32],
    text: NDArray[np.uint8],
    places: int,
    low: NDArray[np.uint64],
    high: NDArray[np.uint64],
    valid: NDArray[np.bool_],
) -> None:
    """Decimal text as wide integers of 10**-places; without sign, exponent or rounding."""
    for i in range(len(valid)):
        low[i] = 0
        high[i] = 0
        digits = 0
        after_point = -1
        good = offsets[i + 1] > offsets[i]
        for at in range(offsets[i], offsets[i + 1]):
            character = text[at]
            if character == _POINT and after_point < 0 and digits > 0:
                after_point = 0
                continue
            good = good and _ZERO <= character <= _NINE
            digits += 1
            if after_point >= 0:
                after_point += 1
            good = good and digits <= _MOST_DIGITS
            if not good:
                break
            _shift_in(low, high, i, np.uint64(character - _ZERO))
        missing = places - max(after_point, 0)
        good = good and after_point != 0 and missing >= 0 and digits + missing <= _MOST_DIGITS
        valid[i] = good
        if good:
            for _ in range(missing):
                _shift_in(low, high, i, np.uint64(0))


@njit(cache=True)
def _shift_in(low: NDArray[np.uint64], high: NDArray[np.uint64], i: int, digit: np.uint64) -> None:
    """Ten times a wide number and a digit; the caller keeps it below 10**38."""
    tens_low = low[i] << np.uint64(3)
    tens_high = (high[i] << np.uint64(3)) | (low[i] >> np.uint64(61))
    twos_low = low[i] << np.uint64(1)
    twos_high = (high[i] << np.uint64(1)) | (low[i] >> np.uint64(63))
    tens_low, tens_high = add_wide(tens_low, tens_high, twos_low, twos_high)
    low[i], high[i] = add_wide(tens_low, tens_high, digit, np.uint64(0))


class CandleCodec:
    """Decodes `Candle` values of one interval; see `schemas.stream.Codec`.

    Args:
        interval: a name in `schemas.candles.INTERVALS_MS`; other candles are rejected.
        confluent_wire: whether values carry the schema registry's header.
    """

    def __init__(self, interval: str, *, confluent_wire: bool = False) -> None:
        self._interval = interval
        self._length_ms = INTERVALS_MS[interval]
        self._confluent_wire = confluent_wire

    @property
    def reasons(self) -> tuple[str, ...]:
        """Reject reasons, indexed by code - 1."""
        return CANDLE_REASONS

    def decode(self, values: pa.BinaryArray) -> Decoded:
        """Decode (n,) values; see the module for the columns."""
        reasons = np.zeros(len(values), np.uint8)
        if values.null_count:
            reasons[values.is_null().to_numpy(zero_copy_only=False)] = _REASON["no_value"]
            values = pc.fill_null(values, b"")
        if self._confluent_wire:
            values, framed = strip_header(values)
            reasons[~framed & (reasons == 0)] = _REASON["no_wire_header"]
        batch = _read(values)
        if batch is None:
            batch = _HANDLER.array_to_record_batch(_rewrite(values, reasons))
        return self._columns(batch, reasons)

    def _columns(self, batch: pa.RecordBatch, reasons: NDArray[np.uint8]) -> Decoded:
        def judge(reason: str, bad: NDArray[np.bool_]) -> None:
            reasons[bad & (reasons == 0)] = _REASON[reason]

        def number(name: str) -> NDArray[np.int64]:
            column: NDArray[np.int64] = batch[name].to_numpy().copy()
            return column

        keys = batch["instrument"].dictionary_encode()
        names = [str(name) for name in keys.dictionary.to_pylist()]
        codes: NDArray[np.int32] = keys.indices.to_numpy()
        judge("missing_instrument", np.array([not name for name in names], bool)[codes])
        judge("invalid_instrument", np.array([not is_key(name) for name in names], bool)[codes])
        judge("other_interval", _flags(pc.not_equal(batch["interval"], self._interval)))
        judge("not_closed", ~_flags(batch["is_closed"]))
        start, end = number("open_time_ms"), number("close_time_ms")
        in_range = (start >= 0) & (start < _YEAR_10000_MS) & (start % self._length_ms == 0)
        judge("invalid_time", ~in_range | (end != start + self._length_ms))

        count = number("trade_count")
        has_trades = count > 0
        columns: dict[str, NDArray[Any]] = {"count": count}
        for name in _PRICES:
            low, high, valid = _decimals(batch[name], SCALE)
            valid &= (low > 0) & (high == 0) & (low < _PRICE_LIMIT)
            judge("invalid_price", has_trades & ~valid)
            columns[name] = low.astype(np.int64)
        lowest, highest = columns["low"], columns["high"]
        for name in _PRICES:
            outside = (columns[name] < lowest) | (columns[name] > highest)
            judge("invalid_price", has_trades & outside)
        for name, text, places, limit in (
            ("volume", "volume", SCALE, _VOLUME_HIGH_LIMIT),
            ("quote", "quote_volume", 2 * SCALE, _QUOTE_HIGH_LIMIT),
        ):
            low, high, valid = _decimals(batch[text], places)
            valid &= (high < limit) & ((low > 0) | (high > 0))
            judge("invalid_volume", has_trades & ~valid)
            columns[f"{name}_low"], columns[f"{name}_high"] = low, high
        judge("invalid_count", (count < 0) | (count >= _COUNT_LIMIT))
        for name in _TRADE_TIMES:
            time = number(f"{name}_trade_time_ms")
            judge("invalid_trade_time", has_trades & ((time < start) | (time >= end)))
            columns[f"{name}_time"] = time
        columns["first_seq"] = number("first_trade_seq")
        columns["last_seq"] = number("last_trade_seq")
        for column in columns.values():
            column[~has_trades] = 0
        return Decoded(end - 1, codes, names, columns, reasons)


def _read(values: pa.BinaryArray) -> pa.RecordBatch | None:
    """The fields of (n,) values; None when the fast decoder may not read, or refuses, some."""
    longest = pc.max(pc.binary_length(values)).as_py()
    if longest is not None and longest > _TRUSTED_BYTES:
        return None
    try:
        return _HANDLER.array_to_record_batch(values)
    except ValueError:
        return None
    except BaseException as error:
        # A length near 2**64 makes it panic, with an exception that is no Exception and has
        # no importable name; it holds no state that this could have harmed.
        if type(error).__name__ != "PanicException":
            raise
        return None


def _rewrite(values: pa.BinaryArray, reasons: NDArray[np.uint8]) -> pa.BinaryArray:
    """What the stock library reads in each value: known fields, or nothing with a reason."""
    rewritten = []
    for i, value in enumerate(values.to_pylist()):
        candle = market_pb2.Candle()
        try:
            candle.ParseFromString(value)
        except DecodeError:
            reasons[i] = reasons[i] or _REASON["undecodable"]
            candle.Clear()
        candle.DiscardUnknownFields()
        rewritten.append(candle.SerializeToString())
    return pa.array(rewritten, pa.binary())


def _flags(column: pa.BooleanArray) -> NDArray[np.bool_]:
    flags: NDArray[np.bool_] = column.to_numpy(zero_copy_only=False)
    return flags


def _decimals(
    texts: pa.StringArray, places: int
) -> tuple[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.bool_]]:
    """Limbs of (n,) decimal texts, and which of them are decimals."""
    offsets, data = binary_views(texts)
    n = len(texts)
    low, high, valid = np.empty(n, np.uint64), np.empty(n, np.uint64), np.empty(n, bool)
    _read_decimals(offsets, data, places, low, high, valid)
    return low, high, valid
