"""The sellers flow on real Kafka and real PostgreSQL against the oracle; its cases by name."""

import json
import random
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from dataflows.commands import drive_sales
from schemas.murmur2 import partition_of
from tests import candles_io, flow_io, totals_oracle
from tests.oracle import FOREVER, Rule, T
from tests.real.flows import FlowProcess
from tests.real.kafka_client import Kafka

pytestmark = pytest.mark.kafka

MODULE = "dataflows.sellers"
MINUTE_MS = 1_673_257_140_000  # 2023-01-09T09:39:00Z
SHARDS = 8


def sale(seller: str, amount: int, time_ms: int) -> bytes:
    return json.dumps({"seller_id": seller, "amount_usd": amount, "sale_ts": time_ms}).encode()


def put(kafka: Kafka, topic: str, partition: int, *values: bytes) -> None:
    kafka.produce(topic, partition, [(None, value, MINUTE_MS) for value in values])


def ms(text: str) -> int:
    assert text.endswith("Z")
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def published(kafka: Kafka, topic: str) -> list[list[dict[str, Any]]]:
    """Rows per partition, in order; times in ms."""
    out = []
    for partition in kafka.read(topic):
        rows = []
        for record in partition:
            row = json.loads(record.value or b"")
            assert record.key == row["seller_id"].encode()
            row |= {name: ms(row[name]) for name in ("window_start", "window_end")}
            assert record.timestamp_ms == row["window_end"]
            rows.append(row)
        out.append(rows)
    return out


def newest(rows: list[list[dict[str, Any]]]) -> dict[tuple[str, int], dict[str, Any]]:
    return {(r["seller_id"], r["window_start"]): r for part in rows for r in part}


def stored(url: str) -> dict[tuple[str, int], dict[str, Any]]:
    return newest([flow_io.table(url, "aggregated_sales")])


def as_sales(log: list[T]) -> list[tuple[bytes | None, bytes, int]]:
    return [(None, sale(t.key, totals_oracle.amount(t), t.time), t.time + 400) for t in log]


def test_output_equals_the_oracle_in_both_sinks_over_restarts(
    kafka: Kafka, topic: str, postgres_url: str, tmp_path: Path
) -> None:
    """✗ A restart neither loses nor repeats a window."""
    logs = candles_io.random_log(5, 3_000)
    kafka.create_topic(topic, len(logs))
    env = candles_io.settings(kafka, topic, postgres_url)
    for step, workers in enumerate((1, 2, 1)):
        for partition, log in enumerate(logs):
            third = len(log) // 3
            part = log[step * third : (step + 1) * third if step < 2 else None]
            kafka.produce(topic, partition, as_sales(part))
        flow_io.finish(
            MODULE, tmp_path, env, name=str(step), workers=workers, recovery=tmp_path / "recovery"
        )
    rows = published(kafka, f"{topic}-out")
    seen: dict[tuple[str, int], int] = {}
    for row in (row for part in rows for row in part):
        key = (row["seller_id"], row["window_start"])
        assert row["revision"] == seen.get(key, -1) + 1
        seen[key] = row["revision"]
    assert stored(postgres_url) == newest(rows)
    wanted = {}
    for shard in range(SHARDS):
        for row in totals_oracle.totals(
            logs, Rule(), limit=FOREVER,
            keys=lambda key, shard=shard: partition_of(key.encode(), SHARDS) == shard,
        ):  # fmt: skip
            wanted[row["seller_id"], row["window_start"]] = row
    # Finite runs show windows early, so only what the last revisions say is the same.
    told = ("revision", "tick")
    assert {
        k: {n: v for n, v in row.items() if n not in told} for k, row in newest(rows).items()
    } == {k: {n: v for n, v in row.items() if n not in told} for k, row in wanted.items()}
    late = sum(map(len, kafka.read(f"{topic}-out.late")))
    assert sum(row["sale_count"] for row in newest(rows).values()) + late == sum(map(len, logs))


def test_the_record_is_as_promised(kafka: Kafka, topic: str, tmp_path: Path) -> None:
    kafka.create_topic(topic, 1)
    put(kafka, topic, 0, sale("LNK", 100, MINUTE_MS), sale("LNK", 251, MINUTE_MS + 59_999),
        sale("KC", -7, MINUTE_MS + 60_000))  # fmt: skip
    flow_io.finish(MODULE, tmp_path, candles_io.settings(kafka, topic, "off"))
    values = [r.value for part in kafka.read(f"{topic}-out") for r in part]
    assert sorted(json.loads(value or b"")["seller_id"] for value in values) == ["KC", "LNK"]
    assert (
        b'{"seller_id":"LNK","window_start":"2023-01-09T09:39:00Z",'
        b'"window_end":"2023-01-09T09:40:00Z","aggregated_amount":"351","sale_count":2,'
        b'"min_amount":"100","max_amount":"251","mean_amount":"175.5","revision":0}'
    ) in values


