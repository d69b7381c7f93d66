"""Candles: trades to OHLCV per instrument and interval, closed by watermark, corrected late.

    trades ──▶ combine ──▶ candles ──▶ results ──▶ Kafka candles.1m, PostgreSQL candles
                  │           └──────▶ previews ─▶ Kafka candles.1m.live, candles_live
                  └─ late, rejected ─▶ results

Run it: `python -m bytewax.run dataflows.candles`. Settings: `docs/settings.md`.
"""

import bytewax.operators as op
from bytewax.dataflow import Dataflow, Stream

from dataflows.log_input import LogInput
from dataflows.settings import CandleSettings
from dataflows.wiring import Wiring, guarded
from operators.candle import CANDLE
from operators.combine import CombineRule, combine
from operators.compiled import compile_candles
from operators.tumbling import tumbling
from operators.window_table import WindowRule
from schemas import market_pb2
from schemas.candles import INTERVALS_MS, encode_candles
from schemas.registry import framed
from schemas.stream import Events
from schemas.tables import CANDLES, CANDLES_LIVE
from schemas.trades import TradeCodec
from sinks.routes import MessageRoute

__all__ = ["candles", "flow"]


@guarded(compile_candles)
def flow() -> Dataflow:
    """The dataflow, from the settings in the environment."""
    settings = CandleSettings.load()
    log = LogInput("candles", settings, "trades")
    dataflow = Dataflow(log.flow_id)
    codec = TradeCodec(settings.input_format, confluent_wire=bool(settings.schema_registry_url))
    candles(log, log.read("trades", dataflow, codec), settings)
    return dataflow


def candles(log: LogInput, trades: Stream[Events], settings: CandleSettings) -> None:
    """From trades to the sinks."""
    topics = settings.topics
    horizon_ms = round(settings.correction_s * 1000)
    windows = WindowRule(
        tuple(INTERVALS_MS[name] for name in settings.intervals),
        horizon_ms=horizon_ms,
        fill_gaps=settings.fill_gaps,
        silence_ms=round(settings.gap_silence_s * 1000),
    )
    wiring = Wiring(
        "candles",
        settings,
        log,
        output=settings.output,
        definition={
            "intervals": settings.intervals,
            "input_format": settings.input_format,
            "fill_gaps": settings.fill_gaps,
            "gap_silence_s": settings.gap_silence_s,
        },
    )
    combining = CombineRule("candles", wiring.topic, settings.shards, horizon_ms=horizon_ms)
    encode = framed(settings.registry, topics.values(), market_pb2.Candle, encode_candles)

    partials, asides = combine("combine", trades, CANDLE, combining)
    closed, forming = tumbling(
        "candles",
        partials,
        CANDLE,
        windows,
        flow="candles",
        partitions=wiring.partitions,
        preview_s=settings.preview_ms / 1000,
    )
    wiring.output(
        op.merge("candles_outputs", closed, asides),
        forming,
        messages=MessageRoute(
            "interval", topics, "instrument", "close_time", encode, settings.shards
        ),
        table=CANDLES,
        live_table=CANDLES_LIVE,
    )
