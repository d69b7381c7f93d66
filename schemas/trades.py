"""Column codec of trades: protobuf bytes to fixed-point columns.

`TradeCodec` decodes a whole batch with compiled loops (about 8 M records/s). A value of a
rare shape or with a fault goes alone to the stock protobuf library (about 3 us), so a bad
record costs its neighbours nothing. `decode_one` is the reference: one record with the stock
library.

Columns: `price` and `quantity` int64 of 1e-8 (positive, product below 2**96), `side` int8 (0
when the taker bought), `seq` int64 (0: unknown).
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from google.protobuf.message import DecodeError
from numba import njit
from numpy.typing import NDArray

from schemas import fixed_point, market_pb2
from schemas.key_codes import DELETE, FIRST_PRINTABLE, KEY_BYTES, intern_keys
from schemas.stream import Decoded, Int64s
from schemas.trade_wire import Fields, meanings_of, read_fields
from schemas.wire import strip_header

__all__ = ["FORMATS", "REASONS", "TradeCodec", "TradeColumns", "decode_one"]

REASONS = (
    "no_value",
    "no_wire_header",
    "undecodable",
    "missing_instrument",
    "invalid_instrument",
    "missing_timestamp",
    "invalid_timestamp",
    "invalid_side",
    "missing_price",
    "price_not_positive",
    "price_overflow",
    "missing_quantity",
    "quantity_not_positive",
    "quantity_overflow",
    "notional_overflow",
)
_REASON = {name: 1 + i for i, name in enumerate(REASONS)}
_NO_VALUE = _REASON["no_value"]
_NO_WIRE_HEADER = _REASON["no_wire_header"]
_UNDECODABLE = _REASON["undecodable"]
_MISSING_INSTRUMENT = _REASON["missing_instrument"]
_INVALID_INSTRUMENT = _REASON["invalid_instrument"]
_MISSING_TIMESTAMP = _REASON["missing_timestamp"]
_INVALID_TIMESTAMP = _REASON["invalid_timestamp"]
_INVALID_SIDE = _REASON["invalid_side"]
_MISSING_PRICE = _REASON["missing_price"]
_MISSING_QUANTITY = _REASON["missing_quantity"]
_NOTIONAL_OVERFLOW = _REASON["notional_overflow"]

FORMATS = ("trade", "order_execution_report")

_YEAR_10000_MS = 253_402_300_800_000  # the last year that ISO-8601 writes with four digits
_NOTIONAL_HIGH = np.uint64(2 ** (fixed_point.PRODUCT_LIMIT_BITS - 64))


class TradeColumns(NamedTuple):
    """One record as the reference decoder sees it; `reason` is 0 for a good one."""

    reason: int
    key: str
    event_time_ms: int
    price: int
    quantity: int
    side: int
    seq: int


@njit(cache=True)
def _judge(
    event_time_ms: NDArray[np.int64],
    side: NDArray[np.int32],
    price: NDArray[np.int64],
    price_status: NDArray[np.uint8],
    quantity: NDArray[np.int64],
    quantity_status: NDArray[np.uint8],
    reasons: NDArray[np.uint8],
) -> None:
    """The first thing that is wrong with each record that has no reason yet."""
    for i in range(len(reasons)):
        if reasons[i] != 0:
            continue
        if event_time_ms[i] == 0:
            reasons[i] = _MISSING_TIMESTAMP
        elif event_time_ms[i] < 0 or event_time_ms[i] >= _YEAR_10000_MS:
            reasons[i] = _INVALID_TIMESTAMP
        elif side[i] != 0 and side[i] != 1:
            reasons[i] = _INVALID_SIDE
        elif price_status[i] != fixed_point.OK:
            reasons[i] = _MISSING_PRICE - 1 + price_status[i]
        elif quantity_status[i] != fixed_point.OK:
            reasons[i] = _MISSING_QUANTITY - 1 + quantity_status[i]
        else:
            _, high = fixed_point.multiply_wide(price[i], quantity[i])
            if high >= _NOTIONAL_HIGH:
                reasons[i] = _NOTIONAL_OVERFLOW


def _key_reason(key: str) -> int:
    """Reasons of a key: it must suit a Kafka key, a text column and a terminal."""
    if not key:
        return _MISSING_INSTRUMENT
    if len(key.encode()) > KEY_BYTES or any(
        ord(c) < FIRST_PRINTABLE or ord(c) == DELETE for c in key
    ):
        return _INVALID_INSTRUMENT
    return 0


class TradeCodec:
    """Decodes `Trade` or `OrderExecutionReport` values; see `schemas.stream.Codec`.

    Args:
        message_format: one of `FORMATS`.
        confluent_wire: whether values carry the schema registry's header (a zero byte, a
            four-byte schema id, and the message index); it is stripped.
    """

    def __init__(self, message_format: str = "trade", *, confluent_wire: bool = False) -> None:
        self._is_report = message_format == "order_execution_report"
        self._message = market_pb2.OrderExecutionReport if self._is_report else market_pb2.Trade
        self._meanings = meanings_of(self._message)
        self._confluent_wire = confluent_wire

    @property
    def reasons(self) -> tuple[str, ...]:
        """Reject reasons, indexed by code - 1."""
        return REASONS

    def decode(self, values: pa.BinaryArray) -> Decoded:
        """Decode (n,) values; see the module for the columns."""
        reasons = np.zeros(len(values), np.uint8)
        if values.null_count:
            reasons[values.is_null().to_numpy(zero_copy_only=False)] = _NO_VALUE
            values = pc.fill_null(values, b"")
        if self._confluent_wire:
            values, framed = strip_header(values)
            reasons[~framed & (reasons == 0)] = _NO_WIRE_HEADER
        fields = read_fields(values, self._meanings)
        if self._is_report:
            key = pa.array(fields.key_id).dictionary_encode()
            codes, names = np.array(key.indices), [str(name) for name in key.dictionary.tolist()]
        else:
            codes, names = intern_keys(values, fields.key_start, fields.key_end, fields.odd)
        odd = np.flatnonzero(fields.odd & (reasons == 0))
        if len(odd):
            names = self._read_odd(values, odd.tolist(), fields, codes, names, reasons)
        price, price_status = _figures(fields.price, fields.price_scale, fields.has_price)
        quantity, quantity_status = _figures(
            fields.quantity, fields.quantity_scale, fields.has_quantity
        )
        side = fields.side
        _judge(fields.time_ms, side, price, price_status, quantity, quantity_status, reasons)
        columns: Mapping[str, NDArray[Any]] = {
            "price": price,
            "quantity": quantity,
            "side": side.astype(np.int8),
            "seq": fields.seq,
        }
        return Decoded(fields.time_ms, codes, names, columns, reasons)

    def _read_odd(
        self,
        values: pa.BinaryArray,
        odd: list[int],
        fields: Fields,
        codes: NDArray[np.int32],
        names: list[str],
        reasons: NDArray[np.uint8],
    ) -> list[str]:
        """Put in odd places what the stock library reads there; all names of the batch."""
        code_of = {name: code for code, name in enumerate(names)}
        for i in odd:
            message: Any = self._message()
            try:
                message.ParseFromString(values[i].as_py())
            except DecodeError:
                reasons[i] = _UNDECODABLE
                continue
            key = str(message.instrument_id) if self._is_report else message.instrument
            reasons[i] = _key_reason(key)
            codes[i] = code_of.setdefault(key, len(code_of))
            fields.time_ms[i] = message.timestamp_ms
            fields.price[i], fields.price_scale[i] = message.price.unscaled, message.price.scale
            fields.has_price[i] = message.HasField("price")
            fields.quantity[i] = message.quantity.unscaled
            fields.quantity_scale[i] = message.quantity.scale
            fields.has_quantity[i] = message.HasField("quantity")
            fields.side[i] = message.side
            fields.seq[i] = 0 if self._is_report else message.trade_seq
        return list(code_of)


def _figures(
    unscaled: Int64s, scale: NDArray[np.int32], present: NDArray[np.bool_]
) -> tuple[Int64s, NDArray[np.uint8]]:
    """(n,) `Decimal` messages as 1e-8 integers, and the status of each."""
    value = np.empty(len(unscaled), np.int64)
    status = np.empty(len(unscaled), np.uint8)
    fixed_point.fixed_point(unscaled, scale, present, value, status)
    return value, status


def decode_one(value: bytes | None, message_format: str = "trade") -> TradeColumns:
    """The reference decoder: one value without wire header, by the stock library."""

    def rejected(reason: int) -> TradeColumns:
        return TradeColumns(reason, "", 0, 0, 0, 0, 0)

    if value is None:
        return rejected(_NO_VALUE)
    is_report = message_format == "order_execution_report"
    message: Any = market_pb2.OrderExecutionReport() if is_report else market_pb2.Trade()
    try:
        message.ParseFromString(value)
    except DecodeError:
        return rejected(_UNDECODABLE)
    key = str(message.instrument_id) if is_report else message.instrument
    price, price_status = _one_figure(message, "price")
    quantity, quantity_status = _one_figure(message, "quantity")
    checks = (
        (_key_reason(key), True),
        (_MISSING_TIMESTAMP, message.timestamp_ms == 0),
        (_INVALID_TIMESTAMP, not 0 <= message.timestamp_ms < _YEAR_10000_MS),
        (_INVALID_SIDE, message.side not in (0, 1)),
        (_MISSING_PRICE - 1 + price_status, price_status != fixed_point.OK),
        (_MISSING_QUANTITY - 1 + quantity_status, quantity_status != fixed_point.OK),
        (_NOTIONAL_OVERFLOW, price * quantity >= 2**fixed_point.PRODUCT_LIMIT_BITS),
    )
    for reason, applies in checks:
        if applies and reason:
            return rejected(reason)
    seq = 0 if is_report else message.trade_seq
    return TradeColumns(0, key, message.timestamp_ms, price, quantity, message.side, seq)


def _one_figure(message: Any, name: str) -> tuple[int, int]:  # noqa: ANN401  # either message
    """A `Decimal` field as a 1e-8 integer, rounded half to even, and its status."""
    if not message.HasField(name):
        return 0, fixed_point.MISSING
    figure = getattr(message, name)
    if figure.unscaled <= 0:
        return 0, fixed_point.NOT_POSITIVE
    shift = fixed_point.SCALE - figure.scale
    if shift >= 0:
        value = figure.unscaled * 10 ** min(shift, 19)
    elif shift < -19:  # noqa: PLR2004  # nothing in int64 reaches half of 10**20
        value = 0
    else:
        value, rest = divmod(figure.unscaled, 10**-shift)
        value += 2 * rest > 10**-shift or (2 * rest == 10**-shift and value % 2 == 1)
    if value >= 2**63:
        return 0, fixed_point.OVERFLOW
    return (value, fixed_point.OK) if value else (0, fixed_point.NOT_POSITIVE)
