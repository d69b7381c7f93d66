"""Rows of the exchange feed: trades with exact figures, their columns and protobuf form.

A figure is the decimal text that the exchange sent: it never was a binary float.
`TRADE_SCHEMA` has the columns of the table `trades`, in its order. Cost: about 5 us a trade
from tuple to message; the feed's trades are Python objects, since they come as JSON.
"""

from collections.abc import Sequence
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from ptars import HandlerPool

from schemas import market_pb2

__all__ = ["SIDES", "TRADE_SCHEMA", "TradeRow", "decimal_parts", "encode_trades", "trade_rows"]

SIDES = ("buy", "sell")
"""Direction of the taker as the exchange writes it; the index is the message's `Side`."""


class TradeRow(NamedTuple):
    """One trade; figures as plain decimal text, without exponent.

    Attributes:
        instrument: name.
        trade_seq: rises by one per trade of the instrument.
        timestamp_ms: epoch ms.
        price: may be negative for a combination.
        quantity: the exchange's `amount`.
        side: one of `SIDES`.
        trade_id: the exchange's own.
        index_price: None where the exchange sent none, as all that follow.
        mark_price: of the instrument at the trade.
        iv: implied volatility, options only.
        liquidation: M, T or MT: who was liquidated.
        block_trade_id: of a block trade.
        tick_direction: 0 to 3.
    """

    instrument: str
    trade_seq: int
    timestamp_ms: int
    price: str
    quantity: str
    side: str
    trade_id: str
    index_price: str | None = None
    mark_price: str | None = None
    iv: str | None = None
    liquidation: str | None = None
    block_trade_id: str | None = None
    tick_direction: int | None = None


_UTC_MS = pa.timestamp("ms", tz="UTC")

TRADE_SCHEMA = pa.schema(
    [
        ("instrument", pa.string()),
        ("trade_seq", pa.int64()),
        ("timestamp", _UTC_MS),
        ("price", pa.string()),
        ("quantity", pa.string()),
        ("side", pa.string()),
        ("trade_id", pa.string()),
        ("index_price", pa.string()),
        ("mark_price", pa.string()),
        ("iv", pa.string()),
        ("liquidation", pa.string()),
        ("block_trade_id", pa.string()),
        ("tick_direction", pa.int32()),
    ]
)

_FIGURES = ("price", "quantity", "index_price", "mark_price", "iv")
_HANDLER = HandlerPool([market_pb2.Trade.DESCRIPTOR.file]).get_for_message(
    market_pb2.Trade.DESCRIPTOR
)
_DECIMAL = _HANDLER.schema().field("price").type


def trade_rows(trades: Sequence[TradeRow]) -> pa.RecordBatch:
    """(n,) trades as a batch with `TRADE_SCHEMA`, in their order."""
    columns: list[Sequence[object]] = list(zip(*trades, strict=True)) or [()] * len(TRADE_SCHEMA)
    return pa.record_batch(
        [pa.array(column, field.type) for column, field in zip(columns, TRADE_SCHEMA, strict=True)],
        schema=TRADE_SCHEMA,
    )


def decimal_parts(text: str) -> tuple[int, int]:
    """`unscaled` and `scale` of decimal text without exponent, exactly.

    Raises:
        ValueError: It is no such text.
    """
    whole, _, fraction = text.partition(".")
    return int(whole + fraction), len(fraction)


def encode_trades(rows: pa.RecordBatch) -> pa.BinaryArray:
    """(n,) serialized `Trade` messages of (n,) rows; what is null stays unset."""
    columns = []
    for field in _HANDLER.schema():
        if field.name in _FIGURES:
            column = _decimals(rows[field.name])
        elif field.name == "side":
            column = pc.index_in(rows["side"], pa.array(SIDES))
        elif field.name == "timestamp_ms":
            column = rows["timestamp"].cast(pa.int64())
        else:
            column = rows[field.name]
            if column.null_count:
                column = pc.fill_null(column, "" if pa.types.is_string(column.type) else 0)
        columns.append(column.cast(field.type))
    return _HANDLER.record_batch_to_array(pa.record_batch(columns, schema=_HANDLER.schema()))


def _decimals(texts: pa.StringArray) -> pa.StructArray:
    parts = [(0, 0) if text is None else decimal_parts(text) for text in texts.to_pylist()]
    unscaled, scale = zip(*parts, strict=True) if parts else ((), ())
    return pa.StructArray.from_arrays(
        [pa.array(unscaled, pa.int64()), pa.array(scale, pa.int32())],
        fields=list(_DECIMAL),
        mask=texts.is_null(),
    )
