"""The log of the candles flow as JSON, on real Kafka and PostgreSQL."""

import json
import logging
from pathlib import Path

import psycopg
import pytest

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
