"""The PostgreSQL tables of the flows, declared once.

Column names are those of the records. Sinks create missing tables from here and build
their statements from here; nothing else names a column in SQL.
"""

import pyarrow as pa
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    Table,
    Text,
)
from sqlalchemy.dialects.postgresql import JSONB

__all__ = [
    "AGGREGATED_SALES",
    "CANDLES",
    "CANDLES_LIVE",
    "EWMA",
    "FLOWS",
    "LATE",
    "LATE_SCHEMA",
    "METADATA",
    "PROGRESS",
    "REJECTED",
    "REJECTED_SCHEMA",
    "SESSIONS",
    "STATISTICS_24H",
    "TRADES",
    "VEHICLES",
    "WRITERS",
    "statistics_table",
]

METADATA = MetaData()


def _time(name: str, *, nullable: bool = True) -> "Column[object]":
    return Column(name, DateTime(timezone=True), nullable=nullable)


def _figure(name: str, *, nullable: bool = False) -> "Column[object]":
    return Column(name, Numeric(), nullable=nullable)


def _candle_columns() -> "list[Column[object]]":
    return [
        _time("close_time", nullable=False),
        _figure("open"),
        _figure("high"),
        _figure("low"),
        _figure("close"),
        _figure("volume"),
        _figure("quote_volume"),
        _figure("vwap", nullable=True),
        Column("trade_count", BigInteger, nullable=False),
        _figure("taker_buy_volume"),
        _figure("taker_buy_quote_volume"),
        Column("first_trade_seq", BigInteger),
        Column("last_trade_seq", BigInteger),
        _time("open_trade_time"),
        _time("high_trade_time"),
        _time("low_trade_time"),
        _time("close_trade_time"),
        Column("is_closed", Boolean, nullable=False),
        Column("revision", Integer, nullable=False),
        Column("gap_filled", Boolean, nullable=False),
        Column("complete", Boolean, nullable=False),
    ]


CANDLES = Table(
    "candles",
    METADATA,
    Column("instrument", Text, primary_key=True),
    Column("interval", Text, primary_key=True),
    Column("open_time", DateTime(timezone=True), primary_key=True),
    *_candle_columns(),
    comment="Closed candles; a correction raises revision.",
)

CANDLES_LIVE = Table(
    "candles_live",
    METADATA,
    Column("instrument", Text, primary_key=True),
    Column("interval", Text, primary_key=True),
    Column("open_time", DateTime(timezone=True), nullable=False),
    *_candle_columns(),
    comment="The candle still forming, one row per instrument and interval; a preview.",
    prefixes=["UNLOGGED"],
)


def statistics_table(window: str) -> Table:
    """The table of rolling windows of one length, such as `24h`."""
    name = f"statistics_{window}"
    if name in METADATA.tables:
        return METADATA.tables[name]
    return Table(
        name,
        METADATA,
        Column("instrument", Text, primary_key=True),
        _time("open_time", nullable=False),
        Column("close_time", DateTime(timezone=True), primary_key=True),
        *(
            _figure(name, nullable=True)
            for name in ("open", "high", "low", "last", "price_change", "price_change_percent")
        ),
        _figure("volume"),
        _figure("quote_volume"),
        _figure("weighted_average_price", nullable=True),
        Column("trade_count", BigInteger, nullable=False),
        Column("first_trade_id", BigInteger),
        Column("last_trade_id", BigInteger),
        _time("high_time"),
        _time("low_time"),
        comment="The rolling window of each instrument at each tick.",
    )


STATISTICS_24H = statistics_table("24h")

EWMA = Table(
    "ewma",
    METADATA,
    Column("instrument", Text, primary_key=True),
    Column("window_start", DateTime(timezone=True), primary_key=True),
    _time("window_end", nullable=False),
    Column("alpha", Double, comment="weight of a trade; null in the mode time"),
    Column("halflife_s", Double, comment="null in the other modes"),
    Column("value", Double, nullable=False),
    Column("trade_count", BigInteger, nullable=False),
    _figure("volume"),
    _figure("last_price"),
    Column("revision", Integer, nullable=False),
    comment="Exponentially weighted averages of prices, as of the end of each period.",
)

SESSIONS = Table(
    "sessions",
    METADATA,
    Column("device", Text, primary_key=True),
    Column("session_id", Text, primary_key=True),
    _time("started_at", nullable=False),
    _time("ended_at", nullable=False),
    Column("reason", Text, nullable=False),
    Column("event_count", BigInteger, nullable=False),
    Column("sensors", JSONB, nullable=False, comment="count, min, max, mean and last by name"),
    Column("revision", Integer, nullable=False),
    # For who reads the newest ones, or some time of them.
    Index("sessions_by_end", "ended_at", "device", "session_id"),
    comment="Sessions of devices that have ended.",
)

