"""Rolling statistics: trades, or published candles, to one window per instrument and tick.

    trades ──▶ combine ──▶ statistics ──▶ results ──▶ Kafka statistics.24h,
                  │                                   PostgreSQL statistics_24h
                  └─ late, rejected ──▶ results

The windows are not stored: a restart reads their trades again.

Run it: `python -m bytewax.run dataflows.statistics`. Settings: `docs/settings.md`; fields and
formulas: `docs/statistics.md`.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import bytewax.operators as op
from bytewax.dataflow import Dataflow, Stream

from dataflows.log_input import LogInput
from dataflows.statistics_settings import StatisticsSettings
from dataflows.wiring import Wiring, guarded
from operators.candle import CANDLE
from operators.combine import CombineRule, combine
from operators.compiled import compile_statistics
from operators.rolling import rolling
from operators.rolling_candles import PUBLISHED_CANDLE
from schemas import market_pb2
from schemas.candle_codec import CandleCodec
from schemas.registry import framed
from schemas.statistics import encode_statistics
from schemas.stream import Events
from schemas.tables import statistics_table
from schemas.trades import TradeCodec
from sinks.routes import MessageRoute
from sources.emitted import Emitted

__all__ = ["flow", "statistics"]


@guarded(compile_statistics)
def flow() -> Dataflow:
    """The dataflow, from the settings in the environment."""
    settings = StatisticsSettings.load()
    log = LogInput("statistics", settings, settings.topic)
    dataflow = Dataflow(log.flow_id)
    is_framed = bool(settings.schema_registry_url)
    codec = (
        CandleCodec(settings.candle_interval or "", confluent_wire=is_framed)
        if settings.input_format == "candle"
        else TradeCodec(settings.input_format, confluent_wire=is_framed)
    )
    emitted = Emitted()
    replay_ms = settings.rule.window_ms
    events = log.read("trades", dataflow, codec, replay_ms=replay_ms, emitted=emitted)
    statistics(log, events, settings, emitted)
    return dataflow


def statistics(
    log: LogInput,
    trades: Stream[Events],
    settings: StatisticsSettings,
    emitted: Emitted,
    *,
    is_shown: bool = True,
) -> None:
    """From trades, or candles, to the sinks."""
    rule = settings.rule
    aggregate = PUBLISHED_CANDLE if rule.replaces else CANDLE
    wiring = Wiring(
        "statistics",
        settings,
        log,
        output=settings.output,
        definition={"input_format": settings.input_format, **asdict(rule)},
    )
    combining = CombineRule(
        "statistics",
        wiring.topic,
        settings.shards,
        pane_ms=rule.pane_ms,
        horizon_ms=min(round(settings.correction_s * 1000), rule.horizon_limit_ms),
    )
    encode = framed(settings.registry, [settings.output], market_pb2.Statistics, encode_statistics)

    partials, asides = combine("panes", trades, aggregate, combining)
    windows = rolling("statistics", partials, rule, flow="statistics", partitions=wiring.partitions)
    op.inspect("emitted", windows, emitted.hear)
    wiring.output(
        op.merge("statistics_outputs", windows, asides),
        messages=MessageRoute(
            None, {"": settings.output}, "instrument", "close_time", encode, settings.shards
        ),
        table=statistics_table(settings.window),
        line=_line,
        is_shown=is_shown,
    )


def _line(row: Mapping[str, Any]) -> str:
    start = f"{row['close_time']:%Y-%m-%d %H:%M:%S}  {row['instrument']:<20}"
    if not row["trade_count"]:
        return f"{start} no trades any more"
    return (
        f"{start} {row['last']:>16} {float(row['price_change_percent']):+8.2f} %"
        f"  low {row['low']}  high {row['high']}  {row['trade_count']:,} trades"
    )
