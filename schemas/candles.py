"""Rows of the candles flow: their columns, and their protobuf form.

A row is one candle of one instrument and interval, with exact figures as decimal text;
`CANDLE_SCHEMA` has the columns of the table `candles`, in its order.
"""

import pyarrow as pa

from schemas import market_pb2
from schemas.messages import row_encoder

__all__ = ["CANDLE_SCHEMA", "INTERVALS_MS", "encode_candles"]

INTERVALS_MS = {
    "1s": 1_000,
    "1m": 60_000,
    "5m": 300_000,
    "1h": 3_600_000,
    "1d": 86_400_000,
}
"""Name and length of the intervals a candle can have; all divide the day."""

_UTC_MS = pa.timestamp("ms", tz="UTC")

CANDLE_SCHEMA = pa.schema(
    [
        ("instrument", pa.string()),
        ("interval", pa.string()),
        ("open_time", _UTC_MS),
        ("close_time", _UTC_MS),
        ("open", pa.string()),
        ("high", pa.string()),
        ("low", pa.string()),
        ("close", pa.string()),
        ("volume", pa.string()),
        ("quote_volume", pa.string()),
        ("vwap", pa.string()),
        ("trade_count", pa.int64()),
        ("taker_buy_volume", pa.string()),
        ("taker_buy_quote_volume", pa.string()),
        ("first_trade_seq", pa.int64()),
        ("last_trade_seq", pa.int64()),
        ("open_trade_time", _UTC_MS),
        ("high_trade_time", _UTC_MS),
        ("low_trade_time", _UTC_MS),
        ("close_trade_time", _UTC_MS),
        ("is_closed", pa.bool_()),
        ("revision", pa.int32()),
        ("gap_filled", pa.bool_()),
        ("complete", pa.bool_()),
    ]
)

encode_candles = row_encoder(market_pb2.Candle)
"""(n,) serialized `Candle` messages of (n,) rows; times become epoch ms, null becomes 0."""
