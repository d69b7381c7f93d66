"""Sales totals: sales to sum, count, minimum, maximum and mean per seller and minute.

    sales ──▶ combine ──▶ totals ──▶ results ──▶ Kafka aggregated-sales,
                 │                               PostgreSQL aggregated_sales
                 └─ late, rejected ─▶ results

Run it: `python -m bytewax.run dataflows.sellers`. Settings: `docs/settings.md`; fields:
`docs/sellers.md`.
"""

import time
from collections.abc import Mapping
from typing import Any

import bytewax.operators as op
from bytewax.dataflow import Dataflow

from dataflows.log_input import LogInput, simulated_length
from dataflows.sellers_settings import SellersSettings
from dataflows.settings import FlowSettings
from dataflows.wiring import Wiring, guarded
from operators.combine import CombineRule, combine
from operators.compiled import compile_totals
from operators.totals import TOTALS
from operators.tumbling import tumbling
from operators.window_table import WindowRule
from schemas.sales import SaleCodec
from schemas.tables import AGGREGATED_SALES
from schemas.totals import encode_totals
from sinks.routes import MessageRoute
from sources.market import opening
from sources.sales import Sales
from sources.simulated import SimulatedLog

__all__ = ["flow"]


@guarded(compile_totals)
def flow() -> Dataflow:
    """The dataflow, from the settings in the environment."""
    settings = SellersSettings.load()
    log = LogInput("sellers", settings, "sales-usd", _simulated)
    horizon_ms = round(settings.correction_s * 1000)
    windows = WindowRule((settings.sellers_window_s * 1000,), horizon_ms=horizon_ms)
    wiring = Wiring(
        "sellers",
        settings,
        log,
        output=settings.output,
        definition={"window_s": settings.sellers_window_s},
    )
    combining = CombineRule("sellers", wiring.topic, settings.shards, horizon_ms=horizon_ms)

    dataflow = Dataflow(log.flow_id)
    sales = log.read("sales", dataflow, SaleCodec())
    partials, asides = combine("combine", sales, TOTALS, combining)
    totals, _ = tumbling(
        "totals", partials, TOTALS, windows, flow="sellers", partitions=wiring.partitions
    )
    wiring.output(
        op.merge("totals_outputs", totals, asides),
        messages=MessageRoute(
            None,
            {"": settings.output},
            "seller_id",
            "window_end",
            encode_totals,
            settings.shards,
        ),
        table=AGGREGATED_SALES,
        line=_line,
    )
    return dataflow


def _simulated(settings: FlowSettings) -> SimulatedLog:
    return SimulatedLog(
        "sales-usd",
        Sales(settings.market_seed),
        opening(settings.data_dir, int(time.time() * 1000)),
        seed=settings.market_seed,
        partitions=settings.market_partitions,
        rate=settings.market_rate,
        records=simulated_length(settings),
    )


def _line(row: Mapping[str, Any]) -> str:
    again = f"  corrected, revision {row['revision']}" if row["revision"] else ""
    return (
        f"{row['window_start']:%Y-%m-%d %H:%M}  {row['seller_id']:<12}"
        f" {int(row['aggregated_amount']):>14,} USD  {row['sale_count']:,} sales of"
        f" {row['min_amount']} to {row['max_amount']}{again}"
    )
