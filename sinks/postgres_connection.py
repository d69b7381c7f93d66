"""Connections to PostgreSQL, and statements for them.

A connection notices a server that is gone within a minute, and the server a process that
is gone within 20 s, so that neither waits long for the other.
"""

from collections.abc import Mapping
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.sql.expression import ClauseElement

from schemas.errors import FlowError

__all__ = [
    "OUTAGE_S",
    "PostgresConnection",
    "connect",
    "connection_parameters",
    "reachable",
    "reason_of",
    "statement",
]

PostgresConnection = psycopg.Connection[tuple[Any, ...]]

OUTAGE_S = 60.0
"""How long a writer waits for a server that went away."""

_DIALECT = PGDialect_psycopg()  # type: ignore[no-untyped-call]
_DEFAULTS = {
    "application_name": "sinks",
    "connect_timeout": "10",
    "keepalives_idle": "15",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
}
_SESSION = (
    # Times without a zone are UTC, whatever the server's default.
    "SET timezone = 'UTC'",
    # A process that died without a trace holds its row locks for no longer than this. One
    # that was merely suspended loses its connection, and carries on with another.
    "SET idle_in_transaction_session_timeout = '20s'",
    # No timeout of the server's ends one that was suspended in the middle of a COPY, so
    # nobody waits for locks for longer than this.
    "SET lock_timeout = '30s'",
)


def connection_parameters(url: str, defaults: Mapping[str, str]) -> dict[str, Any]:
    """What psycopg connects with: a libpq URL, whose own parameters win over the defaults.

    Raises:
        FlowError: The URL cannot be read.
    """
    try:
        given = conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        # Not chained: the text of that error may repeat a password.
        raise FlowError(
            "DATABASE_URL cannot be read",
            "Write it as postgresql://user:password@host:5432/database, with special characters "
            "percent-encoded.",
        ) from None
    return {**defaults, **given, "client_encoding": "utf8"}


def connect(url: str, *, autocommit: bool = True) -> PostgresConnection:
    """Connect to a libpq URL; its own parameters win over the defaults.

    Raises:
        FlowError: The URL cannot be read.
        psycopg.OperationalError: The server does not answer or refuses.
    """
    parameters = connection_parameters(url, _DEFAULTS)
    connection = psycopg.connect(autocommit=True, **parameters)
    for setting in _SESSION:
        connection.execute(setting.encode())
    connection.autocommit = autocommit
    return connection


def reachable(url: str, *, autocommit: bool = True) -> PostgresConnection:
    """Connect, with an error for the person who runs the flow.

    Raises:
        FlowError: The URL cannot be read, or the server does not answer or refuses; names
            the address without passwords.
    """
    try:
        return connect(url, autocommit=autocommit)
    except psycopg.OperationalError as error:
        raise FlowError(
            f"PostgreSQL does not answer at DATABASE_URL={_masked(url)} ({reason_of(error)})",
            "Start the server, or correct the address, user or password.",
        ) from error


def reason_of(error: BaseException) -> str:
    """The text of an error in one line."""
    return " ".join(str(error).split())


def statement(clause: ClauseElement) -> bytes:
    """SQL text for psycopg, with named parameters as `%(name)s`."""
    return str(clause.compile(dialect=_DIALECT)).encode()


def _masked(url: str) -> str:
    shown = {
        name: "***" if "password" in name else str(value)
        for name, value in conninfo_to_dict(url).items()
    }
    return make_conninfo(**shown)
