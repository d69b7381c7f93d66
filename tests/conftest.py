"""Fixtures that hand out real components, and what happens where one cannot run.

`kafka`, `registry` and the PostgreSQL server start once per session, when first asked for.
A test that uses `kafka`, `registry` or `browser` gets the marker of that name by itself.
Without Java and Maven, or Chromium, such tests are skipped, the summary says so in one line,
and with CI=true the run fails. The settings of flows are taken out of the environment: a
test says what it passes.
"""

import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from hypothesis import settings

from dataflows.settings import CandleSettings
from dataflows.telemetry_settings import TelemetrySettings
from tests.real import browser as chromium
from tests.real.browser import Browser
from tests.real.debezium import Debezium
from tests.real.java import DEBEZIUM_POM, KAFKA_POM, REGISTRY_POM, missing
from tests.real.kafka import KafkaBroker
from tests.real.kafka_client import Kafka
from tests.real.kafka_secured import SecuredKafkaBroker
from tests.real.postgres import PostgresServer
from tests.real.postgres_secured import SecuredPostgresServer, missing_tls
from tests.real.registry import SchemaRegistry

IN_CI = os.environ.get("CI") == "true"

# deadline: the first call of a compiled kernel takes seconds.
settings.register_profile("default", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if IN_CI else "default")

# Of two compilers the second one costs a server that lives for minutes more than it gains.
os.environ.setdefault("TEST_JAVA_OPTIONS", "-XX:TieredStopAtLevel=1")

_FLOW_SETTINGS = {
    name.upper() for name in (*CandleSettings.model_fields, *TelemetrySettings.model_fields)
}
_MISSING: dict[str, Callable[[], str]] = {
    "kafka": partial(missing, KAFKA_POM),
    "registry": partial(missing, REGISTRY_POM),
    "debezium": partial(missing, DEBEZIUM_POM),
    "browser": chromium.missing,
    "postgres_tls": missing_tls,
    "node": lambda: "" if shutil.which("node") else "node is not installed",
    "prometheus": lambda: "" if shutil.which("promtool") else "Prometheus is not installed",
}
"""What is not installed for a component, in words; empty when nothing."""

