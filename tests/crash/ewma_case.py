"""The ewma flow as a case for the crash harness; averages that carry on keep every mistake."""

from collections.abc import Mapping

import psycopg
from typing_extensions import override

from schemas.market_pb2 import Ewma
from tests.crash.log_case import TradesCase, trades_in, trades_in_table
from tests.real.kafka_client import Record

__all__ = ["EwmaCase"]


class EwmaCase(TradesCase):
    """See `tests.crash.sink_case.SinkCase`.

    In the mode `carry` a trade that is folded twice or never shows in each later average of
    its instrument. Periods are short, so that many rows come.
    """

    module = "dataflows.ewma"
    settings = {"EWMA_PERIOD_S": "5", "EWMA_MODE": "carry"}  # noqa: RUF012  # as of its base
    topics = ("",)
    tables = ("ewma",)

    @override
    def in_topics(self, results: Mapping[str, list[Record]]) -> int:
        """Trades in the last revisions of the periods."""
        return trades_in(results[""], Ewma, "window_start_ms")

    @override
    def in_tables(self, connection: psycopg.Connection) -> int:
        """Trades in the periods."""
        return trades_in_table(connection, "ewma")
