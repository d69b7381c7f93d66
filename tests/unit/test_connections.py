"""Settings of connections: what goes together, what clients are told, and what is never shown."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from dataflows.connections import ConnectionSettings
from dataflows.console import look
from dataflows.deribit_settings import DeribitSettings
from dataflows.process import kafka_config, needed_kafka_config
from dataflows.settings import FlowSettings
from dataflows.vehicles_settings import VehiclesSettings
from schemas.errors import FlowError
from schemas.hidden import Hidden
from schemas.registry import Registry

SECRET = "hunter2-Secret"
SASL = {
    "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
    "KAFKA_SASL_USERNAME": "flows",
    "KAFKA_SASL_PASSWORD": SECRET,
}


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "some.pem"
    path.touch()
    return str(path)


def load(
    variables: Mapping[str, str], kind: type[ConnectionSettings] = ConnectionSettings
) -> ConnectionSettings:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        return kind.load()


def refusal(variables: Mapping[str, str], kind: type[ConnectionSettings] = FlowSettings) -> str:
    with pytest.raises(FlowError) as caught:
        load(variables, kind)
    error: BaseException | None = caught.value
    while error is not None:  # nor may a traceback show it
        assert SECRET not in f"{error!s} {error!r}"
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return str(caught.value)


def test_kafka_without_any_security_is_what_it_was() -> None:
    config = kafka_config(load({"KAFKA_BOOTSTRAP_SERVERS": "a:1,b:2"}))
    assert config == {"bootstrap.servers": "a:1,b:2", "security.protocol": "PLAINTEXT"}


def test_everything_that_is_set_reaches_the_clients(file: str) -> None:
    settings = load(
        {
            **SASL,
            "KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
            "KAFKA_SSL_CA_LOCATION": file,
            "KAFKA_SSL_CERTIFICATE_LOCATION": file,
            "KAFKA_SSL_KEY_LOCATION": file,
            "KAFKA_SSL_KEY_PASSWORD": SECRET,
        }
    )
    config = kafka_config(settings)
    assert config == {
        "bootstrap.servers": "",
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "flows",
        "sasl.password": SECRET,
        "ssl.ca.location": file,
        "ssl.certificate.location": file,
        "ssl.key.location": file,
        "ssl.key.password": SECRET,
    }
    assert SECRET not in repr(config)


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        (SASL | {"KAFKA_SASL_USERNAME": ""}, "KAFKA_SASL_USERNAME is not set"),
        (SASL | {"KAFKA_SASL_PASSWORD": ""}, "KAFKA_SASL_PASSWORD is not set"),
        (SASL | {"KAFKA_SECURITY_PROTOCOL": "SSL"}, "KAFKA_SASL_USERNAME is set"),
        (SASL | {"KAFKA_SECURITY_PROTOCOL": ""}, "KAFKA_SECURITY_PROTOCOL=PLAINTEXT"),
        ({"KAFKA_SSL_KEY_PASSWORD": SECRET}, "KAFKA_SSL_KEY_PASSWORD is set"),
        ({"KAFKA_SSL_CA_LOCATION": __file__}, "KAFKA_SSL_CA_LOCATION is set"),
        (SASL | {"KAFKA_SSL_KEY_PASSWORD": SECRET}, "KAFKA_SSL_KEY_LOCATION is not"),
        (SASL | {"KAFKA_SSL_KEY_LOCATION": __file__}, "KAFKA_SSL_CERTIFICATE_LOCATION and"),
        (SASL | {"KAFKA_SSL_CA_LOCATION": "/no/file"}, "KAFKA_SSL_CA_LOCATION='/no/file'"),
        (SASL | {"KAFKA_SASL_MECHANISM": "GSSAPI"}, "KAFKA_SASL_MECHANISM='GSSAPI'"),
        ({"KAFKA_SECURITY_PROTOCOL": "TLS"}, "KAFKA_SECURITY_PROTOCOL='TLS'"),
        (
            {"SCHEMA_REGISTRY_BASIC_AUTH_USER_INFO": f"u:{SECRET}"},
            "SCHEMA_REGISTRY_BASIC_AUTH_USER_INFO is set",
        ),
        (
            {
                "SCHEMA_REGISTRY_URL": "https://h",
                "SCHEMA_REGISTRY_BASIC_AUTH_USER_INFO": SECRET,
            },
            "SCHEMA_REGISTRY_BASIC_AUTH_USER_INFO=(hidden)",
        ),
        (
            {
                "SCHEMA_REGISTRY_URL": f"https://u:{SECRET}@h",
                "SCHEMA_REGISTRY_BASIC_AUTH_USER_INFO": f"u:{SECRET}",
            },
            "SCHEMA_REGISTRY_URL holds a user",
        ),
        (
            {"SCHEMA_REGISTRY_URL": "http://h", "SCHEMA_REGISTRY_SSL_CA_LOCATION": __file__},
            "SCHEMA_REGISTRY_SSL_CA_LOCATION is set",
        ),
        (
            {"SCHEMA_REGISTRY_URL": "https://h", "SCHEMA_REGISTRY_SSL_KEY_LOCATION": __file__},
            "SCHEMA_REGISTRY_SSL_CERTIFICATE_LOCATION",
        ),
        ({"SECRETS_DIR": "/no/directory"}, "SECRETS_DIR=/no/directory"),
    ],
)
def test_what_does_not_go_together_is_refused_by_name(
    variables: dict[str, str], named: str
) -> None:
    assert named in refusal(variables)


@pytest.mark.parametrize(
    ("servers", "mechanism", "warns"),
    [
        ("kafka:9092", "PLAIN", True),
        ("127.0.0.1:1,kafka:9092", "PLAIN", True),
        ("127.0.0.1:1,localhost:2,[::1]:3", "PLAIN", False),
        ("kafka:9092", "SCRAM-SHA-512", False),
    ],
)
def test_a_password_that_crosses_the_network_in_the_clear_is_warned_of(
    servers: str, mechanism: str, warns: bool, caplog: pytest.LogCaptureFixture
) -> None:
    variables = SASL | {
        "KAFKA_BOOTSTRAP_SERVERS": servers,
        "KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
        "KAFKA_SASL_MECHANISM": mechanism,
    }
    with caplog.at_level(logging.WARNING):
        load(variables)
    assert ("KAFKA_SECURITY_PROTOCOL=SASL_PLAINTEXT" in caplog.text) == warns
    assert SECRET not in caplog.text


@pytest.mark.parametrize("upper", [True, False])
def test_a_secret_may_lie_in_a_file_and_a_variable_wins(tmp_path: Path, upper: bool) -> None:
    name = "KAFKA_SASL_PASSWORD"
    (tmp_path / (name if upper else name.lower())).write_text(f"{SECRET}\n")
    variables = SASL | {"SECRETS_DIR": str(tmp_path)}
    del variables[name]
    assert load(variables).kafka_sasl_password == SECRET
    assert load(variables | {name: "other"}).kafka_sasl_password == "other"


def test_a_wrong_value_from_a_file_is_not_shown(tmp_path: Path) -> None:
    (tmp_path / "DATABASE_URL").write_text(SECRET)
    assert "DATABASE_URL=(hidden)" in refusal({"SECRETS_DIR": str(tmp_path)})


EVERY: dict[type[ConnectionSettings], dict[str, str]] = {
    DeribitSettings: {"DERIBIT_CLIENT_ID": SECRET, "DERIBIT_CLIENT_SECRET": SECRET},
    VehiclesSettings: {"SOURCE_DATABASE_URL": f"postgresql://u:{SECRET}@h/d"},
    FlowSettings: {
        **SASL,
        "KAFKA_SSL_CERTIFICATE_LOCATION": __file__,
        "KAFKA_SSL_KEY_LOCATION": __file__,
        "KAFKA_SSL_KEY_PASSWORD": SECRET,
        "DATABASE_URL": f"postgresql://u:{SECRET}@h/d",
        "SCHEMA_REGISTRY_URL": f"https://u:{SECRET}@h",
    },
}


@pytest.mark.parametrize("kind", EVERY)
def test_no_secret_is_shown(kind: type[ConnectionSettings]) -> None:
    settings = load(EVERY[kind], kind)
    held: Any = settings.model_dump()
    assert any(SECRET in str(value) for value in held.values())
    for shown in (repr(settings), str(settings), repr(held), repr(settings.registry)):
        assert SECRET not in shown
    refusal({**EVERY[kind], "SHARDS": "0"}, kind)


def test_every_setting_that_sounds_like_a_secret_is_one() -> None:
    for kind in (*EVERY, ConnectionSettings):
        for name, field in kind.model_fields.items():
            if name.endswith(("_password", "_secret", "_url", "_user_info")):
                assert field.repr is False, name


def test_hidden_text_is_text_everywhere_but_in_its_repr() -> None:
    hidden = Hidden(SECRET)
    assert hidden == SECRET
    assert str(hidden) == f"{hidden}" == SECRET
    assert SECRET not in repr({"password": hidden})


def test_a_command_without_brokers_says_so() -> None:
    with pytest.raises(FlowError, match="KAFKA_BOOTSTRAP_SERVERS is not set"):
        needed_kafka_config(load({}))


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://h:8081/a", "https://h:8081/a"),
        (f"https://u:{SECRET}@h:8081/a", "https://h:8081/a"),
        (f"https://u:{SECRET}@h, https://u:{SECRET}@i", "https://h,https://i"),
    ],
)
def test_the_registrys_url_is_shown_without_its_user(url: str, shown: str) -> None:
    assert Registry(url).shown == shown


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://u:{SECRET}@h/d",
        f"postgresql://h/d?user=u&password={SECRET}",
        f"postgresql://h/d?sslpassword={SECRET}&sslmode=require",
        f"postgresql://u:{SECRET}@h/d?password={SECRET}&sslpassword={SECRET}",
    ],
)
def test_the_command_to_look_at_rows_holds_no_password(url: str) -> None:
    assert SECRET not in look("psql", url, "SELECT 1")
