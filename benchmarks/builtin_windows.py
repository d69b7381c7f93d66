"""The same with Bytewax's own KafkaSource, fold_window and KafkaSink: candles, rolling windows.

The comparison is meant to be fair: the source has the product's fetch settings and batches
of 10,000, the fold is plain integer arithmetic on one small list per window, `ordered=False`
spares the windows their sorting, and the stock protobuf library decodes (its compiled upb).
What this pair cannot do is left out: no corrections, no previews, no late stream, no exactly
once, and a watermark per key that follows the wall clock. A sliding window there is a fold of
its own for each start, so a trade is folded as often as windows overlap; it has the figures
of a candle, of which rolling statistics are a handful more.
"""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import bytewax.operators as op
from bytewax.connectors.kafka import KafkaSink, KafkaSinkMessage, KafkaSource
from bytewax.dataflow import Dataflow
from bytewax.operators.windowing import (
    EventClock,
    SlidingWindower,
    TumblingWindower,
    Windower,
    fold_window,
)

from schemas.market_pb2 import Candle, Trade
from sources.kafka import CONSUMER_CONFIG

__all__ = ["candles", "rolling"]

_SCALE = 8
_POWERS = [10**n for n in range(_SCALE + 1)]
_MINUTE = timedelta(minutes=1)
_EPOCH = datetime.fromtimestamp(0, UTC)
_MS = timedelta(milliseconds=1)

# Indices into the list that is a window's accumulator.
_OPEN, _OPEN_AT, _HIGH, _LOW, _CLOSE, _CLOSE_AT, _VOLUME, _QUOTE, _COUNT, _BUY, _BUY_QUOTE = range(
    11
)
_Window = list[Any]  # int, but (time, sequence) in the two _AT


def candles(bootstrap: str, topic: str, output: str) -> Dataflow:
    """Trades of `topic` to candles in `output`, once through the topic."""
    return _flow(bootstrap, topic, output, TumblingWindower(_MINUTE, _EPOCH), _MINUTE, _MINUTE)


def rolling(bootstrap: str, topic: str, output: str, length_s: int, offset_s: int) -> Dataflow:
    """Trades of `topic` to windows of `length_s` that begin every `offset_s`, to `output`."""
    length, offset = timedelta(seconds=length_s), timedelta(seconds=offset_s)
    windower = SlidingWindower(length, offset, _EPOCH)
    return _flow(bootstrap, topic, output, windower, length, offset)


def _flow(
    bootstrap: str,
    topic: str,
    output: str,
    windower: Windower[Any],
    length: timedelta,
    offset: timedelta,
) -> Dataflow:
    dataflow = Dataflow("builtin")
    source = KafkaSource(
        [bootstrap],
        [topic],
        tail=False,
        add_config={name: str(value) for name, value in CONSUMER_CONFIG.items()},
        batch_size=10_000,
    )
    messages = op.input("trades", dataflow, source)
    trades = op.map("decode", messages, _decode)
    windows = fold_window(
        "windows",
        trades,
        EventClock(_event_time, wait_for_system_duration=timedelta(seconds=2)),
        windower,
        _new_window,
        _add,
        _merge,
        ordered=False,
    )
    encode = partial(_encode, length // _MS, offset // _MS)
    records = op.map("encode", windows.down, encode)
    op.output("kafka", records, KafkaSink([bootstrap], output, {"linger.ms": "1"}))
    return dataflow


def _decode(message: Any) -> tuple[str, Trade]:  # noqa: ANN401  # errors are raised, not passed on
    trade = Trade.FromString(message.value)
    return trade.instrument, trade


def _event_time(trade: Trade) -> datetime:
    return datetime.fromtimestamp(trade.timestamp_ms / 1000, UTC)


def _new_window() -> _Window:
    return [0, None, 0, 0, 0, None, 0, 0, 0, 0, 0]


def _add(window: _Window, trade: Trade) -> _Window:
    figure = trade.price
    price = figure.unscaled * _POWERS[_SCALE - figure.scale]
    figure = trade.quantity
    quantity = figure.unscaled * _POWERS[_SCALE - figure.scale]
    at = trade.timestamp_ms, trade.trade_seq
    if window[_COUNT] == 0:
        window[:6] = [price, at, price, price, price, at]
    else:
        if at < window[_OPEN_AT]:
            window[_OPEN], window[_OPEN_AT] = price, at
        if at > window[_CLOSE_AT]:
            window[_CLOSE], window[_CLOSE_AT] = price, at
        if price > window[_HIGH]:
            window[_HIGH] = price
        elif price < window[_LOW]:
            window[_LOW] = price
    window[_COUNT] += 1
    window[_VOLUME] += quantity
    window[_QUOTE] += price * quantity
    if trade.side == 0:
        window[_BUY] += quantity
        window[_BUY_QUOTE] += price * quantity
    return window


def _merge(into: _Window, other: _Window) -> _Window:
    raise NotImplementedError("windows of fixed length are never merged")


def _text(value: int, places: int = _SCALE) -> str:
    return f"{Decimal(value).scaleb(-places).normalize():f}"


def _encode(
    length_ms: int, offset_ms: int, item: tuple[str, tuple[int, _Window]]
) -> KafkaSinkMessage:  # type: ignore[type-arg]
    instrument, (number, window) = item
    candle = Candle(
        instrument=instrument,
        interval="1m",
        open_time_ms=number * offset_ms,
        close_time_ms=number * offset_ms + length_ms,
        open=_text(window[_OPEN]),
        high=_text(window[_HIGH]),
        low=_text(window[_LOW]),
        close=_text(window[_CLOSE]),
        volume=_text(window[_VOLUME]),
        quote_volume=_text(window[_QUOTE], 2 * _SCALE),
        vwap=_text(round(window[_QUOTE] / window[_VOLUME])),
        trade_count=window[_COUNT],
        taker_buy_volume=_text(window[_BUY]),
        taker_buy_quote_volume=_text(window[_BUY_QUOTE], 2 * _SCALE),
        open_trade_time_ms=window[_OPEN_AT][0],
        close_trade_time_ms=window[_CLOSE_AT][0],
        is_closed=True,
    )
    return KafkaSinkMessage(instrument.encode(), candle.SerializeToString())
