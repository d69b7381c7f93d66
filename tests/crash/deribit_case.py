"""The exchange feed as a case for the crash harness.

The log is the whole history of a simulated exchange, a server of the test process: the feed
begins at the first trade of each instrument. The exchange's clock is moved by `grow` and stands
still at the end of trading, so each instrument has a last trade. Messages get lost, repeated,
put out of order and cut off together with their connection, and history fails now and then.

What must come of it: each (instrument, trade_seq) once, in order, as the market has it, in the
topic and in the table. The order of instruments among each other is that of a live feed, other
in each run, so a partition of the topic is compared instrument by instrument.

The feed has no end of its own: it is stopped once all lanes are at the last trade. What was lost
at the very end nothing tells of, as no trade follows; the feed finds it when it connects anew
for lack of data, after DERIBIT_STALE_S.
"""

import json
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal as Figure
from typing import Any

import psycopg
from typing_extensions import override

from schemas.market_pb2 import Decimal, Side, Trade
from schemas.murmur2 import partition_of
from sources.exchange.faults import Fault, Faults
from sources.exchange.market import ExchangeMarket
from sources.exchange.server import ExchangeServer
from tests.crash.sink_case import SinkCase, copied, text_of
from tests.real.kafka_client import Record

__all__ = ["DeribitCase"]

_OPENED_AT_MS = 1_700_000_000_000
_TRADING_S = 60
_INSTRUMENTS = 12
_FAULT_SHARE = 0.03
_HISTORY_FAULTS: tuple[Fault, ...] = (
    "history_error", "history_empty", "history_late", "too_many_requests",
)  # fmt: skip
_HISTORY_FAULT_SHARE = 0.05
_FIGURES = ("price", "amount", "index_price", "mark_price", "iv")


class DeribitCase(SinkCase):
    """See `tests.crash.sink_case.SinkCase`."""

    module = "dataflows.deribit"
    settings = {  # noqa: RUF012  # declared as ClassVar by its base
        "DERIBIT_CONNECTIONS": "2",
        "DERIBIT_PARTITIONS": "3",
        "DERIBIT_STALE_S": "1.5",
        "DERIBIT_START_SEQ": "1",
    }
    topics = ("",)
    tables = ("trades",)
    asides = ()
    other_version = {"DERIBIT_PARTITIONS": "2"}  # noqa: RUF012

    @override
    def open_input(self, seed: int, records: int) -> None:
        self._chance = random.Random(seed)
        self._now_ms = _OPENED_AT_MS
        self._market = ExchangeMarket(
            _OPENED_AT_MS, seed=seed, instruments=_INSTRUMENTS, rate=records / _TRADING_S
        )
        end_ms = _OPENED_AT_MS + 1_000 * _TRADING_S
        counts = {name: self._market.count(k, end_ms) for name, k in self._market.index.items()}
        self._last = {name: count for name, count in counts.items() if count}
        self._server = ExchangeServer(
            self._market, Faults(_FAULT_SHARE, seed), now_ms=lambda: self._now_ms
        ).start()

    @override
    def close_input(self) -> None:
        self._server.stop()

    @override
    def input_env(self, *, to_the_end: bool) -> dict[str, str]:
        return {
            "DERIBIT_ENDPOINT": self._server.url,
            "DERIBIT_INSTRUMENTS": ",".join(self._market.index),
        }

    @property
    @override
    def records(self) -> int:
        return sum(self._last.values())

    @property
    @override
    def result_lanes(self) -> set[str]:
        return {f"results-{name}" for name in self._last}

    @override
    def grow(self, share: float) -> None:
        """Let the exchange trade up to this share of its time."""
        now_ms = _OPENED_AT_MS + round(1_000 * _TRADING_S * min(share, 1.0))
        if now_ms > self._now_ms and self._chance.random() < _HISTORY_FAULT_SHARE:
            self._server.faults.request(self._chance.choice(_HISTORY_FAULTS))
        self._now_ms = max(self._now_ms, now_ms)

    @override
    def is_complete(self, output: str) -> bool:
        """Whether each store has every instrument's last trade."""
        target = {f"results-{name}": last for name, last in self._last.items()}
        if self.with_postgres and self.in_progress_table(output) != target:
            return False
        return self.positions(output)["Kafka"] == target

    @override
    def ordered(self, name: str, records: Sequence[Record]) -> dict[str, list[bytes]]:
        """The records of one partition, by instrument."""
        found = defaultdict(list)
        for record in records:
            found[f"{name}/{(record.key or b'').decode()}"].append(text_of(record))
        return found

    @override
    def expected(self) -> dict[str, list[bytes]]:
        """Records and rows as the market's own trades make them."""
        partitions = int((self.settings | self.more)["DERIBIT_PARTITIONS"])
        found: dict[str, list[bytes]] = {}
        rows: list[bytes] = []
        for name, last in self._last.items():
            home = partition_of(name.encode(), partitions)
            texts = self._market.history(self._market.index[name], 1, last)
            trades = [json.loads(text, parse_float=Figure) for text in texts]
            found[f"topic results/{home}/{name}"] = [text_of(_record(trade)) for trade in trades]
            rows += map(_row, trades)
        return found | ({"table trades": sorted(rows)} if self.with_postgres else {})

    @override
    def in_topics(self, results: Mapping[str, list[Record]]) -> int:
        return len(results[""])

    @override
    def in_tables(self, connection: psycopg.Connection) -> int:
        row = connection.execute("SELECT count(*) FROM trades").fetchone()
        return int(row[0]) if row else 0


def _record(trade: Mapping[str, Any]) -> Record:
    """The Kafka record of a trade as the exchange sends it."""
    price, quantity, index_price, mark_price, iv = (
        None if trade.get(name) is None else _decimal(str(trade[name])) for name in _FIGURES
    )
    message = Trade(
        instrument=trade["instrument_name"],
        timestamp_ms=trade["timestamp"],
        price=price,
        quantity=quantity,
        side=Side.Value(trade["direction"].upper()),
        trade_seq=trade["trade_seq"],
        trade_id=trade["trade_id"],
        index_price=index_price,
        mark_price=mark_price,
        iv=iv,
        liquidation=trade.get("liquidation", ""),
        block_trade_id=trade.get("block_trade_id", ""),
        tick_direction=trade["tick_direction"],
    )
    value = message.SerializeToString()
    return Record(0, trade["timestamp"], message.instrument.encode(), value)


def _decimal(text: str) -> Decimal:
    whole, _, fraction = text.partition(".")
    return Decimal(unscaled=int(whole + fraction), scale=len(fraction))


def _row(trade: Mapping[str, Any]) -> bytes:
    """The row of a trade as COPY writes it."""
    names = ("instrument_name", "trade_seq", "timestamp", "price", "amount", "direction",
             "trade_id", "index_price", "mark_price", "iv", "liquidation", "block_trade_id",
             "tick_direction")  # fmt: skip
    time = datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=trade["timestamp"])
    return copied(time if name == "timestamp" else trade.get(name) for name in names)
