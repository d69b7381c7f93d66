"""Rows of the ewma flow: their columns, and their protobuf form.

A row is the average of one instrument at the end of one period. The average is a double;
volume and price are exact, as decimal text. `EWMA_SCHEMA` has the columns of the table
`ewma`, in its order.
"""

import pyarrow as pa

from schemas import market_pb2
from schemas.messages import row_encoder

__all__ = ["EWMA_SCHEMA", "encode_ewma"]

_UTC_MS = pa.timestamp("ms", tz="UTC")

EWMA_SCHEMA = pa.schema(
    [
        ("instrument", pa.string()),
        ("window_start", _UTC_MS),
        ("window_end", _UTC_MS),
        ("alpha", pa.float64()),
        ("halflife_s", pa.float64()),
        ("value", pa.float64()),
        ("trade_count", pa.int64()),
        ("volume", pa.string()),
        ("last_price", pa.string()),
        ("revision", pa.int32()),
    ]
)

encode_ewma = row_encoder(market_pb2.Ewma)
"""(n,) serialized `Ewma` messages of (n,) rows; times become epoch ms, null becomes 0."""
