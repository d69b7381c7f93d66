"""Flows that read a topic, as cases for the crash harness; and those that read trades."""

import random
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any

import psycopg
from typing_extensions import override

from schemas.murmur2 import partition_of
from schemas.stream import lane_name
from tests import candles_io as io
from tests.crash.plan import SOURCE_POINTS
from tests.crash.sink_case import SinkCase
from tests.oracle import T
from tests.real.kafka_client import Record

__all__ = ["Entry", "LogCase", "TradesCase", "trades_in", "trades_in_table"]

Entry = tuple[bytes | None, bytes | None, int]
"""Key, value and timestamp in ms of a record to be written."""

_POISON = (None, b"", b"\xff\xff\xff", b"no trade")


class LogCase(SinkCase):
    """A flow that reads one topic, which is named as the case is."""

    @abstractmethod
    def entries(self, seed: int, records: int) -> list[list[Entry]]:
        """The log, by partition."""

    @override
    def open_input(self, seed: int, records: int) -> None:
        self._logs = self.entries(seed, records)
        self._done = [0] * len(self._logs)
        self.kafka.create_topic(self.topic, len(self._logs))

    @override
    def close_input(self) -> None:
        """Nothing to do: the topic goes with the test."""

    @override
    def input_env(self, *, to_the_end: bool) -> dict[str, str]:
        return {"INPUT_TOPIC": self.topic, "STOP_AT_END": str(to_the_end).lower()}

    @property
    @override
    def points(self) -> Mapping[str, int]:
        return {**SOURCE_POINTS, **super().points}

    @property
    @override
    def records(self) -> int:
        return sum(map(len, self._logs))

    @override
    def grow(self, share: float) -> None:
        """Append records, so that each partition has at least this share of its own."""
        for partition, log in enumerate(self._logs):
            upto = max(self._done[partition], round(len(log) * min(share, 1.0)))
            self.kafka.produce(self.topic, partition, log[self._done[partition] : upto])
            self._done[partition] = upto


class TradesCase(LogCase):
    """Trades: disorder, ties, corrections, late ones, and some poison among them."""

    @override
    def entries(self, seed: int, records: int) -> list[list[Entry]]:
        self.trades = self.draw(seed, records)
        chance = random.Random(seed)
        logs = []
        for trades in self.trades:
            log: list[Entry] = []
            for trade in trades:
                if chance.random() < 0.004:
                    log.append((b"poison", chance.choice(_POISON), trade.time))
                log.append((trade.key.encode(), io.message(trade), trade.time + 400))
            logs.append(log)
        return logs

    def draw(self, seed: int, records: int) -> list[list[T]]:
        """The trades, by partition, each where its key belongs."""
        return io.random_log(seed, records)

    @property
    @override
    def result_lanes(self) -> set[str]:
        keys = {trade.key for trades in self.trades for trade in trades}
        return {lane_name("results", partition_of(key.encode(), io.SHARDS)) for key in keys}


def trades_in(records: Iterable[Record], message: Any, start: str) -> int:  # a message type
    """Trades in the last revision of each row, which has an instrument and a field `start`."""
    last: dict[tuple[str, int], int] = {}
    for record in records:
        row = message.FromString(record.value)
        last[row.instrument, getattr(row, start)] = row.trade_count
    return sum(last.values())


def trades_in_table(connection: psycopg.Connection, rows: str) -> int:
    """Trades in the rows of a table, such as `ewma` or `candles WHERE interval = '1m'`."""
    query = f"SELECT sum(trade_count) FROM {rows}"
    row = connection.execute(query).fetchone()
    return int(row[0] or 0) if row else 0
