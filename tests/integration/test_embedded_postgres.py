"""The server from the wheel lives as long as its users and keeps their data."""

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from schemas.errors import FlowError
from sinks.embedded_postgres import embedded_postgres

ROOT = Path(__file__).parents[2]

# Answers each line of input with the rows of a table after adding one.
PROGRAM = """
import sys
import psycopg
from sinks.embedded_postgres import embedded_postgres
url = embedded_postgres(sys.argv[1])
for line in sys.stdin:
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS t (word text)")
        connection.execute("INSERT INTO t VALUES (%s)", [line.strip()])
        rows = connection.execute("SELECT word FROM t ORDER BY 1").fetchall()
    print(*[row[0] for row in rows], flush=True)  # after the commit: it may be killed now
"""


class User:
    """A process that uses the server of a directory."""

    def __init__(self, directory: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", PROGRAM, str(directory)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def add(self, word: str) -> str:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def leave(self) -> None:
        self.process.communicate(timeout=60)
        assert self.process.returncode == 0

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=60)


@pytest.fixture
def enter(directory: Path) -> Iterator[Callable[[], User]]:
    """Starts users; kills those that a failed test leaves behind."""
    users: list[User] = []

    def start() -> User:
        users.append(User(directory))
        return users[-1]

    yield start
    for user in users:
        if user.process.returncode is None:
            user.kill()


def server_runs(directory: Path) -> bool:
    file = directory / "postmaster.pid"
    return file.exists() and psutil.pid_exists(int(file.read_text().split()[0]))


@pytest.fixture
def directory(scratch_dir: Path) -> Iterator[Path]:
    path = scratch_dir / f"embedded-{uuid.uuid4().hex[:8]}" / "postgres"
    yield path
    if server_runs(path):  # a test has failed
        os.kill(int((path / "postmaster.pid").read_text().split()[0]), signal.SIGQUIT)


def test_data_outlive_the_server_and_the_server_its_last_user(
    directory: Path, enter: Callable[[], User]
) -> None:
    one = enter()
    assert one.add("a") == "a"
    two = enter()
    assert two.add("b") == "a b"
    one.leave()
    assert two.add("c") == "a b c"
    two.leave()
    assert not server_runs(directory)
    three = enter()
    assert three.add("d") == "a b c d"
    three.leave()
    assert not server_runs(directory)


def test_a_killed_user_does_not_keep_the_server_for_ever(
    directory: Path, enter: Callable[[], User]
) -> None:
    killed = enter()
    killed.add("a")
    killed.kill()
    assert server_runs(directory)
    last = enter()
    assert last.add("b") == "a b"
    last.leave()
    assert not server_runs(directory)


def test_who_leaves_after_a_killed_user_stops_the_server(
    directory: Path, enter: Callable[[], User]
) -> None:
    last = enter()
    last.add("a")
    killed = enter()
    assert killed.add("b") == "a b"
    killed.kill()
    last.leave()
    assert not server_runs(directory)


def test_a_strangers_process_id_is_not_taken_for_the_server(
    directory: Path, enter: Callable[[], User]
) -> None:
    one = enter()
    one.add("a")
    lines = (directory / "postmaster.pid").read_text().splitlines()
    one.leave()
    # As after a restart of a container or a machine, when ids begin anew.
    (directory / "postmaster.pid").write_text("\n".join([str(os.getpid()), *lines[1:], ""]))
    two = enter()
    assert two.add("b") == "a b"
    two.leave()


def test_a_directory_of_something_else_is_an_error(scratch_dir: Path) -> None:
    directory = scratch_dir / f"other-{uuid.uuid4().hex[:8]}"
    directory.mkdir()
    (directory / "PG_VERSION").write_text("9\n")
    with pytest.raises(FlowError, match=r"embedded PostgreSQL in .*DATABASE_URL"):
        embedded_postgres(directory)
