"""No secret is told: not by a flow that runs, nor by one that is refused or crashes."""

import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests import candles_io as io
from tests import flow_io
from tests.real.flows import FlowProcess
from tests.real.postgres_secured import SecuredPostgresServer
from tests.real.process import free_port
from tests.real.tls import Authority

# Each holds the word, which must never be seen.
WORD = "Secret"
DATABASE_PASSWORD = "pg-Secret-3"
KAFKA_PASSWORD = "sasl-Secret-1"
KEY_PASSWORD = "key-Secret-4"
REGISTRY_PASSWORD = "registry-Secret-5"

CRASHING = """
from pathlib import Path

from dataflows.candles import flow
from dataflows.process import kafka_config
from dataflows.settings import CandleSettings
from sinks.postgres_transactions import PostgresCommitter

commit = PostgresCommitter.commit


def crash(self, outputs):
    if Path("crash").exists():
        settings = CandleSettings.load()
        raise RuntimeError(f"broken with {settings}, {kafka_config(settings)} and {vars(self)}")
    commit(self, outputs)


PostgresCommitter.commit = crash
"""


@pytest.fixture
def database(secured_postgres: SecuredPostgresServer) -> Iterator[str]:
    server, name = secured_postgres, "secrets"
    server.create_database(name)
    server.create_role("keeper", DATABASE_PASSWORD)
    server.execute("GRANT CREATE ON SCHEMA public TO keeper", database=name)
    yield name
    server.drop_database(name)
    server.execute("DROP ROLE keeper")


class Vault:
    """A directory of secrets, and the settings of a flow that talks as much as it can.

    Without brokers it reads the simulated market; what it would tell them it knows all the same.
    """

    def __init__(self, directory: Path, url: str) -> None:
        self.files = directory / "vault"
        self.files.mkdir()
        certificate, key = Authority(directory).issue("keeper", password=KEY_PASSWORD)
        self.env = {
            "DATA_DIR": str(directory / "data"),
            "INTERVALS": "1s",
            "KAFKA_SASL_USERNAME": "flows",
            "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "KAFKA_SSL_CERTIFICATE_LOCATION": str(certificate),
            "KAFKA_SSL_KEY_LOCATION": str(key),
            "LOG_FORMAT": "json",
            "LOG_LEVEL": "DEBUG",
            "SECRETS_DIR": str(self.files),
        }
        self.keep("KAFKA_SASL_PASSWORD", KAFKA_PASSWORD)
        self.keep("KAFKA_SSL_KEY_PASSWORD", KEY_PASSWORD)
        self.keep("DATABASE_URL", url)

    def keep(self, name: str, value: str) -> None:
        assert WORD in value
        self.files.joinpath(name).write_text(value)


def tellers(directory: Path, vault: Vault) -> Iterator[tuple[str, str]]:
    """All that a flow left behind."""
    for path in directory.rglob("*"):
        if path.is_file() and vault.files not in path.parents:
            yield path.name, path.read_bytes().decode(errors="replace")


def assert_silent(told: Mapping[str, str]) -> None:
    for where, text in told.items():
        at = text.find(WORD)
        assert at < 0, f"{where}: …{text[max(0, at - 200) : at + 50]}…"


def asked(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=20) as answer:
        return answer.read().decode()


def test_a_flow_that_runs_and_crashes_tells_no_secret(
    secured_postgres: SecuredPostgresServer,
    database: str,
    tmp_path: Path,
) -> None:
    url = secured_postgres.role_url("keeper", DATABASE_PASSWORD, database)
    vault = Vault(tmp_path, url)
    code = tmp_path / "code"
    code.mkdir()
    (code / "crashing.py").write_text(CRASHING)
    run = tmp_path / "run"
    run.mkdir()
    port = free_port()
    env = vault.env | {"METRICS_PORT": str(port), "PYTHONPATH": str(code)}
    flow = FlowProcess("crashing:flow", log=run / "log", env=env, recovery_dir=run / "recovery")
    try:
        owner = secured_postgres.database_url(database)
        flow_io.await_or_fail(flow, lambda: io.count(owner, "candles") > 0, timeout_s=500)
        metrics = asked(port, "/metrics")
        assert "tidemark_" in metrics
        process = Path(f"/proc/{flow.pid}")
        told = {
            "metrics": metrics,
            "dataflow": asked(port, "/dataflow"),
            "arguments": process.joinpath("cmdline").read_text(),
            "environment": process.joinpath("environ").read_text(),
        }
        assert "KAFKA_SASL_USERNAME" in told["environment"]
        assert_silent(told)
        (run / "crash").touch()
        deadline = time.monotonic() + 120
        while flow.returncode is None and time.monotonic() < deadline:
            time.sleep(0.1)
        assert flow.returncode not in (None, 0), flow.output()
    finally:
        flow.kill9()
    assert "broken with" in flow.output()
    assert "(hidden)" in flow.output()
    left = dict(tellers(run, vault))
    assert any("sqlite" in name for name in left), "the recovery store is looked at"
    assert_silent(left)


@pytest.mark.parametrize("fault", ["database", "registry"])
def test_a_flow_that_is_refused_tells_no_secret(
    secured_postgres: SecuredPostgresServer,
    database: str,
    fault: str,
    tmp_path: Path,
) -> None:
    password = DATABASE_PASSWORD if fault == "registry" else "wrong-Secret-6"
    url = secured_postgres.role_url("keeper", password, database)
    vault = Vault(tmp_path, url)
    if fault == "registry":
        address = f"http://reader:{REGISTRY_PASSWORD}@127.0.0.1:{free_port()}/apis"
        vault.keep("SCHEMA_REGISTRY_URL", address)
    run = tmp_path / "run"
    run.mkdir()
    code, output = io.run(run, vault.env, timeout_s=500)
    assert code != 0
    assert {"database": "DATABASE_URL", "registry": "SCHEMA_REGISTRY_URL"}[fault] in output
    assert_silent(dict(tellers(run, vault)))
