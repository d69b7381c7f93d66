"""Settings of the flow `vehicles`: which source, and what does not go together."""

import pytest

from dataflows.vehicles_settings import VehiclesSettings
from schemas.errors import FlowError


def load(monkeypatch: pytest.MonkeyPatch, **env: str) -> VehiclesSettings:
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    return VehiclesSettings.load()


@pytest.mark.parametrize(
    ("env", "captures_topics"),
    [
        ({}, False),
        ({"KAFKA_BOOTSTRAP_SERVERS": "k:9092"}, True),
        ({"KAFKA_BOOTSTRAP_SERVERS": "k:9092", "SOURCE_DATABASE_URL": "postgresql://h/a"}, False),
        ({"KAFKA_BOOTSTRAP_SERVERS": "k:9092", "VEHICLES_SOURCE": "slot"}, False),
    ],
)
def test_which_source(
    monkeypatch: pytest.MonkeyPatch, env: dict[str, str], captures_topics: bool
) -> None:
    assert load(monkeypatch, **env).captures_topics is captures_topics


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ({"VEHICLES_SOURCE": "debezium"}, "needs Kafka"),
        (
            {
                "VEHICLES_SOURCE": "debezium",
                "KAFKA_BOOTSTRAP_SERVERS": "k:9092",
                "SOURCE_DATABASE_URL": "postgresql://h/a",
            },
            "does not read SOURCE_DATABASE_URL",
        ),
        ({"VEHICLES_FORMAT": "avro"}, "SCHEMA_REGISTRY_URL is not set"),
        ({"INPUT_TOPIC": "x"}, "VEHICLES_TOPIC_PREFIX"),
        ({"VEHICLES_SLOT": "With-Capitals"}, "VEHICLES_SLOT"),
        (
            {"SOURCE_DATABASE_URL": "postgresql://h/a", "DATABASE_URL": "postgresql://h/a"},
            "same database",
        ),
    ],
)
def test_what_does_not_go_together(
    monkeypatch: pytest.MonkeyPatch, env: dict[str, str], message: str
) -> None:
    with pytest.raises(FlowError, match=message):
        load(monkeypatch, **env)


def test_a_password_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FlowError, match=r"SOURCE_DATABASE_URL=\(hidden\)") as raised:
        load(monkeypatch, SOURCE_DATABASE_URL="mysql://u:secret@h/a")
    assert "secret" not in str(raised.value)


def test_each_version_has_a_slot_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load(monkeypatch).slot == "tidemark_vehicles_1"
    assert load(monkeypatch, FLOW_VERSION="2-B.c").slot == "tidemark_vehicles_2_b_c"
