"""Trades into a real topic, candles out of the real sinks, in the oracle's terms."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg

from schemas.candles import INTERVALS_MS
from schemas.market_pb2 import Candle, Decimal, Trade
from schemas.murmur2 import partition_of
from tests import flow_io, oracle
from tests.oracle import Rule, T
from tests.real.kafka_client import Kafka

SHARDS = 8
BASE_MS = 1_700_000_040_000


def message(trade: T, scale: int = 8) -> bytes:
    """A `Trade` message; any scale from 8 up means the same."""
    return Trade(
        instrument=trade.key,
        timestamp_ms=trade.time,
        price=Decimal(unscaled=trade.price * 10 ** (scale - 8), scale=scale),
        quantity=Decimal(unscaled=trade.quantity, scale=8),
        side=trade.side,
        trade_seq=trade.seq,
    ).SerializeToString()


def random_log(seed: int, records: int, *, partitions: int = 3, keys: int = 12) -> list[list[T]]:
    """Partitions of trades placed by key: disorder, ties, corrections, a few late ones."""
    chance = random.Random(seed)
    logs: list[list[T]] = [[] for _ in range(partitions)]
    names = [f"I{i}" for i in range(keys)]
    seqs = dict.fromkeys(names, 0)
    time = BASE_MS
    for _ in range(records):
        time += chance.choice([0, 1, 5, 20, 60])
        key = chance.choice(names)
        seqs[key] += chance.choice([1] * 200 + [2])
        delay = chance.choice([0] * 20 + [100, 700, 1_900, 2_500, 8_000])
        if chance.random() < 0.002:
            delay = 70_000 if chance.random() < 0.5 else 500_000
        trade = T(
            time - delay, key, chance.randrange(1, 10**11), chance.randrange(1, 10**11),
            chance.randrange(2), seqs[key],
        )  # fmt: skip
        logs[partition_of(key.encode(), partitions)].append(trade)
    return logs


def produce(kafka: Kafka, topic: str, logs: list[list[T]], first: int = 0) -> None:
    """Append `logs` to the partitions of `topic`, with the event times as timestamps."""
    for partition, log in enumerate(logs):
        records = [
            (t.key.encode(), message(t, 8 + (first + i) % 3 * (t.price < 10**16)), t.time + 400)
            for i, t in enumerate(log)
        ]
        kafka.produce(topic, partition, records)


def settings(kafka: Kafka, topic: str, url: str, **more: str) -> dict[str, str]:
    """Environment of a finite run."""
    return {
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap,
        "DATABASE_URL": url,
        "INPUT_TOPIC": topic,
        "OUTPUT_TOPIC": f"{topic}-out",
        "STOP_AT_END": "1",
        **more,
    }


def run(directory: Path, env: dict[str, str], **more: Any) -> tuple[int, str]:
    """Run the flow to its end: exit status and what it printed; see `tests.flow_io.run`."""
    return flow_io.run("dataflows.candles", directory, env, **more)


def kafka_rows(
    kafka: Kafka, topic: str, parse: Callable[[bytes], Any] | None = None
) -> list[list[dict]]:
    """Rows per partition of a candles topic, in order; see `tests.flow_io.messages`."""
    out = flow_io.messages(kafka, topic, Candle, "close_time_ms", parse)
    for row in (row for rows in out for row in rows):
        row["interval"] = INTERVALS_MS[row["interval"]]
        if not row["trade_count"]:
            row |= {name: None for name in row if name.endswith("_trade_time")}
        row |= {name: row[name] or None for name in ("vwap", "first_trade_seq", "last_trade_seq")}
    return out


def table_rows(url: str) -> dict[tuple[str, int, int], dict]:
    """Rows of the table `candles` by key."""
    rows = flow_io.table(url, "candles")
    for row in rows:
        row["interval"] = INTERVALS_MS[row["interval"]]
    return final([rows])


def expected(logs: list[list[T]], rule: Rule, shards: int = SHARDS) -> list[list[dict]]:
    """The oracle's rows per shard for a finite run."""
    out = []
    for shard in range(shards):
        rows = oracle.candles(
            logs, rule, limit=oracle.FOREVER,
            keys=lambda key, shard=shard: partition_of(key.encode(), shards) == shard,
        )  # fmt: skip
        for row in rows:
            row.pop("tick")
        out.append(rows)
    return out


def final(rows: list[list[dict]]) -> dict[tuple[str, int, int], dict]:
    """The last revision of each candle."""
    return {(r["instrument"], r["interval"], r["open_time"]): r for part in rows for r in part}


def count(url: str, table: str) -> int:
    """Rows of a table; 0 when it does not exist."""
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT to_regclass(%s)", (table,)).fetchone()
        if row is None or row[0] is None:
            return 0
        found = connection.execute(f"SELECT count(*) FROM {table}").fetchone()  # type: ignore[arg-type]
        return int(found[0]) if found else 0
