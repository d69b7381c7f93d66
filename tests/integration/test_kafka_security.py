"""Kafka with TLS, users and access rights, on a real broker: the same output, or a clear no."""

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # not marked as exported
    AclBinding,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
)

from dataflows.commands import dead_letters, drive_devices
from dataflows.connections import ConnectionSettings
from dataflows.process import kafka_config
from schemas.errors import FlowError
from schemas.kafka_cluster import kafka_cluster
from sources import kafka as kafka_source
from sources.kafka import KafkaLog
from tests import candles_io as io
from tests.real.kafka_secured import SecuredKafkaBroker
from tests.real.tls import Authority

pytestmark = pytest.mark.kafka

SECRETS = ("sasl-Secret", "key-Secret", "wrong-Secret")
ROWS = 600


@pytest.fixture(scope="module")
def logs(secured_kafka: SecuredKafkaBroker) -> Iterator[str]:
    """A topic of trades, and beside it what a run without any security makes of them."""
    name = "secured-trades"
    trades = io.random_log(5, ROWS)
    secured_kafka.create_topic(name, len(trades))
    io.produce(secured_kafka, name, trades)
    yield name
    secured_kafka.delete_topics(name)


@pytest.fixture(scope="module")
def plain_rows(
    secured_kafka: SecuredKafkaBroker, logs: str, tmp_path_factory: pytest.TempPathFactory
) -> list[list[dict]]:
    env = io.settings(secured_kafka, logs, "off")
    code, output = io.run(tmp_path_factory.mktemp("plain"), env, timeout_s=300)
    assert code == 0, output
    rows = io.kafka_rows(secured_kafka, f"{logs}-out")
    assert sum(map(len, rows)) > ROWS / 20
    return rows


@pytest.fixture
def identity(secured_kafka: SecuredKafkaBroker, tmp_path: Path) -> dict[str, str]:
    """A certificate of the user `flows`, its key encrypted."""
    authority = secured_kafka.authority
    certificate, key = authority.issue("flows", password="key-Secret")
    return {
        "KAFKA_SSL_CERTIFICATE_LOCATION": str(certificate),
        "KAFKA_SSL_KEY_LOCATION": str(key),
        "KAFKA_SSL_KEY_PASSWORD": "key-Secret",
    }


def config(monkeypatch: pytest.MonkeyPatch, env: Mapping[str, str]) -> dict[str, str | int]:
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    return kafka_config(ConnectionSettings.load())


def has_secret(text: str) -> bool:
    return any(secret in text for secret in SECRETS)


@pytest.mark.parametrize(
    ("protocol", "mechanism"),
    [("SASL_SSL", "PLAIN"), ("SASL_SSL", "SCRAM-SHA-512"), ("SSL", None)],
)
def test_the_output_is_that_of_a_plain_run(
    secured_kafka: SecuredKafkaBroker,
    logs: str,
    plain_rows: list[list[dict]],
    identity: dict[str, str],
    protocol: str,
    mechanism: str | None,
    tmp_path: Path,
) -> None:
    output = f"{logs}-{protocol}-{mechanism or 'certificate'}"
    env = io.settings(secured_kafka, logs, "off", OUTPUT_TOPIC=output)
    env |= secured_kafka.environment(protocol)
    env |= {"KAFKA_SASL_MECHANISM": mechanism} if mechanism else identity
    code, printed = io.run(tmp_path, env, timeout_s=300)
    assert code == 0, printed
    assert io.kafka_rows(secured_kafka, output) == plain_rows
    assert not has_secret(printed)


@pytest.mark.parametrize("is_native", [True, False])
def test_both_clients_read_the_same_with_tls_and_a_user(
    secured_kafka: SecuredKafkaBroker,
    logs: str,
    is_native: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kafka_source, "is_available", lambda: is_native)
    secured = secured_kafka.environment("SASL_SSL") | {"KAFKA_SASL_MECHANISM": "SCRAM-SHA-256"}
    log = KafkaLog(config(monkeypatch, secured), logs, "both-clients")
    plain = KafkaLog({"bootstrap.servers": secured_kafka.bootstrap}, logs, "both-clients")
    for partition in range(log.partitions):
        assert log.end(partition) == plain.end(partition)
        assert read(log, partition) == read(plain, partition)


