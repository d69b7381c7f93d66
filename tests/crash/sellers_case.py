"""The sellers flow as a case for the crash harness: sales out of order, refunds, poison."""

import json
import random
from collections.abc import Mapping

import psycopg
from typing_extensions import override

from schemas.murmur2 import partition_of
from schemas.stream import lane_name
from tests import candles_io as io
from tests import totals_oracle
from tests.crash.log_case import Entry, LogCase
from tests.real.kafka_client import Record

__all__ = ["SellersCase"]

_POISON = (None, b"", b"null", b"{", b'{"seller_id":"A","amount_usd":"5","sale_ts":1}')


class SellersCase(LogCase):
    """See `tests.crash.sink_case.SinkCase`."""

    module = "dataflows.sellers"
    settings = {"SELLERS_WINDOW_S": "5"}  # noqa: RUF012  # declared as ClassVar by its base
    topics = ("",)
    tables = ("aggregated_sales",)

    @override
    def entries(self, seed: int, records: int) -> list[list[Entry]]:
        self._logs_of_sales = io.random_log(seed, records)
        chance = random.Random(seed)
        logs = []
        for sales in self._logs_of_sales:
            log: list[Entry] = []
            for sale in sales:
                if chance.random() < 0.004:
                    log.append((None, chance.choice(_POISON), sale.time))
                members = {
                    "seller_id": sale.key,
                    "amount_usd": totals_oracle.amount(sale),
                    "sale_ts": sale.time,
                }
                log.append((None, json.dumps(members).encode(), sale.time + 400))
            logs.append(log)
        return logs

    @property
    @override
    def result_lanes(self) -> set[str]:
        keys = {sale.key for sales in self._logs_of_sales for sale in sales}
        return {lane_name("results", partition_of(key.encode(), io.SHARDS)) for key in keys}

    @override
    def in_topics(self, results: Mapping[str, list[Record]]) -> int:
        """Sales in the last revisions of the windows."""
        last = {}
        for record in results[""]:
            row = json.loads(record.value or b"")
            last[row["seller_id"], row["window_start"]] = row["sale_count"]
        return sum(last.values())

    @override
    def in_tables(self, connection: psycopg.Connection) -> int:
        """Sales in the windows."""
        row = connection.execute("SELECT sum(sale_count) FROM aggregated_sales").fetchone()
        return int(row[0] or 0) if row else 0