LATE = Table(
    "late",
    METADATA,
    Column("flow", Text, primary_key=True),
    Column("topic", Text, primary_key=True),
    Column("partition", Integer, primary_key=True),
    Column("offset", BigInteger, primary_key=True),
    Column("key", Text, nullable=False),
    _time("event_time", nullable=False),
    _time("watermark", nullable=False),
    Column("late_by_ms", BigInteger, nullable=False, comment="watermark - event_time"),
    Column("value", LargeBinary, nullable=False, comment="the record's bytes"),
    comment="Records that came after the correction horizon.",
)

REJECTED = Table(
    "rejected",
    METADATA,
    Column("flow", Text, primary_key=True),
    Column("topic", Text, primary_key=True),
    Column("partition", Integer, primary_key=True),
    Column("offset", BigInteger, primary_key=True),
    Column("reason", Text, nullable=False),
    _time("record_time"),
    Column("key", LargeBinary, comment="the record's key; null where the flow reads no keys"),
    Column("value", LargeBinary, comment="the record's bytes; null for a record without value"),
    comment="Dead letters: records that could not be used, with the reason.",
)

TRADES = Table(
    "trades",
    METADATA,
    Column("instrument", Text, primary_key=True),
    Column("trade_seq", BigInteger, primary_key=True),
    _time("timestamp", nullable=False),
    _figure("price"),
    _figure("quantity"),
    Column("side", Text, nullable=False, comment="of the taker: buy or sell"),
    Column("trade_id", Text, nullable=False),
    _figure("index_price", nullable=True),
    _figure("mark_price", nullable=True),
    _figure("iv", nullable=True),
    Column("liquidation", Text),
    Column("block_trade_id", Text),
    Column("tick_direction", Integer),
    comment="Every trade of the exchange feed.",
)

VEHICLES = Table(
    "vehicles",
    METADATA,
    Column("vehicle_uuid", Text, primary_key=True),
    Column("revision", BigInteger, nullable=False),
    _time("changed_at", nullable=False),
    Column("deleted", Boolean, nullable=False, comment="then all that follows is null"),
    Column("year_of_manufacture", BigInteger),
    Column("model", Text),
    Column("engine_uuid", Text, comment="null without an engine, as all that follows"),
    Column("engine_year_of_manufacture", BigInteger),
    Column("engine_manufacturer", Text),
    Column("engine_maximum_engine_speed", BigInteger),
    Column("engine_maximum_mileage_resource", BigInteger),
    Column("engine_remaining_mileage_resource", BigInteger),
    comment="Each vehicle as last published; a deleted one keeps its row and revision.",
)

AGGREGATED_SALES = Table(
    "aggregated_sales",
    METADATA,
    Column("seller_id", Text, primary_key=True),
    Column("window_start", DateTime(timezone=True), primary_key=True),
    _time("window_end", nullable=False),
    _figure("aggregated_amount"),
    Column("sale_count", BigInteger, nullable=False),
    _figure("min_amount"),
    _figure("max_amount"),
    _figure("mean_amount"),
    Column("revision", Integer, nullable=False),
    comment="The sales of each seller in each window, in US dollars.",
)

PROGRESS = Table(
    "progress",
    METADATA,
    Column("flow", Text, primary_key=True),
    Column("version", Text, primary_key=True),
    Column("lane", Text, primary_key=True),
    Column("position", BigInteger, nullable=False),
    comment="How far each lane has been written, in the same transaction as its rows.",
)

FLOWS = Table(
    "flows",
    METADATA,
    Column("flow", Text, primary_key=True),
    Column("version", Text, primary_key=True),
    Column("fingerprint", JSONB, nullable=False),
    comment="What defines each flow version's output.",
)

WRITERS = Table(
    "writers",
    METADATA,
    Column("flow", Text, primary_key=True),
    Column("version", Text, primary_key=True),
    Column("partition", Text, primary_key=True),
    Column("epoch", BigInteger, nullable=False),
    comment="Who may write: the process that raised the epoch of a sink partition last.",
)

_UTC_MS = pa.timestamp("ms", tz="UTC")

LATE_SCHEMA = pa.schema(
    [
        ("flow", pa.string()),
        ("topic", pa.string()),
        ("partition", pa.int32()),
        ("offset", pa.int64()),
        ("key", pa.string()),
        ("event_time", _UTC_MS),
        ("watermark", _UTC_MS),
        ("late_by_ms", pa.int64()),
        ("value", pa.binary()),
    ]
)
"""Rows of the late stream, in the order of `LATE`."""

REJECTED_SCHEMA = pa.schema(
    [
        ("flow", pa.string()),
        ("topic", pa.string()),
        ("partition", pa.int32()),
        ("offset", pa.int64()),
        ("reason", pa.string()),
        ("record_time", _UTC_MS),
        ("key", pa.binary()),
        ("value", pa.binary()),
    ]
)
"""Rows of the dead letters, in the order of `REJECTED`."""
