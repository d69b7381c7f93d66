"""A process that was thought dead and comes back ends with an error and changes nothing."""

import os
import shutil
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from schemas.errors import FlowError
from sinks import postgres_connection
from sinks.postgres import prepare_postgres
from tests import candles_io as io
from tests.crash.cases import CASES
from tests.crash.harness import DISTURBED, Tally, compare, run_plan
from tests.crash.plan import Step
from tests.crash.sink_case import SinkCase
from tests.integration.postgres_rows import FLOW, ROUTES, minutes, partition
from tests.integration.postgres_rows import candles as rows_of
from tests.real.flows import FlowProcess
from tests.real.postgres import PostgresServer

NewCase = Callable[..., SinkCase]


@contextmanager
def running(
    directory: Path, env: dict[str, str], name: str, module: str = "dataflows.candles"
) -> Iterator[FlowProcess]:
    directory.mkdir(exist_ok=True)
    flow = FlowProcess(
        module,
        log=directory / f"{name}.log",
        env=env,
        recovery_dir=directory / "recovery",
    )
    try:
        yield flow
    finally:
        flow.kill9()


def until(flow: FlowProcess, condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 90
    while not condition():
        assert flow.returncode is None, flow.output()
        assert time.monotonic() < deadline_s, flow.output()
        time.sleep(0.01)


def positions(url: str) -> dict[str, int]:
    """How far PostgreSQL has each shard."""
    with psycopg.connect(url) as connection:
        found = connection.execute("SELECT to_regclass('progress')").fetchone()
        if not found or not found[0]:
            return {}
        query = "SELECT lane, position FROM progress WHERE lane LIKE 'results-%'"
        return dict(connection.execute(query).fetchall())


def suspend(flow: FlowProcess) -> None:
    """Stop a process wherever it is, and wait until each of its threads has taken notice."""
    os.kill(flow.pid, signal.SIGSTOP)
    deadline_s = time.monotonic() + 30
    tasks = Path(f"/proc/{flow.pid}/task")
    while any(
        path.read_text().rpartition(")")[2].split()[0] != "T" for path in tasks.glob("*/stat")
    ):
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.parametrize("flow", CASES)
@pytest.mark.parametrize("with_postgres", [False, True])
def test_a_zombie_is_shut_out(
    new_case: NewCase, tmp_path: Path, tally: Tally, flow: str, with_postgres: bool
) -> None:
    case = new_case(flow, seed=21, records=20_000, with_postgres=with_postgres)
    env = case.env(DISTURBED)
    ours, theirs = tmp_path / "zombie", tmp_path / "successor"

    def positions() -> dict[str, int]:
        """How far PostgreSQL has each lane of results."""
        stored = case.in_progress_table(DISTURBED)
        return {lane: stored[lane] for lane in stored.keys() & case.result_lanes}

    case.grow(0.5)
    with running(ours, env, "zombie", case.module) as zombie:
        until(zombie, lambda: case.written(DISTURBED) > 100)
        until(zombie, lambda: not with_postgres or positions().keys() == case.result_lanes)
        suspend(zombie)
        theirs.mkdir()
        shutil.copytree(ours / "recovery", theirs / "recovery")
        written, before = case.written(DISTURBED), positions()
        with running(theirs, env, "successor", case.module) as successor:
            case.grow(0.7)
            until(successor, lambda: case.written(DISTURBED) > written + 100)
            until(successor, lambda: all(positions()[lane] > before[lane] for lane in before))
            os.kill(zombie.pid, signal.SIGCONT)
            case.grow(0.9)
            assert zombie.wait(90) == 1, zombie.output()
            assert "Another process" in zombie.output()
            assert successor.returncode is None, successor.output()
            successor.terminate()
            assert successor.wait(60) == 0, successor.output()
    compare(case, tmp_path, tally, run_plan(case, [Step()], theirs, tally))


def test_a_zombie_is_shut_out_of_postgres_alone(postgres: PostgresServer, tmp_path: Path) -> None:
    databases = [f"{name}_{uuid.uuid4().hex[:8]}" for name in ("zombie", "calm")]
    url, calm_url = map(postgres.create_database, databases)
    env = {
        "DATABASE_URL": url,
        "DATA_DIR": str(tmp_path / "market"),
        "MARKET_TRADES": "400000",
        "INTERVALS": "1s",
    }

    def rows(of: str) -> list[bytes]:
        query = "COPY (SELECT * FROM candles ORDER BY 1, 2, 3) TO STDOUT"
        with psycopg.connect(of) as connection, connection.cursor().copy(query) as copy:
            return b"".join(copy).splitlines()

    ours, theirs = tmp_path / "zombie", tmp_path / "successor"
    with running(ours, env, "zombie") as zombie:
        until(zombie, lambda: len(positions(url)) == io.SHARDS)
        suspend(zombie)
        theirs.mkdir()
        shutil.copytree(ours / "recovery", theirs / "recovery")
        partly = len(rows(url))
        with running(theirs, env | {"STOP_AT_END": "1"}, "successor") as successor:
            assert successor.wait(120) == 0, successor.output()
        finished = rows(url)
        assert partly < len(finished), "the first was to be stopped in full flight"
        os.kill(zombie.pid, signal.SIGCONT)
        assert zombie.wait(90) == 1, zombie.output()
        assert "Another process writes flow candles" in zombie.output()
    calm_env = env | {"STOP_AT_END": "1", "DATABASE_URL": calm_url}
    with running(tmp_path / "calm", calm_env, "calm") as calm:
        assert calm.wait(120) == 0, calm.output()
    assert rows(url) == finished == rows(calm_url)
    for name in databases:
        postgres.drop_database(name)


@contextmanager
def in_the_middle_of_a_copy(url: str) -> Iterator[None]:
    """A session that holds the lock of partition 00 where no timeout of the server's ends it."""
    with psycopg.connect(url) as zombie:
        zombie.execute("CREATE TEMPORARY TABLE staging (n int)")
        zombie.execute("SELECT FROM writers FOR UPDATE")
        with zombie.cursor().copy("COPY staging FROM STDIN"):
            yield


@pytest.fixture
def impatient(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """URL of a database that partition 00 has been written to; locks are waited for briefly."""
    prepare_postgres(FLOW, ROUTES, url=postgres_url)
    writer = partition(postgres_url)
    writer.write_batch([rows_of([1])])
    writer.close()
    monkeypatch.setattr(postgres_connection, "_SESSION", ("SET lock_timeout = '200ms'",))
    return postgres_url


def test_a_zombie_in_the_middle_of_a_copy_is_ended(impatient: str) -> None:
    ended = pytest.raises(psycopg.OperationalError, match="administrator command")
    with ended, in_the_middle_of_a_copy(impatient):
        successor = partition(impatient)
        successor.write_batch([rows_of([1, 2])])
        successor.close()
    assert minutes(impatient) == [1, 2]


def test_a_zombie_of_another_user_is_not_waited_for_for_ever(
    impatient: str, postgres: PostgresServer
) -> None:
    role = f"plain_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(impatient, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(role)))
        connection.execute(
            sql.SQL("GRANT ALL ON ALL TABLES IN SCHEMA public TO {}").format(sql.Identifier(role))
        )
    reason = r"how far flow candles.*lock timeout.*suspended"
    with in_the_middle_of_a_copy(impatient), pytest.raises(FlowError, match=reason):
        partition(make_conninfo(impatient, user=role))