def read(log: KafkaLog, partition: int) -> list[tuple[int, bytes]]:
    fetcher = log.open(partition, None)
    found: list[tuple[int, bytes]] = []
    deadline = time.monotonic() + 60
    while not fetcher.at_end:
        assert time.monotonic() < deadline
        fetched = fetcher.poll(1_000)
        if fetched is not None:
            found += zip(
                np.asarray(fetched.offsets).tolist(), fetched.values.to_pylist(), strict=True
            )
    fetcher.commit(fetcher.position)
    fetcher.close()
    return found


def wrong_password(_: SecuredKafkaBroker, __: Path) -> dict[str, str]:
    return {"KAFKA_SASL_PASSWORD": "wrong-Secret"}


def wrong_scram_password(_: SecuredKafkaBroker, __: Path) -> dict[str, str]:
    return {"KAFKA_SASL_PASSWORD": "wrong-Secret", "KAFKA_SASL_MECHANISM": "SCRAM-SHA-512"}


def untrusted_ca(_: SecuredKafkaBroker, directory: Path) -> dict[str, str]:
    return {"KAFKA_SSL_CA_LOCATION": str(Authority(directory, "other").certificate)}


def wrong_host(broker: SecuredKafkaBroker, _: Path) -> dict[str, str]:
    address = broker.addresses["SASL_SSL"].replace("127.0.0.1", "localhost")
    return {"KAFKA_BOOTSTRAP_SERVERS": address}


