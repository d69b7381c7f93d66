"""Logs for the statistics flow, and what it must make of them, in the oracle's terms."""

import pickle
import random
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from operators.rolling_table import RollingRule
from schemas.market_pb2 import Statistics
from schemas.murmur2 import partition_of
from tests import candles_io as io
from tests import flow_io, rolling_oracle
from tests.oracle import FOREVER, T
from tests.real.kafka_client import Kafka
from tests.rolling_oracle import R, Rolling

__all__ = [
    "expected", "final", "going_on", "in_sequence", "published", "random_log", "records",
    "settings", "snapshots", "stored", "with_limit",
]  # fmt: skip

_ABSENT = (
    "open", "high", "low", "last", "price_change", "price_change_percent",
    "weighted_average_price", "first_trade_id", "last_trade_id", "high_time", "low_time",
)  # fmt: skip


def random_log(seed: int, trades: int, *, partitions: int = 3, keys: int = 9) -> list[list[T]]:
    """Trades placed by key: disorder, ties, late ones, and instruments that fall silent."""
    chance = random.Random(seed)
    logs: list[list[T]] = [[] for _ in range(partitions)]
    names = [f"I{i}" for i in range(keys)]
    awake = names
    time = io.BASE_MS
    for _ in range(trades):
        time += chance.choice([0, 1, 5, 40, 120])
        if chance.random() < 0.01:
            time += chance.choice([4_000, 15_000, 31_000])
            awake = chance.sample(names, chance.randint(2, keys))
        key = chance.choice(awake)
        delay = chance.choice([0] * 20 + [100, 700, 1_900, 2_500, 8_000, 25_000])
        if chance.random() < 0.003:
            delay = chance.choice([70_000, 500_000])
        price, quantity = chance.randrange(1, 10**11), chance.randrange(1, 10**11)
        log = logs[partition_of(key.encode(), partitions)]
        log.append(T(time - delay, key, price, quantity, chance.randrange(2)))
    return in_sequence(logs)


def in_sequence(logs: list[list[T]]) -> list[list[T]]:
    """Each instrument's trades numbered as they happened, those of a millisecond as they came."""
    places = [(t.time, p, i) for p, log in enumerate(logs) for i, t in enumerate(log)]
    numbers: dict[str, int] = {}
    out = [list(log) for log in logs]
    for _, p, i in sorted(places):
        trade = out[p][i]
        numbers[trade.key] = numbers.get(trade.key, 0) + 1
        out[p][i] = replace(trade, seq=numbers[trade.key])
    return out


def records(logs: Sequence[Sequence[T]]) -> list[list[R]]:
    """As the oracle takes them."""
    return [[R(t.time, t.key, (t,)) for t in log] for log in logs]


def with_limit(rule: Rolling) -> Rolling:
    """The rule with the correction horizon that the flow makes of it."""
    limit = RollingRule(rule.window, rule.pane, rule.tick, rule.quiet).horizon_limit_ms
    return replace(rule, horizon=min(rule.horizon, limit))


def settings(kafka: Kafka, topic: str, url: str, rule: Rolling, **more: str) -> dict[str, str]:
    """Environment of a finite run."""
    lengths = {
        "STATISTICS_WINDOW_S": rule.window,
        "STATISTICS_PANE_S": rule.pane,
        "STATISTICS_TICK_S": rule.tick,
        "STATISTICS_QUIET_S": rule.quiet,
        "LATENESS_S": rule.lateness,
        "CORRECTION_S": rule.horizon,
    }
    texts = {name: str(ms // 1_000) for name, ms in lengths.items()}
    return io.settings(kafka, topic, url, **texts, **more)


def expected(
    logs: Sequence[Sequence[R]], rule: Rolling, *, shards: int = io.SHARDS
) -> list[list[dict]]:
    """The oracle's rows per shard for a finite run; `close_time` is the tick."""
    out = []
    for shard in range(shards):
        rows = rolling_oracle.statistics(
            list(map(list, logs)), with_limit(rule), limit=FOREVER,
            keys=lambda key, shard=shard: partition_of(key.encode(), shards) == shard,
        )  # fmt: skip
        for row in rows:
            row.pop("tick")
        out.append(rows)
    return out


def going_on(before: list[list[dict]], whole: list[list[dict]]) -> list[list[dict]]:
    """Rows per shard once a finite run that wrote `before` is followed by one to the end."""
    out = []
    for old, new in zip(before, whole, strict=True):
        position = old[-1]["close_time"] if old else -FOREVER
        out.append(old + [row for row in new if row["close_time"] > position])
    return out


def published(
    kafka: Kafka, topic: str, parse: Callable[[bytes], Any] | None = None
) -> list[list[dict]]:
    """Rows per partition, in order; see `tests.flow_io.messages`."""
    out = flow_io.messages(kafka, topic, Statistics, "close_time_ms", parse)
    for row in (row for rows in out for row in rows):
        row |= {name: row[name] or None for name in _ABSENT}
    return out


def final(rows: list[list[dict]]) -> dict[tuple[str, int], dict]:
    """By primary key."""
    return {(row["instrument"], row["close_time"]): row for part in rows for row in part}


def stored(url: str, name: str) -> dict[tuple[str, int], dict]:
    """Rows of a table by key."""
    return final([flow_io.table(url, name)])


def snapshots(recovery: Path) -> list[Any]:
    """The newest snapshot of each part of a flow, by step and key."""
    newest: dict[tuple[str, str], bytes] = {}
    for file in sorted(recovery.glob("*.sqlite3")):
        with closing(sqlite3.connect(file)) as connection:
            rows = connection.execute(
                "SELECT step_id, state_key, ser_change FROM snaps ORDER BY snap_epoch"
            )
            newest |= {(step, key): change for step, key, change in rows}
    return [pickle.loads(newest[part]) for part in sorted(newest) if newest[part] is not None]
