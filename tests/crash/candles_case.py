"""The candles flow as a case for the crash harness: disorder, corrections, late ones, poison."""

import random
from collections.abc import Mapping

import psycopg

from schemas.market_pb2 import Candle
from tests import candles_io as io
from tests.crash.case import Entry, SinkCase
from tests.real.kafka_client import Record

__all__ = ["CandlesCase"]

_POISON = (None, b"", b"\xff\xff\xff", b"no trade")


class CandlesCase(SinkCase):
    """See `tests.crash.case.SinkCase`."""

    module = "dataflows.candles"
    settings = {"INTERVALS": "1s,1m"}  # noqa: RUF012  # declared as ClassVar by its base
    topics = (".1s", ".1m")
    tables = ("candles",)

    def entries(self, seed: int, records: int) -> list[list[Entry]]:
        """`candles_io.random_log` with some poison among the trades."""
        chance = random.Random(seed)
        logs = []
        for trades in io.random_log(seed, records):
            log: list[Entry] = []
            for trade in trades:
                if chance.random() < 0.004:
                    log.append((b"poison", chance.choice(_POISON), trade.time))
                log.append((trade.key.encode(), io.message(trade), trade.time + 400))
            logs.append(log)
        return logs

    def in_topics(self, results: Mapping[str, list[Record]]) -> int:
        """Trades in the last revisions of the minutes."""
        last: dict[tuple[str, int], int] = {}
        for record in results[".1m"]:
            candle = Candle.FromString(record.value or b"")
            last[candle.instrument, candle.open_time_ms] = candle.trade_count
        return sum(last.values())

    def in_tables(self, connection: psycopg.Connection) -> int:
        """Trades in the minutes."""
        query = "SELECT sum(trade_count) FROM candles WHERE interval = '1m'"
        row = connection.execute(query).fetchone()
        return int(row[0] or 0) if row else 0
