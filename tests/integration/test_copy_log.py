"""A day computed again from a copy of its records, and held against what is stored."""

import re
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from dataflows.commands.copy_log import main
from tests import candles_io as io
from tests.deployed import ROOT
from tests.real.kafka_client import Kafka

pytestmark = pytest.mark.kafka

MINUTE_MS = 60_000
BEGIN_MS = io.BASE_MS // MINUTE_MS * MINUTE_MS + 2 * MINUTE_MS
END_MS = BEGIN_MS + 2 * MINUTE_MS
RULE = {"CORRECTION_S": "60"}


def iso(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat()


@pytest.fixture
def log(kafka: Kafka, topic: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A topic of about six minutes."""
    logs = io.random_log(5, 20_000)
    kafka.create_topic(topic, len(logs), {"retention.ms": "-1"})
    io.produce(kafka, topic, logs)
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap)
    return topic


def copy(log: str, target: str, *more: str) -> int:
    return main([log, target, "--from", iso(BEGIN_MS), "--to", iso(END_MS), *more])


def test_a_copy_is_the_span_as_it_is(
    kafka: Kafka, log: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert copy(log, f"{log}-copy", "--before", "0", "--after", "0") == 0
    copied = kafka.read(f"{log}-copy")
    for there, here in zip(kafka.read(log), copied, strict=True):
        times_ms = [record.timestamp_ms for record in there]
        first = next(i for i, ms in enumerate(times_ms) if ms >= BEGIN_MS)
        last = next(i for i, ms in enumerate(times_ms) if ms >= END_MS)
        assert [record[1:] for record in map(fields, here)] == [
            record[1:] for record in map(fields, there[first:last])
        ]
        assert [record.offset for record in here] == list(range(last - first))
    n = sum(map(len, copied))
    assert f"{n:,} records, timestamps from" in capsys.readouterr().out

    assert copy(log, f"{log}-copy") == 2
    assert "holds records already" in capsys.readouterr().err
    assert kafka.end_offsets(f"{log}-copy") == [len(part) for part in copied]


def fields(record: object) -> tuple[object, ...]:
    return tuple(getattr(record, name) for name in ("offset", "timestamp_ms", "key", "value"))


def test_a_span_goes_to_the_end_of_the_log_at_most(
    kafka: Kafka, log: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert copy(log, f"{log}-all", "--before", "9999", "--after", "9999") == 0
    assert kafka.end_offsets(f"{log}-all") == kafka.end_offsets(log)
    assert main([log, f"{log}-none", "--day", "2030-01-01"]) == 1
    assert "no records of that time" in capsys.readouterr().out
    assert main([f"{log}-missing", f"{log}-none", "--day", "2030-01-01"]) == 2
    assert "There is no topic" in capsys.readouterr().err


def comparison(begin_ms: int, end_ms: int) -> str:
    """The query of the guide, for our span."""
    (query,) = re.findall(r"```sql\n\s*(SELECT .*?;)\n\s*```", guide(), re.DOTALL)
    for day, time_ms in (("2026-11-28", begin_ms), ("2026-11-29", end_ms)):
        query = query.replace(f"'{day}'", f"'{iso(time_ms)}'")
    return query


def guide() -> str:
    return (ROOT / "docs" / "operator.md").read_text()


def test_a_day_is_computed_again_and_compared(
    kafka: Kafka, log: str, postgres_url: str, tmp_path: Path
) -> None:
    stored, again = tmp_path / "stored", tmp_path / "again"
    stored.mkdir()
    again.mkdir()
    code, output = io.run(stored, io.settings(kafka, log, postgres_url, **RULE))
    assert code == 0, output

    assert copy(log, f"{log}-day", "--before", "60", "--after", "70") == 0
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA day")
    env = io.settings(
        kafka,
        f"{log}-day",
        f"{postgres_url}?options=-csearch_path%3Dday",
        **RULE,
        FLOW_VERSION="day",
    )
    code, output = io.run(again, env)
    assert code == 0, output

    query = comparison(BEGIN_MS, END_MS)
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        assert connection.execute(query).fetchall() == []
        count = "SELECT count(*) FROM day.candles WHERE open_time >= %s AND open_time < %s"
        row = connection.execute(count, (iso(BEGIN_MS), iso(END_MS))).fetchone()
        assert row == (24,), "twelve instruments, two minutes"
        # And it does see a difference.
        connection.execute(
            "UPDATE candles SET volume = volume + 1 WHERE open_time = %s", (iso(BEGIN_MS),)
        )
        assert len(connection.execute(query).fetchall()) == 24