def listener_without_tls(broker: SecuredKafkaBroker, _: Path) -> dict[str, str]:
    return {"KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap}


REFUSALS: list[tuple[Callable[[SecuredKafkaBroker, Path], dict[str, str]], str]] = [
    (wrong_password, "KAFKA_SASL_PASSWORD"),
    (wrong_scram_password, "KAFKA_SASL_PASSWORD"),
    (untrusted_ca, "KAFKA_SSL_CA_LOCATION"),
    (wrong_host, "KAFKA_BOOTSTRAP_SERVERS a name"),
    (listener_without_tls, "KAFKA_SECURITY_PROTOCOL"),
]


@pytest.mark.parametrize(("change", "named"), REFUSALS)
def test_a_refusal_names_the_variable(
    secured_kafka: SecuredKafkaBroker,
    change: Callable[[SecuredKafkaBroker, Path], dict[str, str]],
    named: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    env = secured_kafka.environment() | change(secured_kafka, tmp_path)
    with pytest.raises(FlowError) as caught:
        kafka_cluster(config(monkeypatch, env))
    assert named in str(caught.value)
    assert not has_secret(str(caught.value))


@pytest.mark.parametrize("change", [wrong_password, untrusted_ca])
def test_a_refused_flow_ends_at_start_with_one_paragraph(
    secured_kafka: SecuredKafkaBroker,
    logs: str,
    change: Callable[[SecuredKafkaBroker, Path], dict[str, str]],
    tmp_path: Path,
) -> None:
    env = io.settings(secured_kafka, logs, "off", OUTPUT_TOPIC=f"{logs}-refused")
    env |= secured_kafka.environment() | change(secured_kafka, tmp_path)
    code, output = io.run(tmp_path, env, timeout_s=300)
    assert code != 0
    errors = [line for line in output.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, output
    assert next(iter(change(secured_kafka, tmp_path))) in errors[0]
    assert not has_secret(output)
    assert secured_kafka.topics(f"{logs}-refused") == []


def test_a_plain_client_at_a_listener_with_tls_is_told_so(
    secured_kafka: SecuredKafkaBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = {"KAFKA_BOOTSTRAP_SERVERS": secured_kafka.addresses["SASL_SSL"]}
    with pytest.raises(FlowError, match="KAFKA_SECURITY_PROTOCOL"):
        kafka_cluster(config(monkeypatch, env))


def test_a_listener_that_wants_a_certificate_says_so(
    secured_kafka: SecuredKafkaBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(FlowError, match="KAFKA_SSL_CERTIFICATE_LOCATION"):
        kafka_cluster(config(monkeypatch, secured_kafka.environment("SSL")))


@pytest.mark.parametrize("password", ["wrong-Secret", None])
def test_a_key_that_cannot_be_read_is_named(
    secured_kafka: SecuredKafkaBroker,
    identity: dict[str, str],
    password: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    env = secured_kafka.environment("SSL") | identity
    del env["KAFKA_SSL_KEY_PASSWORD"]
    env |= {"KAFKA_SSL_KEY_PASSWORD": password} if password else {}
    with pytest.raises(FlowError, match="KAFKA_SSL_KEY_PASSWORD") as caught:
        kafka_cluster(config(monkeypatch, env))
    assert not has_secret(str(caught.value))


def test_commands_reach_a_secured_broker(
    secured_kafka: SecuredKafkaBroker,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config(monkeypatch, secured_kafka.environment())
    topic = "secured-devices"
    assert drive_devices.main(["--topic", topic, "--rate", "0", "--events", "50"]) == 0
    assert sum(map(len, secured_kafka.read(topic))) == 50
    secured_kafka.create_topic(f"{topic}.rejected", 1)
    assert dead_letters.main(["list", f"{topic}.rejected"]) == 1, "none there"
    secured_kafka.delete_topics(topic)
    assert not has_secret("".join(capsys.readouterr()))


def test_the_least_rights(
    secured_kafka: SecuredKafkaBroker, logs: str, plain_rows: list[list[dict]], tmp_path: Path
) -> None:
    """What docs/security.md lists is enough; without any of the topics a flow says which."""
    output = f"{logs}-limited"
    env = io.settings(secured_kafka, logs, "off", OUTPUT_TOPIC=output)
    env |= secured_kafka.environment(user="limited")
    code, printed = io.run(tmp_path, env, name="nothing", timeout_s=300)
    assert code != 0
    assert f"The input topic {logs} does not exist" in printed
    topic, group, transaction = (
        ResourceType.TOPIC,
        ResourceType.GROUP,
        ResourceType.TRANSACTIONAL_ID,
    )
    allow(secured_kafka, topic, logs, "READ", is_prefix=False)
    allow(secured_kafka, group, "candles-v1", "READ", is_prefix=False)
    code, printed = io.run(tmp_path, env, name="reading", timeout_s=300)
    assert code != 0
    assert f"error: Topic {output}" in printed
    allow(secured_kafka, topic, output, "CREATE", "WRITE")
    allow(secured_kafka, topic, f"{output}.progress", "READ", is_prefix=False)
    allow(secured_kafka, transaction, "candles-v1-", "WRITE")
    code, printed = io.run(tmp_path, env, name="all", recovery=tmp_path / "recovery", timeout_s=300)
    assert code == 0, printed
    assert io.kafka_rows(secured_kafka, output) == plain_rows
    assert "WARNING" not in printed
    assert "AUTHORIZATION" not in printed.upper()


def allow(
    broker: SecuredKafkaBroker,
    kind: ResourceType,
    name: str,
    *operations: str,
    is_prefix: bool = True,
) -> None:
    pattern = ResourcePatternType.PREFIXED if is_prefix else ResourcePatternType.LITERAL
    rules = [
        AclBinding(
            kind, name, pattern, "User:limited", "*",
            AclOperation[operation], AclPermissionType.ALLOW,
        )
        for operation in operations
    ]  # fmt: skip
    for done in broker.admin.create_acls(rules).values():
        done.result(30)