def test_the_tumbling_picture(kafka: Kafka, topic: str, tmp_path: Path) -> None:
    """Values 1, 2, 3 | 4, 5 | 6 in consecutive windows."""
    kafka.create_topic(topic, 1)
    for minute, amounts in enumerate(((1, 2, 3), (4, 5), (6,))):
        for second, amount in enumerate(amounts):
            put(kafka, topic, 0, sale("A", amount, MINUTE_MS + minute * 60_000 + second * 1_000))
    flow_io.finish(MODULE, tmp_path, candles_io.settings(kafka, topic, "off"))
    rows = [row for part in published(kafka, f"{topic}-out") for row in part]
    assert [row["aggregated_amount"] for row in rows] == ["6", "9", "6"]


def test_sums_do_not_overflow(kafka: Kafka, topic: str, postgres_url: str, tmp_path: Path) -> None:
    """✗"""
    kafka.create_topic(topic, 1)
    for seller, amount in (("up", 2**63 - 1), ("down", -(2**63))):
        put(kafka, topic, 0, *[sale(seller, amount, MINUTE_MS)] * 3)
    flow_io.finish(MODULE, tmp_path, candles_io.settings(kafka, topic, postgres_url))
    rows = stored(postgres_url)
    assert rows["up", MINUTE_MS]["aggregated_amount"] == str(3 * (2**63 - 1))
    assert rows["down", MINUTE_MS]["aggregated_amount"] == str(-3 * 2**63)
    assert rows["down", MINUTE_MS]["mean_amount"] == str(-(2**63))


def test_malformed_json_is_a_reject_with_its_offset_and_nothing_stops(
    kafka: Kafka, topic: str, postgres_url: str, tmp_path: Path
) -> None:
    """✗"""
    kafka.create_topic(topic, 1)
    put(kafka, topic, 0, sale("A", 1, MINUTE_MS), b"{no json", b"null", sale("A", 2, MINUTE_MS))
    flow_io.finish(MODULE, tmp_path, candles_io.settings(kafka, topic, postgres_url))
    assert stored(postgres_url)["A", MINUTE_MS]["aggregated_amount"] == "3"
    (records,) = kafka.read(f"{topic}-out.rejected")
    headers = [dict(record.headers) for record in records]
    assert [(h["offset"], h["reason"]) for h in headers] == [
        (b"1", b"undecodable"), (b"2", b"undecodable"),
    ]  # fmt: skip
    assert [record.value for record in records] == [b"{no json", b"null"]
    with psycopg.connect(postgres_url) as connection:
        offsets = connection.execute('SELECT "offset" FROM rejected ORDER BY 1').fetchall()
    assert offsets == [(1,), (2,)]


def test_the_last_window_closes_without_a_newer_sale_and_from_the_topics_start(
    kafka: Kafka, topic: str, tmp_path: Path
) -> None:
    """✗ twice: nothing was running when these sales came, and none comes after them."""
    kafka.create_topic(topic, 2)
    start_ms = time.time_ns() // 60_000_000_000 * 60_000
    chance = random.Random(1)
    amounts = [chance.randint(100, 999) for _ in range(50)]
    records = [(None, sale("LNK", amount, start_ms - 1_000), start_ms) for amount in amounts]
    kafka.produce(topic, 0, records)
    env = {**candles_io.settings(kafka, topic, "off"), "STOP_AT_END": "0", "IDLE_TIMEOUT_S": "0.5"}
    flow = FlowProcess(
        MODULE, log=tmp_path / "live.log", env=env, recovery_dir=tmp_path / "recovery",
    )  # fmt: skip
    try:
        flow_io.await_or_fail(
            flow, lambda: bool(kafka.topics(f"{topic}-out")) and any(kafka.read(f"{topic}-out"))
        )
    finally:
        flow.kill9()
    (row,) = [row for part in published(kafka, f"{topic}-out") for row in part]
    assert row["aggregated_amount"] == str(sum(amounts))
    assert row["window_end"] == start_ms


def test_the_producer_makes_sales_that_the_flow_takes(
    kafka: Kafka, topic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap)
    assert drive_sales.main(["--topic", topic, "--pause", "0", "--sales", "500"]) == 0
    flow_io.finish(MODULE, tmp_path, candles_io.settings(kafka, topic, "off"))
    rows = newest(published(kafka, f"{topic}-out")).values()
    assert sum(row["sale_count"] for row in rows) == 500
    assert {row["seller_id"] for row in rows} == {"LNK", "OMA", "KC", "DEN"}
    assert all(100 <= int(row["min_amount"]) <= int(row["max_amount"]) <= 999 for row in rows)


def test_a_schema_registry_is_refused(kafka: Kafka, topic: str, tmp_path: Path) -> None:
    env = candles_io.settings(kafka, topic, "off", SCHEMA_REGISTRY_URL="http://127.0.0.1:1")
    code, output = flow_io.run(MODULE, tmp_path, env)
    assert code == 1
    assert "Unset SCHEMA_REGISTRY_URL" in output
