"""Compile kernels ahead of the first event: `python -m operators.compiled`.

Each function sends a handful of trades through all paths of one flow that have kernels of
their own, so that its start, and not its first event, waits for the compiler. Later starts
find the kernels in the cache on disk.
"""

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa

from operators.aggregate import Aggregate, partial_dtype
from operators.candle import CANDLE
from operators.combine import PanePartials
from operators.ewma import Ewma, EwmaRule
from operators.many_keys import ManyKeys
from operators.ordered import OrderedShard
from operators.ordered_scatter import ShardEvents
from operators.panes import group
from operators.rolling import RollingRule, RollingShard
from operators.rolling_candles import PUBLISHED_CANDLE
from operators.session_table import SessionTable
from operators.sessions import SessionRule
from operators.totals import TOTALS
from operators.tumbling import TumblingShard
from operators.watermark import effective_ticks, first_tick_after
from operators.window_table import WindowRule
from schemas.candle_codec import CandleCodec
from schemas.device_events import DeviceEventCodec
from schemas.device_schemas import WriterSchemas
from schemas.device_wire import (
    ALL_DATA_SENT,
    DATA_RECEIVED,
    DEVICE_WOKE_UP,
    write_device_events,
)
from schemas.market_pb2 import Candle, Decimal, Trade
from schemas.murmur2 import partitions_of
from schemas.sales import SaleCodec
from schemas.stream import NEVER, Codec, Decoded, Events
from schemas.trades import TradeCodec

__all__ = [
    "compile_candles",
    "compile_ewma",
    "compile_kernels",
    "compile_sessions",
    "compile_statistics",
    "compile_totals",
]

_TIMES_MS = (1_000, 2_500, 61_000, 62_000, 1_500)  # the last one comes as a correction


def compile_kernels() -> None:
    """Those of every flow."""
    compile_candles()
    compile_statistics()
    compile_ewma()
    compile_totals()
    compile_sessions()


def compile_candles() -> None:
    """Codec, map side, windows and rows."""
    events = _trades()
    shard = TumblingShard(CANDLE, WindowRule((60_000,), fill_gaps=True), 1, 0.0, None)
    shard.on_batch([replace(_partials(events), watermark_ms=NEVER)])  # a preview, and no result
    shard.on_batch([_partials(events)])
    none = np.zeros(0, partial_dtype(CANDLE))
    shard.on_batch([PanePartials(0, 0, events.watermark_after_ms, [], none, ended=True)])


def compile_statistics() -> None:
    """Rolling windows of trades, and of published candles."""
    shard = RollingShard(RollingRule(), 1, None)
    shard.on_batch([replace(_partials(_trades()), ended=True)])
    candle = Candle(instrument="A", interval="1m", close_time_ms=60_000, trade_count=1)
    events = _events(pa.array([candle.SerializeToString()], pa.binary()), CandleCodec("1m"))
    keys, times_ms = events.key_codes, events.event_time_ms
    PUBLISHED_CANDLE.lift(events, group(keys, 1, times_ms, times_ms, 60_000))


def compile_ewma() -> None:
    """The reorder buffer and the averages."""
    OrderedShard(Ewma(EwmaRule()), 1, 1_000, None).on_batch([_shard_events(_trades())])


def compile_sessions() -> None:
    """Device events, the reorder buffer and the sessions."""
    n = len(_TIMES_MS)
    kinds = np.resize(np.array([DEVICE_WOKE_UP, DATA_RECEIVED, ALL_DATA_SENT], np.uint8), n)
    times_ms, sensor = np.array(_TIMES_MS, np.int64), np.zeros(n, np.int64)
    values = write_device_events(kinds, sensor, np.ones(n), times_ms, [b"A"])
    codec = DeviceEventCodec(WriterSchemas(lambda _: None))
    codec.decode_keyed(values, values)  # none of them carries a header
    decoded = DeviceEventCodec().decode_keyed(pa.array([b"A"] * n, pa.binary()), values)
    item = replace(_shard_events(_batch(values, decoded)), values=values)
    shard = OrderedShard(SessionRule(), 1, 1_000, None, SessionTable)
    shard.on_batch([item, replace(item, watermark_ms=120_000, ended=True)])
    shard.snapshot()
    ManyKeys(map(str, range(10_000)))  # more than fit into its first table


def compile_totals() -> None:
    """Sales, and windows of their totals."""
    sales = [json.dumps({"seller_id": "A", "amount_usd": 1, "sale_ts": ms}) for ms in _TIMES_MS]
    events = _events(pa.array([sale.encode() for sale in sales], pa.binary()), SaleCodec())
    shard = TumblingShard(TOTALS, WindowRule((60_000,)), 1, None, None)
    shard.on_batch([replace(_partials(events, TOTALS), ended=True)])


def _trades() -> Events:
    price = Decimal(unscaled=525, scale=2)
    trades = [
        Trade(instrument="A", timestamp_ms=ms, price=price, quantity=price, trade_seq=1 + i)
        for i, ms in enumerate(_TIMES_MS)
    ]
    values = pa.array([trade.SerializeToString() for trade in trades], pa.binary())
    return _events(values, TradeCodec())


def _partials(events: Events, aggregate: Aggregate = CANDLE) -> PanePartials:
    ticks, _ = effective_ticks(events.event_time_ms, events.watermark_ms, 1_000, 300_000)
    groups = group(events.key_codes, len(events.key_names), events.event_time_ms, ticks, 1_000)
    partials = aggregate.lift(events, groups)
    return PanePartials(0, 0, events.watermark_after_ms, ["A"], partials, ended=False)


def _shard_events(events: Events) -> ShardEvents:
    return ShardEvents(
        0,
        0,
        events.watermark_after_ms,
        events.key_names,
        events.key_codes.astype(np.int64),
        events.event_time_ms,
        events.offsets,
        events.columns,
        ended=False,
    )


def _events(values: pa.BinaryArray, codec: Codec) -> Events:
    return _batch(values, codec.decode(values))


def _batch(values: pa.BinaryArray, decoded: Decoded) -> Events:
    # What the steps around the shards, and the end of a finite run, call by themselves.
    partitions_of(pa.array(decoded.key_names, pa.string()), 1)
    first_tick_after(_TIMES_MS[0], 1_000)
    newest = np.maximum.accumulate(np.concatenate(([NEVER], decoded.event_time_ms)))
    return Events(
        0,
        np.arange(len(values), dtype=np.int64),
        decoded.event_time_ms,
        newest[:-1].copy(),
        decoded.key_codes,
        decoded.key_names,
        decoded.columns,
        values,
        int(newest[-1]),
        len(values),
    )


if __name__ == "__main__":
    compile_kernels()
