"""Exchange feed: every trade of the exchange into a log, once, in order, with gaps healed.

    exchange ──▶ trades ──▶ by instrument ──▶ Kafka trades, PostgreSQL trades
    (live and history)       lane: instrument, position: trade_seq

Run it: `python -m bytewax.run dataflows.deribit`. Settings: `docs/settings.md`; what it
does when: `docs/deribit.md`.
"""

import bytewax.operators as op
from bytewax.dataflow import Dataflow

from dataflows.deribit_settings import DeribitSettings
from dataflows.deribit_wiring import DeribitWiring
from dataflows.wiring import guarded
from operators.by_lane import by_lane
from schemas import market_pb2
from schemas.registry import framed
from schemas.tables import TRADES
from schemas.trade_rows import encode_trades
from sources.deribit import DeribitSource

__all__ = ["flow"]


@guarded()
def flow() -> Dataflow:
    """The dataflow, from the settings in the environment."""
    settings = DeribitSettings.load()
    wiring = DeribitWiring("deribit", settings)
    encode = framed(settings.registry, [settings.topic], market_pb2.Trade, encode_trades)

    dataflow = Dataflow(wiring.flow_id)
    source = DeribitSource(
        wiring.connect, settings.rule, settings.subscription, settings.deribit_connections
    )
    trades = op.input("trades", dataflow, source)
    results = by_lane(
        "by_instrument",
        trades,
        flow="deribit",
        key="instrument",
        position="trade_seq",
        at="timestamp",
        partitions=settings.deribit_partitions,
    )
    wiring.output(results, trades, encode=encode, table=TRADES)
    return dataflow
