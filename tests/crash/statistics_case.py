"""The statistics flow as a case for the crash harness: windows that fill, slide and run empty."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from typing_extensions import override

from schemas.market_pb2 import Statistics
from schemas.murmur2 import partition_of
from schemas.statistics import STATISTICS_SCHEMA
from tests import candles_io as io
from tests.crash.log_case import TradesCase
from tests.crash.sink_case import copied, text_of
from tests.oracle import T
from tests.real.kafka_client import Record
from tests.rolling_oracle import FOREVER, R, Rolling, statistics

__all__ = ["StatisticsCase"]

_EPOCH = datetime.fromtimestamp(0, UTC)
_WINDOW_MS, _QUIET_MS = 20_000, 5_000
_PAUSE_MS = 30_000
_PAUSING = ("I1", "I4", "I7")
_NAMES = STATISTICS_SCHEMA.names


class StatisticsCase(TradesCase):
    """See `tests.crash.sink_case.SinkCase`.

    A trade is in as many rows as its window has ticks, or fewer if it came late, so no counts
    of trades add up to the records read; instead every row is compared with the oracle's.
    """

    module = "dataflows.statistics"
    settings = {  # noqa: RUF012  # declared as ClassVar by its base
        "STATISTICS_WINDOW_S": str(_WINDOW_MS // 1_000),
        "STATISTICS_QUIET_S": str(_QUIET_MS // 1_000),
    }
    topics = ("",)
    tables = ("statistics_20s",)
    reads_again = True

    @override
    def draw(self, seed: int, records: int) -> list[list[T]]:
        """Some instruments pause for longer than a window."""
        return [
            [t for t in log if t.key not in _PAUSING or t.time // _PAUSE_MS % 2]
            for log in io.random_log(seed, records)
        ]

    @override
    def expected(self) -> dict[str, list[bytes]]:
        """Records and rows as the oracle makes them."""
        logs = [[R(t.time, t.key, (t,)) for t in log] for log in self.trades]
        lateness_ms = round(float(self.more.get("LATENESS_S", 2)) * 1_000)
        rule = Rolling(_WINDOW_MS, quiet=_QUIET_MS, lateness=lateness_ms)
        # No record shall be neither late nor in a window.
        rule = replace(rule, horizon=rule.window - rule.pane - rule.tick)
        found: dict[str, list[bytes]] = {}
        table: list[bytes] = []
        for shard in range(io.SHARDS):
            rows = statistics(
                logs, rule, limit=FOREVER,
                keys=lambda key, shard=shard: partition_of(key.encode(), io.SHARDS) == shard,
            )  # fmt: skip
            found[f"topic results/{shard}"] = [text_of(_record(row)) for row in rows]
            table += map(_row, rows)
        return found | ({f"table {self.tables[0]}": sorted(table)} if self.with_postgres else {})

    @override
    def in_topics(self, results: Mapping[str, list[Record]]) -> None:
        return None

    @override
    def in_tables(self, connection: psycopg.Connection) -> None:
        return None


def _record(row: Mapping[str, Any]) -> Record:
    """The Kafka record of a row of the oracle's."""
    fields = {f"{name}_ms" if name.endswith("_time") else name: row[name] for name in _NAMES}
    message = Statistics(**fields)
    return Record(
        0, message.close_time_ms, message.instrument.encode(), message.SerializeToString()
    )


def _row(row: Mapping[str, Any]) -> bytes:
    """The row as COPY writes it."""
    return copied(
        _EPOCH + timedelta(milliseconds=row[name])
        if name.endswith("_time") and row[name] is not None
        else row[name]
        for name in _NAMES
    )
