"""Compile every kernel ahead of the first run: `python -m operators.compiled`.

Sends a handful of trades through codec, map side, windows and rows, so that the first
start of a flow finds its kernels in the cache.
"""

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from operators.aggregate import partial_dtype
from operators.candle import CANDLE
from operators.combine import PanePartials
from operators.ewma import Ewma, EwmaRule
from operators.ordered import OrderedShard
from operators.ordered_scatter import ShardEvents
from operators.panes import group
from operators.rolling import RollingRule, RollingShard
from operators.rolling_candles import PUBLISHED_CANDLE
from operators.tumbling import TumblingShard
from operators.watermark import effective_ticks
from operators.window_table import WindowRule
from schemas.candle_codec import CandleCodec
from schemas.candles import encode_candles
from schemas.market_pb2 import Decimal, Trade
from schemas.stream import NEVER, Codec, Events
from schemas.trades import TradeCodec

__all__ = ["compile_kernels"]

_TIMES_MS = (1_000, 2_500, 61_000, 62_000, 1_500)  # the last one comes as a correction


def compile_kernels() -> None:
    """Run the candles kernels once, on all paths that have kernels of their own."""
    price = Decimal(unscaled=525, scale=2)
    trades = [
        Trade(instrument="A", timestamp_ms=ms, price=price, quantity=price, trade_seq=1 + i)
        for i, ms in enumerate(_TIMES_MS)
    ]
    values = pa.array([trade.SerializeToString() for trade in trades], pa.binary())
    events = _events(values, TradeCodec())
    shard = TumblingShard(CANDLE, WindowRule((60_000,), fill_gaps=True), 1, 0.0, None)
    ticks, _ = effective_ticks(events.event_time_ms, events.watermark_ms, 1_000, 300_000)
    groups = group(events.key_codes, len(events.key_names), events.event_time_ms, ticks, 1_000)
    partials = CANDLE.lift(events, groups)
    watermark_ms = events.watermark_after_ms
    shard.on_batch([PanePartials(0, 0, watermark_ms, ["A"], partials, ended=False)])
    none = np.zeros(0, partial_dtype(CANDLE))
    (candles, *_) = shard.on_batch([PanePartials(0, 0, watermark_ms, [], none, ended=True)])[0]
    _compile_statistics(partials, candles.rows)
    _compile_ewma(events)


def _compile_statistics(partials: NDArray[Any], candles: pa.RecordBatch) -> None:
    """Rolling windows, of trades' partials and of published candles."""
    shard = RollingShard(RollingRule(), 1, None)
    shard.on_batch([PanePartials(0, 0, NEVER, ["A"], partials, ended=True)])
    events = _events(encode_candles(candles), CandleCodec("1m"))
    keys, times_ms = events.key_codes, events.event_time_ms
    PUBLISHED_CANDLE.lift(events, group(keys, 1, times_ms, times_ms, 60_000))


def _compile_ewma(events: Events) -> None:
    """The reorder buffer and the averages."""
    item = ShardEvents(
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
    OrderedShard(Ewma(EwmaRule()), 1, 1_000, None).on_batch([item])


def _events(values: pa.BinaryArray, codec: Codec) -> Events:
    decoded = codec.decode(values)
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
