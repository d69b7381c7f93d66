"""What the tests of the PostgreSQL sink write and read."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa

from schemas.stream import FlowIdentity, Output
from schemas.tables import CANDLES, REJECTED
from sinks.group_commit import GroupCommitPartition
from sinks.postgres import PostgresRoute, postgres_sink

FLOW = FlowIdentity("candles", "1", {"shards": 8, "intervals": ["1m"]})
ROUTES = {
    "results": PostgresRoute(CANDLES, upsert=True),
    "rejected": PostgresRoute(REJECTED, upsert=False),
}
MINUTE_MS = 60_000
MS = pa.timestamp("ms", tz="UTC")


def candles(
    minutes: Sequence[int], *, revision: int = 0, close: str = "1.5", lane: int = 0
) -> Output:
    """One candle of instrument `lane` per minute, position = minute."""
    n = len(minutes)
    opens = pa.array([m * MINUTE_MS for m in minutes], MS)
    closes = pa.array([(m + 1) * MINUTE_MS for m in minutes], MS)
    columns: dict[str, Any] = {
        "instrument": pa.array([f"I{lane}"] * n),
        "interval": pa.array(["1m"] * n),
        "open_time": opens,
        "close_time": closes,
    }
    for name in ("open", "high", "low", "volume", "quote_volume"):
        columns[name] = pa.array(["2.00000001"] * n)
    columns["close"] = pa.array([Decimal(close)] * n, pa.decimal128(38, 8))
    columns["vwap"] = pa.array([None] * n, pa.string())
    columns["trade_count"] = pa.array([3] * n, pa.int64())
    columns["taker_buy_volume"] = columns["taker_buy_quote_volume"] = columns["open"]
    columns["first_trade_seq"] = pa.array([None] * n, pa.int64())
    columns["last_trade_seq"] = pa.array(minutes, pa.int64())
    for name in ("open_trade_time", "high_trade_time", "low_trade_time"):
        columns[name] = opens
    columns["close_trade_time"] = pa.array([None] * n, MS)
    columns["is_closed"] = columns["complete"] = pa.array([True] * n)
    columns["gap_filled"] = pa.array([False] * n)
    columns["revision"] = pa.array([revision] * n, pa.int32())
    rows = pa.record_batch(columns)
    return Output("results", lane, np.array(minutes, np.int64), minutes[-1], rows)


def at(position: int, output: Output) -> Output:
    positions = np.full(output.rows.num_rows, position, np.int64)
    return Output(output.kind, output.partition, positions, position, output.rows)


def partition(url: str, flow: FlowIdentity = FLOW, name: str = "00") -> GroupCommitPartition:
    """A partition that is open."""
    sink = postgres_sink(flow, ROUTES, url=url).build_part("out", name, None)
    sink.snapshot()
    return sink


def query(url: str, text: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as connection:
        connection.execute("SET timezone = 'UTC'")
        return connection.execute(text.encode()).fetchall()


def minutes(url: str, lane: int = 0) -> list[int]:
    rows = query(url, f"SELECT last_trade_seq FROM candles WHERE instrument = 'I{lane}' ORDER BY 1")
    return [row[0] for row in rows]


def positions(url: str) -> dict[str, int]:
    return dict(query(url, "SELECT lane, position FROM progress ORDER BY lane"))
