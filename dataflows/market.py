"""Candles, rolling statistics and averages of one log of trades, which is read once.

    trades ──┬─▶ fresh ──┬─▶ candles ──▶ as dataflows.candles
             │           └─▶ averages ─▶ as dataflows.ewma
             └─▶ statistics ───────────▶ as dataflows.statistics

The outputs are those of the three flows run alone, with their progress: one can take the
others' place where they stopped. A restart reads the trades of a window again; what was
processed before goes to the statistics only.

Run it: `python -m bytewax.run dataflows.market`. Settings: `docs/settings.md`.
"""

import bytewax.operators as op
from bytewax.dataflow import Dataflow

from dataflows.candles import candles
from dataflows.ewma import averages
from dataflows.log_input import LogInput
from dataflows.market_settings import MarketSettings
from dataflows.statistics import statistics
from dataflows.wiring import guarded
from operators.compiled import compile_kernels
from schemas.trades import TradeCodec
from sources.emitted import Emitted

__all__ = ["flow"]


@guarded(compile_kernels)
def flow() -> Dataflow:
    """The dataflow, from the settings in the environment."""
    settings = MarketSettings.load()
    common = settings.candles
    log = LogInput("market", common, "trades")
    dataflow = Dataflow(log.flow_id)
    codec = TradeCodec(common.input_format, confluent_wire=bool(common.schema_registry_url))
    emitted = Emitted()
    replay_ms = settings.statistics.rule.window_ms
    trades = log.read("trades", dataflow, codec, replay_ms=replay_ms, emitted=emitted)
    fresh = op.filter("fresh", trades, lambda events: not events.replayed)
    candles(log, fresh, settings.candles)
    statistics(log, trades, settings.statistics, emitted, is_shown=False)
    averages(log, fresh, settings.ewma, is_shown=False)
    return dataflow
