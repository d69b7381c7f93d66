"""The ewma flow on real Kafka and real PostgreSQL against the oracle."""

import math
from pathlib import Path
from typing import Any

import pytest

from schemas.market_pb2 import Ewma
from schemas.murmur2 import partition_of
from tests import candles_io as io
from tests import ewma_oracle, flow_io
from tests.oracle import FOREVER, T
from tests.real.kafka_client import Kafka

SHARDS = 8


def run(directory: Path, env: dict[str, str], name: str, **more: Any) -> None:
    flow_io.finish("dataflows.ewma", directory, env, name=name, **more)


def published(kafka: Kafka, topic: str) -> list[list[dict]]:
    """Rows per partition, in order."""
    out = flow_io.messages(kafka, topic, Ewma, "window_end_ms")
    for row in (row for rows in out for row in rows):
        row |= {name: row[name] or None for name in ("alpha", "halflife_s")}
    return out


def stored(url: str) -> dict[tuple[str, int], dict]:
    """Rows of the table by key."""
    return final([flow_io.table(url, "ewma")])


def final(rows: list[list[dict]]) -> dict[tuple[str, int], dict]:
    return {(r["instrument"], r["window_start"]): r for part in rows for r in part}


def expected(logs: list[list[T]], rule: ewma_oracle.Ewma) -> list[list[dict]]:
    """The oracle's rows per shard for a finite run."""
    out = []
    for shard in range(SHARDS):
        rows = ewma_oracle.averages(
            logs, rule, limit=FOREVER,
            keys=lambda key, shard=shard: partition_of(key.encode(), SHARDS) == shard,
        )  # fmt: skip
        out.append([{k: v for k, v in row.items() if k != "tick"} for row in rows])
    return out


def rounded(rows: list[dict], *ignored: str) -> list[dict]:
    """To compare with the oracle, which evaluates in another order."""
    return [
        {k: float(f"{v:.9g}") if k == "value" else v for k, v in row.items() if k not in ignored}
        for row in rows
    ]


@pytest.mark.parametrize("mode", ["window", "time"])
def test_output_equals_the_oracle_in_both_sinks(
    mode: str, kafka: Kafka, topic: str, postgres_url: str, tmp_path: Path
) -> None:
    logs = io.random_log(1, 6_000)
    kafka.create_topic(topic, len(logs))
    io.produce(kafka, topic, logs)
    env = io.settings(kafka, topic, postgres_url, EWMA_PERIOD_S="60")
    rule = ewma_oracle.Ewma(60_000, "window", 2 / 61)
    if mode == "time":
        env |= {"EWMA_MODE": "time", "EWMA_HALFLIFE": "30", "EWMA_VOLUME_WEIGHTED": "true"}
        rule = ewma_oracle.Ewma(60_000, "time", None, 30_000.0, weighted=True)
    run(tmp_path, env, "run")
    rows = published(kafka, f"{topic}-out")
    assert list(map(rounded, rows)) == list(map(rounded, expected(logs, rule)))
    assert stored(postgres_url) == final(rows)
    folded = sum(row["trade_count"] for row in final(rows).values())
    late = io.count(postgres_url, "late")
    assert late == sum(map(len, kafka.read(f"{topic}-out.late"))) > 0
    assert folded + late == sum(map(len, logs)), "folded + late = read"

    run(tmp_path, env, "again", workers=2)  # without any recovery store
    assert published(kafka, f"{topic}-out") == rows
    assert stored(postgres_url) == final(rows)


def test_recovery_goes_on_with_one_and_two_workers_as_the_log_grows(
    kafka: Kafka, topic: str, postgres_url: str, tmp_path: Path
) -> None:
    logs = io.random_log(2, 4_000)
    kafka.create_topic(topic, len(logs) + 1)  # one partition stays empty
    env = io.settings(kafka, topic, postgres_url, EWMA_PERIOD_S="60", EWMA_MODE="carry")
    done = [0] * len(logs)
    for step, workers in enumerate((1, 2, 1)):
        upto = [len(log) * (step + 1) // 3 for log in logs]
        parts = [log[a:b] for log, a, b in zip(logs, done, upto, strict=True)]
        io.produce(kafka, topic, parts)
        done = upto
        run(tmp_path, env, str(step), workers=workers, recovery=tmp_path / "recovery")
    seen: dict[tuple[str, int], int] = {}
    rows = published(kafka, f"{topic}-out")
    for row in (row for part in rows for row in part):
        key = (row["instrument"], row["window_start"])
        assert row["revision"] == seen.get(key, -1) + 1
        seen[key] = row["revision"]
    assert stored(postgres_url) == final(rows)
    wanted = final(expected([*logs, []], ewma_oracle.Ewma(60_000, "carry", 2 / 61)))
    assert final(rows).keys() == wanted.keys()
    for key, row in final(rows).items():
        assert rounded([row], "revision") == rounded([wanted[key]], "revision")
        assert math.isfinite(row["value"])
