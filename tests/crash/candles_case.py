"""The candles flow as a case for the crash harness."""

from collections.abc import Mapping

import psycopg
from typing_extensions import override

from schemas.market_pb2 import Candle
from tests.crash.log_case import TradesCase, trades_in, trades_in_table
from tests.real.kafka_client import Record

__all__ = ["CandlesCase"]


class CandlesCase(TradesCase):
    """See `tests.crash.sink_case.SinkCase`."""

    module = "dataflows.candles"
    settings = {"INTERVALS": "1s,1m"}  # noqa: RUF012  # declared as ClassVar by its base
    topics = (".1s", ".1m")
    tables = ("candles",)

    @override
    def in_topics(self, results: Mapping[str, list[Record]]) -> int:
        """Trades in the last revisions of the minutes."""
        return trades_in(results[".1m"], Candle, "open_time_ms")

    @override
    def in_tables(self, connection: psycopg.Connection) -> int:
        """Trades in the minutes."""
        return trades_in_table(connection, "candles WHERE interval = '1m'")
