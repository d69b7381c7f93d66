"""The log of the candles flow as JSON, on real Kafka and PostgreSQL."""

import json
import logging
from pathlib import Path

import psycopg
import pytest
from psycopg.rows import scalar_row

from sinks.postgres import prepare_postgres
from tests import candles_io as io
from tests.integration.postgres_rows import FLOW, ROUTES, candles, partition
from tests.real.kafka_client import Kafka


def test_what_cannot_start_says_so_in_one_object(
    kafka: Kafka, topic: str, postgres_url: str, tmp_path: Path
) -> None:
    env = io.settings(kafka, topic, postgres_url, LOG_FORMAT="json")
    code, output = io.run(tmp_path, env, timeout_s=300)
    assert code == 1
    (line,) = map(json.loads, output.splitlines())
    assert line["message"].startswith(f"The input topic {topic} does not exist")
    assert (line["level"], line["flow"]) == ("CRITICAL", "candles")
    assert line["remedy"].startswith("Create it")


def test_at_debug_every_line_is_an_object_and_tells_of_each_transaction_up_to_the_progress(
    kafka: Kafka, topic: str, postgres_url: str, tmp_path: Path
) -> None:
    logs = io.random_log(5, 3_000)
    kafka.create_topic(topic, len(logs))
    io.produce(kafka, topic, logs)
    env = io.settings(kafka, topic, postgres_url, LOG_FORMAT="json", LOG_LEVEL="DEBUG")
    code, output = io.run(tmp_path, env, workers=2, recovery=tmp_path / "recovery", timeout_s=300)
    assert code == 0, output
    lines = [json.loads(line) for line in output.splitlines()]
    assert {line["flow"] for line in lines} == {"candles"}
    assert all(line["timestamp"] and line["logger"] and line["message"] for line in lines)
    # The client may warn that a broker which has just begun to coordinate is asked once more.
    assert {line["level"] for line in lines} - {"WARNING"} == {"INFO", "DEBUG"}
    with psycopg.connect(postgres_url, row_factory=scalar_row) as connection:
        query = "SELECT json_object_agg(lane, position) FROM progress WHERE flow = 'candles'"
        stored = connection.execute(query).fetchone()
    for sink in ("kafka", "postgres"):
        told: dict[str, int] = {}
        for line in lines:
            if line["level"] == "DEBUG" and line.get("sink") == sink:
                assert line["position"] > told.get(line["lane"], -1)
                told[line["lane"]] = line["position"]
        assert told == stored, sink


def test_a_transaction_that_is_tried_again_names_flow_lane_and_position(
    postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    prepare_postgres(FLOW, ROUTES, url=postgres_url)
    sink = partition(postgres_url)
    sink.write_batch([candles([1, 2])])
    sink.snapshot()
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    sink.write_batch([candles([3, 4])])
    sink.snapshot()
    sink.close()
    (record,) = [one for one in caplog.records if one.levelno == logging.WARNING]
    assert (
        vars(record).items()
        >= {
            "flow": FLOW.name,
            "sink": "postgres",
            "sink_partition": "00",
            "lane": "results-00",
            "position": 4,
        }.items()
    )
