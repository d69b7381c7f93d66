"""The driver's load, on a real topic and with a real registry."""

from collections import Counter

import pytest

from dataflows.commands.drive_devices import main
from schemas.device_events import decode_one
from schemas.device_wire import DATA_RECEIVED
from tests.real.kafka_client import Kafka
from tests.real.registry import SchemaRegistry


@pytest.mark.filterwarnings("ignore")  # of the registry client's own libraries
@pytest.mark.parametrize("framed", [False, True])
def test_events_of_all_kinds_and_devices_are_produced(
    framed: bool,
    kafka: Kafka,
    registry: SchemaRegistry,
    topic: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap)
    if framed:
        monkeypatch.setenv("SCHEMA_REGISTRY_URL", registry.url)
    options = ["--topic", topic, "--devices", "7", "--rate", "0", "--events", "4000"]
    assert main(options) == 0
    assert capsys.readouterr().out == f"4,000 events sent to {topic}.\n"
    places: dict[bytes | None, set[int]] = {}
    kinds: Counter[int] = Counter()
    for partition, records in enumerate(kafka.read(topic)):
        for record in records:
            value = record.value or b""
            assert not framed or value[0] == 0
            event = decode_one(record.key, value[5:] if framed else value)
            assert event.reason == ""
            assert event.time_ms == record.timestamp_ms
            assert event.kind != DATA_RECEIVED or 0 <= event.value < 1
            places.setdefault(record.key, set()).add(partition)
            kinds[event.kind] += 1
    assert places.keys() == {b"device-%d" % (1 + i) for i in range(7)}
    assert all(len(own) == 1 for own in places.values()), "a device keeps to its partition"
    assert [kinds[kind] / 4_000 for kind in range(3)] == pytest.approx([0.25, 0.5, 0.25], abs=0.03)


def test_the_driver_tells_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--events", "1"]) == 2
    assert "KAFKA_BOOTSTRAP_SERVERS" in capsys.readouterr().err
