"""Settings: their defaults, what may stand in a variable, and what a wrong one is told."""

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from dataflows.settings import CandleSettings, FlowSettings
from schemas.candles import INTERVALS_MS
from schemas.errors import FlowError
from tests.unit.test_docs import SETTINGS

_DOCS = Path(__file__).resolve().parents[2] / "docs" / "settings.md"
_FIELDS = CandleSettings.model_fields
_HERE = str(Path(__file__).parent)


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in _FIELDS:
        monkeypatch.delenv(name.upper(), raising=False)


def load(**variables: str) -> CandleSettings:
    """The settings of an environment with these variables and no others."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        return CandleSettings.load()


def refusal(**variables: str) -> str:
    with pytest.raises(FlowError) as caught:
        load(**variables)
    return str(caught.value)


def test_the_defaults() -> None:
    assert load().model_dump() == {
        "kafka_bootstrap_servers": None,
        "kafka_security_protocol": "PLAINTEXT",
        "kafka_sasl_mechanism": "PLAIN",
        "kafka_sasl_username": None,
        "kafka_sasl_password": None,
        "kafka_ssl_ca_location": None,
        "kafka_ssl_certificate_location": None,
        "kafka_ssl_key_location": None,
        "kafka_ssl_key_password": None,
        "database_url": None,
        "schema_registry_url": None,
        "schema_registry_basic_auth_user_info": None,
        "schema_registry_ssl_ca_location": None,
        "schema_registry_ssl_certificate_location": None,
        "schema_registry_ssl_key_location": None,
        "secrets_dir": None,
        "flow_version": "1",
        "shards": 8,
        "stop_at_end": False,
        "idle_timeout_s": 10,
        "lateness_s": 2,
        "correction_s": 300,
        "max_ahead_s": 600,
        "preview_ms": 100,
        "metrics_port": None,
        "metrics_host": "127.0.0.1",
        "input_topic": None,
        "output_topic": None,
        "data_dir": Path(".data"),
        "failpoints": None,
        "market_seed": 1,
        "market_instruments": 20,
        "market_rate": 200,
        "market_partitions": 4,
        "market_trades": None,
        "intervals": ("1m",),
        "fill_gaps": False,
        "gap_silence_s": 3_600,
        "input_format": "trade",
    }


GOOD: dict[str, tuple[str, Any]] = {
    "KAFKA_BOOTSTRAP_SERVERS": ("a:9092,b:9092", "a:9092,b:9092"),
    "KAFKA_SECURITY_PROTOCOL": ("SASL_SSL", "SASL_SSL"),
    "KAFKA_SASL_MECHANISM": ("SCRAM-SHA-512", "SCRAM-SHA-512"),
    "KAFKA_SASL_USERNAME": ("flows", "flows"),
    "KAFKA_SASL_PASSWORD": ("p", "p"),
    "KAFKA_SSL_CA_LOCATION": (__file__, Path(__file__)),
    "KAFKA_SSL_CERTIFICATE_LOCATION": (__file__, Path(__file__)),
    "KAFKA_SSL_KEY_LOCATION": (__file__, Path(__file__)),
    "KAFKA_SSL_KEY_PASSWORD": ("k", "k"),
    "DATABASE_URL": ("postgresql://u:p@h/d", "postgresql://u:p@h/d"),
    "SCHEMA_REGISTRY_URL": ("https://registry:8081", "https://registry:8081"),
    "SCHEMA_REGISTRY_BASIC_AUTH_USER_INFO": ("u:p", "u:p"),
    "SCHEMA_REGISTRY_SSL_CA_LOCATION": (__file__, Path(__file__)),
    "SCHEMA_REGISTRY_SSL_CERTIFICATE_LOCATION": (__file__, Path(__file__)),
    "SCHEMA_REGISTRY_SSL_KEY_LOCATION": (__file__, Path(__file__)),
    "SECRETS_DIR": (_HERE, Path(_HERE)),
    "FLOW_VERSION": ("2026-10.a_b", "2026-10.a_b"),
    "SHARDS": ("16", 16),
    "STOP_AT_END": ("1", True),
    "IDLE_TIMEOUT_S": ("0.5", 0.5),
    "LATENESS_S": ("0", 0),
    "CORRECTION_S": ("0", 0),
    "MAX_AHEAD_S": ("1.5", 1.5),
    "PREVIEW_MS": ("0", 0),
    "METRICS_PORT": ("9100", 9_100),
    "METRICS_HOST": ("0.0.0.0", "0.0.0.0"),
    "INPUT_TOPIC": ("a.b-c_D", "a.b-c_D"),
    "OUTPUT_TOPIC": ("x" * 230, "x" * 230),
    "DATA_DIR": ("some/where", Path("some/where")),
    "FAILPOINTS": ("name:3", "name:3"),
    "MARKET_SEED": ("0", 0),
    "MARKET_INSTRUMENTS": ("5000", 5_000),
    "MARKET_RATE": ("0.5", 0.5),
    "MARKET_PARTITIONS": ("64", 64),
    "MARKET_TRADES": ("1000", 1_000),
    "INTERVALS": ("1d,1m", ("1m", "1d")),
    "FILL_GAPS": ("true", True),
    "GAP_SILENCE_S": ("60", 60),
    "INPUT_FORMAT": ("order_execution_report", "order_execution_report"),
}


def test_every_variable_is_read() -> None:
    assert {name.lower() for name in GOOD} == set(_FIELDS)
    loaded = load(**{name: text for name, (text, _) in GOOD.items()})
    for name, (_, value) in GOOD.items():
        assert getattr(loaded, name.lower()) == value, name


@pytest.mark.parametrize("name", GOOD)
def test_an_empty_variable_is_an_unset_one(name: str) -> None:
    assert load(**{name: ""}) == load()


WRONG = {
    "DATABASE_URL": ["mysql://h/d", "host/d", "OFF"],
    "SCHEMA_REGISTRY_URL": ["registry:8081", "ftp://h"],
    "FLOW_VERSION": ["a b", "v/1", "é", "x" * 41, "1\n"],
    "SHARDS": ["0", "-1", "1025", "8.5", "eight"],
    "STOP_AT_END": ["maybe", "2"],
    "IDLE_TIMEOUT_S": ["0", "-1", "nan", "soon"],
    "LATENESS_S": ["-0.001", "86401", "nan", "inf", "2s"],
    "CORRECTION_S": ["-1", "604801", "nan"],
    "MAX_AHEAD_S": ["0", "-5", "nan", "inf", "1e300"],
    "PREVIEW_MS": ["-1", "0.5", "fast", "1" + "0" * 20],
    "METRICS_PORT": ["0", "65536", "http"],
    "METRICS_HOST": ["localhost", "10.0.0.1", "::1"],
    "INPUT_TOPIC": ["a b", "a/b", "x" * 231],
    "OUTPUT_TOPIC": ["a,b", "é", "x" * 231],
    "MARKET_SEED": ["-1", "x"],
    "MARKET_INSTRUMENTS": ["0", "5001"],
    "MARKET_RATE": ["0", "1000001", "nan"],
    "MARKET_PARTITIONS": ["0", "65"],
    "MARKET_TRADES": ["0", "-1", "1e6"],
    "INTERVALS": ["2m", "1m,", ",", "1m 5m", "1M", "1m,1m", "1m, 5m ,1m"],
    "FILL_GAPS": ["perhaps"],
    "GAP_SILENCE_S": ["0", "86401", "nan"],
    "INPUT_FORMAT": ["Trade", "json"],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in WRONG.items() for value in values]
)
def test_a_wrong_value_is_refused_with_the_variables_name(name: str, value: str) -> None:
    message = refusal(**{name: value})
    assert re.search(rf"\b{name}=", message)
    if name not in {"DATABASE_URL", "SCHEMA_REGISTRY_URL"}:
        assert repr(value) in message
    assert "Correct the environment variables" in message
    assert "docs/settings.md" in message
    assert "\n" not in message, "one paragraph"


def test_all_wrong_variables_are_named_at_once() -> None:
    message = refusal(**{name: values[0] for name, values in WRONG.items()})
    for name in WRONG:
        assert re.search(rf"\b{name}=", message)


@pytest.mark.parametrize("name", ["DATABASE_URL", "SCHEMA_REGISTRY_URL"])
def test_a_secret_is_never_shown(name: str) -> None:
    message = refusal(**{name: "htp://user:hunter2@host/db", "SHARDS": "0"})
    assert f"{name}=(hidden)" in message
    assert "hunter2" not in message
    scheme = "postgresql" if name == "DATABASE_URL" else "https"
    loaded = load(**{name: f"{scheme}://user:hunter2@host/db"})
    assert "hunter2" in getattr(loaded, name.lower())
    assert "hunter2" not in repr(loaded)
    assert "hunter2" not in str(loaded)


@given(st.lists(st.sampled_from(list(INTERVALS_MS)), min_size=1, max_size=6), st.data())
def test_intervals_come_in_rising_order_each_once(names: list[str], data: st.DataObject) -> None:
    blank = st.sampled_from(["", " "])
    text = ",".join(data.draw(blank) + name + data.draw(blank) for name in names)
    if len(set(names)) < len(names):
        assert "each interval once" in refusal(INTERVALS=text)
    else:
        intervals = load(INTERVALS=text).intervals
        assert intervals == tuple(name for name in INTERVALS_MS if name in names)
        lengths = [INTERVALS_MS[name] for name in intervals]
        assert lengths == sorted(lengths)


def test_an_unknown_interval_is_told_the_known_ones() -> None:
    assert "choose from 1s, 1m, 5m, 1h, 1d" in refusal(INTERVALS="1m,15m")


@pytest.mark.parametrize(
    ("variables", "topics", "output"),
    [
        ({}, {"1m": "candles.1m"}, "candles.1m"),
        ({"INTERVALS": "1h"}, {"1h": "candles.1h"}, "candles.1h"),
        ({"INTERVALS": "5m,1h"}, {"5m": "candles.5m", "1h": "candles.1h"}, "candles.5m"),
        (
            {"INTERVALS": "1h,1m,1s"},
            {"1s": "candles.1s", "1m": "candles.1m", "1h": "candles.1h"},
            "candles.1m",
        ),
        ({"OUTPUT_TOPIC": "mine"}, {"1m": "mine"}, "mine"),
        ({"OUTPUT_TOPIC": "mine", "INTERVALS": "1d"}, {"1d": "mine"}, "mine"),
        (
            {"OUTPUT_TOPIC": "mine", "INTERVALS": "1m,5m"},
            {"1m": "mine.1m", "5m": "mine.5m"},
            "mine",
        ),
    ],
)
def test_output_topics(variables: dict[str, str], topics: dict[str, str], output: str) -> None:
    loaded = load(**variables)
    assert loaded.topics == topics
    assert list(loaded.topics) == list(loaded.intervals)
    assert loaded.output == output


def test_topic_names_fit_kafka_with_every_ending() -> None:
    loaded = load(OUTPUT_TOPIC="x" * 230, INTERVALS="1m,5m")
    endings = (".live", ".late", ".rejected", ".progress")
    names = [*(f"{topic}.live" for topic in loaded.topics.values())]
    names += [loaded.output + ending for ending in endings]
    assert max(map(len, names)) <= 249


def test_settings_do_not_change_after_the_start() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        load().shards = 9


def test_a_flow_of_its_own_takes_the_common_settings() -> None:
    common = set(FlowSettings.model_fields)
    assert set(_FIELDS) - common == {"intervals", "fill_gaps", "gap_silence_s", "input_format"}
    assert all(field.description for field in _FIELDS.values())


_ROW = re.compile(r"^\| `(?P<name>[A-Z_]+)` \| `(?P<default>[^`]+)` \| (?P<meaning>\S.*\S) \|$")


def test_every_setting_is_in_the_docs_table() -> None:
    """One row per field, `variable`, `default`, meaning; `unset` is a default of None."""
    lines = _DOCS.read_text(encoding="utf-8").splitlines()
    rows = [row for row in map(_ROW.match, lines) if row]
    documented = [row["name"] for row in rows]
    assert sorted(documented) == sorted({n.upper() for kind in SETTINGS for n in kind.model_fields})
    for row in rows:
        name = row["name"].lower()
        kind = next(kind for kind in SETTINGS if name in kind.model_fields)
        default = kind.model_fields[name].default
        if row["default"] == "unset":
            assert default is None, row["name"]
        else:  # as it would stand in the variable
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv(row["name"], row["default"])
                assert getattr(kind.load(), name) == default, row["name"]
