"""PostgreSQL with passwords, TLS and restricted roles, on a real server."""

import asyncio
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import pytest
from psycopg import sql

from dataflows.commands import drive_inventory
from page.database import connect as connect_page
from schemas.errors import FlowError
from schemas.vehicles import CAPTURED
from sinks.postgres_connection import reachable
from sources.inventory_driver import InventoryDriver
from sources.replication import ReplicationStream
from sources.slot_setup import SlotPlace, prepare_source
from tests import candles_io as io
from tests import flow_io
from tests.real.postgres_secured import SecuredPostgresServer
from tests.real.tls import Authority

SECRET = "pg-Secret/%1"
PASSWORD = quote(SECRET, safe="")
TRADES = 3_000


@pytest.fixture(scope="module")
def database(secured_postgres: SecuredPostgresServer) -> Iterator[str]:
    """A database, and roles: one that makes tables, one that only fills them, one that reads."""
    server, name = secured_postgres, "secured"
    server.create_database(name)
    for role in ("maker", "filler", "viewer", "certified"):
        server.create_role(role, SECRET)
    server.create_role("capturer", SECRET, "LOGIN REPLICATION")
    server.execute(
        "REVOKE ALL ON SCHEMA public FROM PUBLIC",
        "REVOKE ALL ON DATABASE secured FROM PUBLIC",
        "GRANT CONNECT ON DATABASE secured TO maker, filler, viewer, certified, capturer",
        "GRANT TEMPORARY ON DATABASE secured TO maker, filler",
        "GRANT USAGE ON SCHEMA public TO maker, filler, viewer, capturer",
        "GRANT CREATE ON SCHEMA public TO maker",
        database=name,
    )
    yield name
    server.drop_database(name)


def test_a_wrong_password_names_the_variable_and_shows_nothing(
    secured_postgres: SecuredPostgresServer, database: str
) -> None:
    with pytest.raises(FlowError, match="DATABASE_URL") as caught:
        reachable(secured_postgres.role_url("maker", "wrong-Secret", database))
    assert "password authentication failed" in str(caught.value)
    assert "Secret" not in str(caught.value)


@pytest.mark.parametrize("fault", ["authority", "host", "plain"])
@pytest.mark.postgres_tls
def test_a_server_that_is_not_trusted_is_refused(
    secured_postgres: SecuredPostgresServer, database: str, fault: str, tmp_path: Path
) -> None:
    parameters = {"sslrootcert": str(Authority(tmp_path, "other").certificate)}
    if fault == "plain":
        parameters = {"sslmode": "disable"}
    url = secured_postgres.role_url(
        "maker", PASSWORD, database, **({} if fault == "host" else parameters)
    )
    if fault == "host":
        url = url.replace("127.0.0.1", "localhost")
    with pytest.raises(FlowError, match="DATABASE_URL") as caught:
        reachable(url)
    telling = {"authority": "certificate verify failed", "host": "localhost", "plain": "no encr"}
    assert telling[fault] in str(caught.value)
    assert "pg-Secret" not in str(caught.value)


@pytest.mark.postgres_tls
def test_connections_are_encrypted(secured_postgres: SecuredPostgresServer, database: str) -> None:
    query = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
    with closing(reachable(secured_postgres.role_url("maker", PASSWORD, database))) as connection:
        assert connection.execute(query).fetchone() == (True,)

    async def ask() -> object:
        url = secured_postgres.role_url("viewer", PASSWORD, database)
        async with await connect_page(url, 5) as page:
            return await (await page.execute("SHOW transaction_read_only")).fetchone()

    assert asyncio.run(ask()) == ("on",)


@pytest.mark.postgres_tls
def test_a_client_certificate_takes_the_place_of_a_password(
    secured_postgres: SecuredPostgresServer, database: str
) -> None:
    certificate, key = secured_postgres.authority.issue("certified")
    files = {"sslcert": str(certificate), "sslkey": str(key)}
    reachable(secured_postgres.role_url("certified", "", database, **files)).close()


def test_restricted_roles_make_fill_and_read_the_tables(
    secured_postgres: SecuredPostgresServer, database: str, tmp_path: Path
) -> None:
    env = {
        "MARKET_TRADES": str(TRADES),
        "STOP_AT_END": "1",
        "DATA_DIR": str(tmp_path / "data"),
        "DATABASE_URL": secured_postgres.role_url("maker", PASSWORD, database),
    }
    printed = flow_io.finish("dataflows.candles", tmp_path, env, timeout_s=580)
    assert "pg-Secret" not in printed
    assert "Secret" not in printed
    owner = secured_postgres.database_url(database)
    made = io.count(owner, "candles")
    assert made > 0
    secured_postgres.execute(
        "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO filler",
        "GRANT SELECT ON ALL TABLES IN SCHEMA public TO viewer",
        database=database,
    )
    tables = io.table_rows(owner)
    secured_postgres.execute("DELETE FROM candles; DELETE FROM progress", database=database)
    env["DATABASE_URL"] = secured_postgres.role_url("filler", PASSWORD, database)
    flow_io.finish("dataflows.candles", tmp_path, env, timeout_s=580, name="again")
    assert io.table_rows(owner) == tables


def test_a_source_is_captured_by_a_restricted_role(
    secured_postgres: SecuredPostgresServer,
    database: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Ordinary and replication connection, both by the URL's own parameters."""
    owner = secured_postgres.role_url("maker", PASSWORD, database)
    monkeypatch.setenv("SOURCE_DATABASE_URL", owner)
    assert drive_inventory.main(["--full-speed", "--transactions", "5"]) == 0
    assert "pg-Secret" not in "".join(capsys.readouterr())
    tables = sql.SQL(", ").join(map(sql.Identifier, CAPTURED))
    secured_postgres.execute(
        sql.SQL("CREATE PUBLICATION pub FOR TABLE {}").format(tables),
        sql.SQL("GRANT SELECT ON {} TO capturer").format(tables),
        database=database,
    )
    url = secured_postgres.role_url("capturer", PASSWORD, database)
    prepare_source(SlotPlace(url, "secured_slot", "pub", CAPTURED))
    stream = ReplicationStream(url)
    lsn, snapshot = stream.create_slot("secured_slot")
    assert lsn > 0
    assert snapshot
    stream.close()
    secured_postgres.execute("SELECT pg_drop_replication_slot('secured_slot')", database=database)
    wrong = secured_postgres.role_url("capturer", "wrong-Secret", database)
    with pytest.raises(FlowError, match="SOURCE_DATABASE_URL") as caught:
        prepare_source(SlotPlace(wrong, "secured_slot", "pub", CAPTURED))
    assert "wrong-Secret" not in str(caught.value)


def test_a_url_that_cannot_be_read_is_not_repeated() -> None:
    with pytest.raises(FlowError, match="the URL cannot be read") as caught:
        InventoryDriver("postgresql://u:pg-Secret%ZZ@h/d")
    assert caught.value.__cause__ is None
    assert "pg-Secret" not in str(caught.value)
