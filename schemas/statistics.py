"""Rows of the statistics flow: their columns, and their protobuf form.

A row is the rolling window of one instrument at one tick, with exact figures as decimal
text; `STATISTICS_SCHEMA` has the columns of the table `statistics_24h`, in its order.
"""

import pyarrow as pa

from schemas import market_pb2
from schemas.messages import row_encoder

__all__ = ["STATISTICS_SCHEMA", "encode_statistics"]

_UTC_MS = pa.timestamp("ms", tz="UTC")

STATISTICS_SCHEMA = pa.schema(
    [
        ("instrument", pa.string()),
        ("open_time", _UTC_MS),
        ("close_time", _UTC_MS),
        ("open", pa.string()),
        ("high", pa.string()),
        ("low", pa.string()),
        ("last", pa.string()),
        ("price_change", pa.string()),
        ("price_change_percent", pa.string()),
        ("volume", pa.string()),
        ("quote_volume", pa.string()),
        ("weighted_average_price", pa.string()),
        ("trade_count", pa.int64()),
        ("first_trade_id", pa.int64()),
        ("last_trade_id", pa.int64()),
        ("high_time", _UTC_MS),
        ("low_time", _UTC_MS),
    ]
)

encode_statistics = row_encoder(market_pb2.Statistics)
"""(n,) serialized `Statistics` of (n,) rows; times become epoch ms, null becomes 0 or empty."""
