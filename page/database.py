"""Connections of the page to PostgreSQL: they only read, and no statement runs for long."""

import asyncio

import psycopg
from psycopg.rows import TupleRow

from dataflows.process import tables_url
from page.settings import PageSettings
from page.values import load_as_texts
from sinks.postgres_connection import connection_parameters

__all__ = ["ReadConnection", "connect", "database_url"]

ReadConnection = psycopg.AsyncConnection[TupleRow]

_DEFAULTS = {
    "application_name": "page",
    "connect_timeout": "5",
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
}
_SESSION = (
    "SET default_transaction_read_only = on",
    "SET timezone = 'UTC'",
    "SET datestyle = 'ISO'",
    "SET jit = off",
    # Each query has an index. A planner that knows nothing of a young table yet would still
    # read all of it and sort.
    "SET enable_seqscan = off",
    "SET enable_bitmapscan = off",
)


async def database_url(settings: PageSettings) -> str | None:
    """Where the tables are; None for none. May start the embedded server.

    Raises:
        FlowError: The embedded server does not start.
    """
    return await asyncio.to_thread(tables_url, settings)


async def connect(url: str, statement_timeout_s: float) -> ReadConnection:
    """A connection for reading, in autocommit, whose rows hold texts; see `page.values`.

    Raises:
        FlowError: The URL cannot be read.
        psycopg.Error: The server does not answer or refuses.
    """
    parameters = connection_parameters(url, _DEFAULTS)
    connection = await psycopg.AsyncConnection.connect(autocommit=True, **parameters)
    try:
        load_as_texts(connection)
        timeout = f"SET statement_timeout = {round(statement_timeout_s * 1000)}"
        await connection.execute("; ".join((*_SESSION, timeout)).encode())
    except BaseException:
        await connection.close()
        raise
    return connection
