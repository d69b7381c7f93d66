"""The scripts by which Compose sees whether what drives the flows has begun."""

import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from tests.deployed import ROOT
from tests.real.kafka_client import Kafka


def check(script: str, *names: str, **env: str) -> int:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = [ROOT / "docker" / script, *names]
    return subprocess.run(command, env={"PATH": path, **env}, timeout=60, check=False).returncode


@pytest.mark.kafka
def test_topics_are_well_once_they_hold_records(kafka: Kafka, topic: str) -> None:
    env = {"KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap}
    assert check("topics", topic, **env) != 0
    kafka.create_topic(topic, 3)
    assert check("topics", topic, **env) != 0
    kafka.produce(topic, 1, [(b"key", b"value", 1_700_000_000_000)])
    assert check("topics", topic, **env) == 0
    assert check("topics", topic, f"{topic}-other", **env) != 0
    assert kafka.topics(topic) == [topic], "asking makes none"


def test_tables_are_well_once_they_are_there(postgres_url: str) -> None:
    env = {"SOURCE_DATABASE_URL": postgres_url}
    assert check("tables", "engines", **env) != 0
    with psycopg.connect(postgres_url) as connection:
        connection.execute("CREATE TABLE engines ()")
    assert check("tables", "engines", **env) == 0
    assert check("tables", "engines", "vehicles", **env) != 0