_bootstrap = pytest.StashKey[str]()
_skipped = pytest.StashKey[dict[str, list[str]]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-screenshot", action="store_true", help="write docs/images/page.png anew"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_bootstrap] = os.environ.get("KAFKA_BOOTSTRAP_SERVERS", "")
    config.stash[_skipped] = {}
    for name in list(os.environ):
        if name in _FLOW_SETTINGS or name.startswith(
            (
                "BYTEWAX_",
                "DERIBIT_",
                "EWMA_",
                "KAFKA_",
                "INVENTORY_",
                "MARKET_",
                "PAGE_",
                "SESSION_",
                "SOURCE_",
                "SCHEMA_REGISTRY_",
                "SECRETS_DIR",
                "STATISTICS_",
                "VEHICLES_",
            )
        ):
            del os.environ[name]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for name in _MISSING:
            if name in getattr(item, "fixturenames", ()):
                item.add_marker(name)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    for name, find in _MISSING.items():
        given = name == "kafka" and item.config.stash[_bootstrap]
        if item.get_closest_marker(name) is None or given:
            continue
        reason = find()
        if reason:
            item.config.stash[_skipped].setdefault(reason, []).append(name)
            pytest.skip(reason)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if IN_CI and session.config.stash[_skipped] and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    skipped = config.stash[_skipped]
    if skipped:
        names = [name for reason in skipped for name in skipped[reason]]
        counts = ", ".join(f"{names.count(n)} x {n}" for n in _MISSING if n in names)
        verdict = "THIS RUN FAILS, since CI=true" if IN_CI else "a run with CI=true would fail"
        terminalreporter.write_line(
            f"NOT TESTED ({counts}): {'; '.join(skipped)}. Install it (Java 17 and Maven, "
            f"Chromium and chromedriver, PostgreSQL, Node.js, Prometheus); {verdict}.",
            red=True,
            bold=True,
        )


@pytest.fixture(scope="session")
def scratch_dir() -> Iterator[Path]:
    # Not pytest's own temporary directory: that is closed to other users, and PostgreSQL
    # runs as one when the tests run as root.
    path = Path(tempfile.mkdtemp(prefix="tidemark-tests-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


def _subdirectory(parent: Path, name: str) -> Path:
    path = parent / name
    path.mkdir()
    return path


@pytest.fixture(scope="session")
def kafka(scratch_dir: Path, pytestconfig: pytest.Config) -> Iterator[Kafka]:
    """The cluster that KAFKA_BOOTSTRAP_SERVERS named when the run began, else a broker of ours."""
    bootstrap = pytestconfig.stash[_bootstrap]
    if bootstrap:
        yield Kafka(bootstrap)
        return
    broker = KafkaBroker(_subdirectory(scratch_dir, "kafka"))
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture
def kafka_broker(kafka: Kafka) -> Iterator[KafkaBroker]:
    """The same broker, for a test that stops or kills it; started again afterwards."""
    if not isinstance(kafka, KafkaBroker):
        pytest.skip("the broker of KAFKA_BOOTSTRAP_SERVERS is not ours to kill")
    yield kafka
    kafka.start()


@pytest.fixture(scope="session")
def secured_kafka(scratch_dir: Path) -> Iterator[SecuredKafkaBroker]:
    """A broker with TLS, users and access rights; its plain listener is for the test itself."""
    broker = SecuredKafkaBroker(_subdirectory(scratch_dir, "secured-kafka"))
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture(scope="session")
def postgres(scratch_dir: Path) -> Iterator[PostgresServer]:
    """The server; use `postgres_url` where a database is enough."""
    server = PostgresServer(_subdirectory(scratch_dir, "postgres"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def secured_postgres(scratch_dir: Path) -> Iterator[SecuredPostgresServer]:
    """A server that asks for passwords, and for TLS where the system's PostgreSQL can."""
    server = SecuredPostgresServer(_subdirectory(scratch_dir, "secured-postgres"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def postgres_url(postgres: PostgresServer) -> Iterator[str]:
    """libpq URL of an empty database of the test's own."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    yield postgres.create_database(name)
    postgres.start()  # in case the test left it dead
    postgres.drop_database(name)


@pytest.fixture(scope="session")
def registry(scratch_dir: Path) -> Iterator[SchemaRegistry]:
    """The schema registry; `.url` is for clients."""
    server = SchemaRegistry(_subdirectory(scratch_dir, "registry"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def topic(kafka: Kafka, request: pytest.FixtureRequest) -> Iterator[str]:
    """A name that no other test has, also as prefix: topics that begin with it are removed."""
    words = re.sub(r"[^a-zA-Z0-9]+", "-", request.node.name).strip("-")[:60]
    name = f"{words}-{uuid.uuid4().hex[:8]}"
    yield name
    if not isinstance(kafka, KafkaBroker) or kafka.running:
        kafka.delete_topics(name)


@pytest.fixture
def debezium(kafka: Kafka, tmp_path: Path) -> Iterator[Callable[..., Debezium]]:
    """Makes connectors that write to `kafka`: arguments of `Debezium` from `url` on."""
    made: list[Debezium] = []

    def make(url: str, **options: str) -> Debezium:
        directory = _subdirectory(tmp_path, f"connector-{len(made)}")
        made.append(Debezium(directory, kafka.bootstrap, url, **options))
        return made[-1]

    yield make
    for connector in made:
        connector.kill()


@pytest.fixture(scope="session")
def _chromium() -> Iterator[Browser]:
    browser = Browser()
    yield browser
    browser.stop()


@pytest.fixture
def browser(_chromium: Browser) -> Iterator[Browser]:
    """A real browser on an empty page; the test fails when its pages write warnings or errors."""
    _chromium.renew()
    yield _chromium
    _chromium.leave()
    assert not _chromium.complaints()
