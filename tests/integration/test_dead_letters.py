"""Rejected records of a real flow: listed, shown, and sent again once each."""

import json
from collections import Counter
from pathlib import Path

import pytest

from dataflows.commands.dead_letters import main
from schemas.market_pb2 import Candle
from tests import candles_io as io
from tests.real.kafka_client import Kafka

pytestmark = pytest.mark.kafka

POISON = [b"no trade", None, b"", b"\xff\xff"]


@pytest.fixture
def rejected(kafka: Kafka, topic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The topic of rejected records of a flow that met poison in both its partitions."""
    logs = io.random_log(1, 200, partitions=2)
    kafka.create_topic(topic, 2)
    io.produce(kafka, topic, logs)
    for partition in range(2):
        kafka.produce(topic, partition, [(b"key", value, io.BASE_MS) for value in POISON])
    run_candles(kafka, topic, tmp_path)
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap)
    return f"{topic}-out.rejected"


def run_candles(kafka: Kafka, topic: str, directory: Path) -> None:
    code, output = io.run(directory, io.settings(kafka, topic, "off"))
    assert code == 0, output


def listed(capsys: pytest.CaptureFixture[str], topic: str, *more: str) -> list[dict]:
    capsys.readouterr()  # what came before
    code = main(["list", topic, "--json", *more])
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert code == (0 if rows else 1)
    return rows


def test_letters_are_listed_and_shown(
    kafka: Kafka, rejected: str, topic: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = listed(capsys, rejected)
    by_reason = Counter(row["reason"] for row in rows)
    assert len(rows) == 2 * len(POISON)
    assert by_reason["no_value"] == 2
    assert by_reason["undecodable"] >= 2
    assert {row["topic"] for row in rows} == {topic}
    values = [None if row["value"] is None else bytes.fromhex(row["value"]) for row in rows]
    assert Counter(values) == Counter(2 * POISON)
    log = kafka.read(topic)
    for row, value in zip(rows, values, strict=True):
        assert log[row["partition"]][row["offset"]].value == value
    assert {r["reason"] for r in listed(capsys, rejected, "--reason", "no_value")} == {"no_value"}
    assert len(listed(capsys, rejected, "--limit", "3")) == 3
    assert not listed(capsys, rejected, "--from-topic", "another")

    place = next(row["place"] for row in rows if row["value"] == b"no trade".hex())
    assert main(["show", rejected, place]) == 0
    shown = capsys.readouterr().out
    assert "undecodable" in shown
    assert "no trade" in shown
    assert main(["list", rejected]) == 0
    assert "undecodable" in capsys.readouterr().out
    assert main(["show", rejected, "1:999999"]) == 1


def test_each_letter_is_sent_once_to_the_partition_it_came_from(
    kafka: Kafka, rejected: str, topic: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    before = [len(records) for records in kafka.read(topic)]
    assert main(["replay", rejected, "--dry-run"]) == 0
    assert [len(records) for records in kafka.read(topic)] == before
    assert main(["replay", rejected, "--reason", "no_value"]) == 0
    assert main(["replay", rejected, "--place", "0:0"]) in (0, 1)  # unless that one had no value
    assert main(["replay", rejected]) == 0
    for partition, records in enumerate(kafka.read(topic)):
        again = [record.value for record in records[before[partition] :]]
        assert Counter(again) == Counter(POISON)
    assert main(["replay", rejected]) == 1, "there is none left"
    assert not listed(capsys, rejected)
    assert all(row["replayed"] for row in listed(capsys, rejected, "--again"))
    assert main(["replay", rejected, "--again", "--limit", "1"]) == 0
    # What is rejected again is a letter of its own, and the trades are counted once.
    run_candles(kafka, topic, tmp_path)
    assert len(listed(capsys, rejected)) == 2 * len(POISON) + 1
    newest = {}
    for record in (record for records in kafka.read(f"{topic}-out") for record in records):
        candle = Candle.FromString(record.value or b"")
        newest[candle.instrument, candle.open_time_ms] = candle.trade_count
    assert sum(newest.values()) + len(kafka.read(f"{topic}-out.late")[0]) <= 200


def test_what_cannot_be_done_is_told(
    kafka: Kafka, rejected: str, topic: str, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    assert main(["list", f"{topic}-nowhere"]) == 2
    assert rejected in capsys.readouterr().err
    assert main(["list", topic]) == 2
    assert "is no dead letter" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["show", rejected, "17"])
    monkeypatch.delenv("KAFKA_BOOTSTRAP_SERVERS")
    assert main(["list", rejected]) == 2
    assert "KAFKA_BOOTSTRAP_SERVERS is not set" in capsys.readouterr().err
