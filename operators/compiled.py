"""Compile every kernel ahead of the first run: `python -m operators.compiled`.

Sends a handful of trades through codec, map side, windows and rows, so that the first
start of a flow finds its kernels in the cache.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa

from operators.aggregate import partial_dtype
from operators.candle import CANDLE
from operators.combine import PanePartials
from operators.panes import group
from operators.tumbling import TumblingShard
from operators.watermark import effective_ticks
from operators.window_table import WindowRule
from schemas.market_pb2 import Decimal, Trade
from schemas.stream import NEVER, Decoded, Events
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
    decoded = TradeCodec().decode(values)
    for form in (np.asarray, np.copy):  # decoded columns are read-only, chosen ones are not
        _run(values, decoded, form)


def _run(values: pa.BinaryArray, decoded: Decoded, form: Callable[[Any], Any]) -> None:
    newest = np.maximum.accumulate(np.concatenate(([NEVER], decoded.event_time_ms)))
    events = Events(
        0,
        np.arange(len(values), dtype=np.int64),
        form(decoded.event_time_ms),
        newest[:-1].copy(),
        form(decoded.key_codes),
        decoded.key_names,
        {name: form(column) for name, column in decoded.columns.items()},
        values,
        int(newest[-1]),
        len(values),
    )
    shard = TumblingShard(CANDLE, WindowRule((60_000,), fill_gaps=True), 1, 0.0, None)
    ticks, _ = effective_ticks(events.event_time_ms, events.watermark_ms, 1_000, 300_000)
    groups = group(events.key_codes, len(events.key_names), events.event_time_ms, ticks, 1_000)
    partials = CANDLE.lift(events, groups)
    watermark_ms = events.watermark_after_ms
    shard.on_batch([PanePartials(0, 0, watermark_ms, ["A"], partials, ended=False)])
    none = np.zeros(0, partial_dtype(CANDLE))
    shard.on_batch([PanePartials(0, 0, watermark_ms, [], none, ended=True)])


if __name__ == "__main__":
    compile_kernels()
