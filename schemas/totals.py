"""Rows of the sellers flow: their columns, and their JSON form.

A row is the sales of one seller in one window, with exact figures as decimal text;
`TOTALS_SCHEMA` has the columns of the table `aggregated_sales`, in its order.
"""

import json

import pyarrow as pa

__all__ = ["TOTALS_SCHEMA", "encode_totals"]

_UTC_MS = pa.timestamp("ms", tz="UTC")

TOTALS_SCHEMA = pa.schema(
    [
        ("seller_id", pa.string()),
        ("window_start", _UTC_MS),
        ("window_end", _UTC_MS),
        ("aggregated_amount", pa.string()),
        ("sale_count", pa.int64()),
        ("min_amount", pa.string()),
        ("max_amount", pa.string()),
        ("mean_amount", pa.string()),
        ("revision", pa.int32()),
    ]
)
_TIMES = ("window_start", "window_end")


def encode_totals(rows: pa.RecordBatch) -> pa.BinaryArray:
    """(n,) JSON objects of (n,) rows; times like 2023-01-09T09:39:00Z."""
    values = []
    for row in rows.to_pylist():
        for name in _TIMES:
            row[name] = row[name].strftime("%Y-%m-%dT%H:%M:%SZ")
        values.append(json.dumps(row, separators=(",", ":"), ensure_ascii=False).encode())
    return pa.array(values, pa.binary())
