"""Exponentially weighted averages: trades to one average per instrument and period.

    trades ──▶ scatter ──▶ ewma ──▶ results ──▶ Kafka ewma.5m, PostgreSQL ewma
                  └─ late, rejected ─▶ results

Run it: `python -m bytewax.run dataflows.ewma`. Settings: `docs/settings.md`; formulas:
`docs/ewma.md`.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import bytewax.operators as op
from bytewax.dataflow import Dataflow, Stream

from dataflows.ewma_settings import EwmaSettings
from dataflows.log_input import LogInput
from dataflows.wiring import Wiring, guarded
from operators.compiled import compile_ewma
from operators.ewma import Ewma
from operators.ordered import ordered
from operators.ordered_scatter import ScatterRule, scatter
from schemas import market_pb2
from schemas.ewma import encode_ewma
from schemas.registry import framed
from schemas.stream import Events
from schemas.tables import EWMA
from schemas.trades import TradeCodec
from sinks.routes import MessageRoute

__all__ = ["averages", "flow"]


@guarded(compile_ewma)
def flow() -> Dataflow:
    """The dataflow, from the settings in the environment."""
    settings = EwmaSettings.load()
    log = LogInput("ewma", settings, "trades")
    dataflow = Dataflow(log.flow_id)
    codec = TradeCodec(settings.input_format, confluent_wire=bool(settings.schema_registry_url))
    averages(log, log.read("trades", dataflow, codec), settings)
    return dataflow


def averages(
    log: LogInput, trades: Stream[Events], settings: EwmaSettings, *, is_shown: bool = True
) -> None:
    """From trades to the sinks."""
    fold = Ewma(settings.rule)
    wiring = Wiring(
        "ewma",
        settings,
        log,
        output=settings.output,
        definition={"input_format": settings.input_format, **asdict(settings.rule)},
    )
    scattering = ScatterRule("ewma", wiring.topic, settings.shards)
    encode = framed(settings.registry, [settings.output], market_pb2.Ewma, encode_ewma)

    events, asides = scatter("scatter", trades, fold, scattering)
    results = ordered("ewma", events, fold, flow="ewma", partitions=wiring.partitions)
    wiring.output(
        op.merge("ewma_outputs", results, asides),
        messages=MessageRoute(
            None, {"": settings.output}, "instrument", "window_end", encode, settings.shards
        ),
        table=EWMA,
        line=_line,
        is_shown=is_shown,
    )


def _line(row: Mapping[str, Any]) -> str:
    return (
        f"{row['window_end']:%Y-%m-%d %H:%M:%S}  {row['instrument']:<20} {row['value']:>18,.8f}"
        f"  {row['trade_count']:,} trades"
    )
