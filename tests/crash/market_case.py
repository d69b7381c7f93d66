"""The flow market as a case for the crash harness: three flows of one log in one process.

What it writes is that of candles, statistics and ewma run alone, each with topics, lanes and
progress of its own; each is looked at by itself.
"""

import copy
from collections.abc import Mapping
from typing import Any, Self

import psycopg
from typing_extensions import override

from schemas.market_pb2 import Candle, Ewma
from tests.crash.case import Account
from tests.crash.log_case import TradesCase, trades_in, trades_in_table
from tests.real.kafka_client import Record

__all__ = ["MarketCase"]

_TABLES = {"candles": "candles", "statistics": "statistics_20s", "ewma": "ewma"}
_STARTS: Mapping[str, tuple[Any, str]] = {
    "candles": (Candle, "open_time_ms"),
    "ewma": (Ewma, "window_start_ms"),
}
"""Message, and its field with the start; windows of statistics do not add up to trades."""


class MarketCase(TradesCase):
    """See `tests.crash.sink_case.SinkCase`."""

    module = "dataflows.market"
    settings = {  # noqa: RUF012  # declared as ClassVar by its base
        "STATISTICS_WINDOW_S": "20",
        "STATISTICS_QUIET_S": "5",
        "EWMA_PERIOD_S": "5",
        "EWMA_MODE": "carry",
    }
    topics = tuple(f".{name}" for name in _TABLES)
    tables = tuple(_TABLES.values())
    reads_again = True

    _part: str | None = None  # what is looked at; None for all

    def _parts(self) -> dict[str, Self]:
        parts = {}
        for name, table in _TABLES.items():
            part = parts[name] = copy.copy(self)
            part._part = name
            vars(part).update(topics=("",), tables=(table,))
        return parts

    @property
    @override
    def flow(self) -> str:
        return self._part or super().flow

    @override
    def output_topic(self, output: str) -> str:
        topic = super().output_topic(output)
        return f"{topic}.{self._part}" if self._part else topic

    @override
    def contents(self, output: str) -> dict[str, list[bytes]]:
        if self._part:
            return super().contents(output)
        return {
            f"{what} of {name}": found
            for name, part in self._parts().items()
            for what, found in part.contents(output).items()
        }

    @override
    def positions(self, output: str) -> dict[str, dict[str, int]]:
        if self._part:
            return super().positions(output)
        found: dict[str, dict[str, int]] = {}
        for name, part in self._parts().items():
            for store, lanes in part.positions(output).items():
                found.setdefault(store, {}).update({f"{name}/{k}": v for k, v in lanes.items()})
        return found

    @override
    def in_progress_table(self, output: str) -> dict[str, int]:
        if self._part:
            return super().in_progress_table(output)
        return {
            f"{name}/{lane}": at
            for name, part in self._parts().items()
            for lane, at in part.in_progress_table(output).items()
        }

    @property
    @override
    def result_lanes(self) -> set[str]:
        return {f"{name}/{lane}" for name in _TABLES for lane in super().result_lanes}

    @override
    def accounted(self, output: str) -> dict[str, Account]:
        if self._part:
            return super().accounted(output)
        return {
            f"{store} of {name}": account
            for name, part in self._parts().items()
            for store, account in part.accounted(output).items()
        }

    @override
    def in_topics(self, results: Mapping[str, list[Record]]) -> int | None:
        if self._part not in _STARTS:
            return None
        return trades_in(results[""], *_STARTS[self._part])

    @override
    def in_tables(self, connection: psycopg.Connection) -> int | None:
        if self._part not in _STARTS:
            return None
        return trades_in_table(connection, self._part)
