"""The exactly-once sink for PostgreSQL: rows and progress in one transaction.

A flow calls `prepare_postgres` once, before anything is written, and gives
`postgres_sink` to `op.output` for items `(lane, Output)`. Record batches have the columns
of the table they go to.
"""

import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from sqlalchemy import Connection, NullPool, Table, create_engine, func, inspect, select
from sqlalchemy.exc import DBAPIError, ProgrammingError

from schemas.errors import FlowError
from schemas.stream import FlowIdentity
from schemas.tables import FLOWS, PROGRESS, WRITERS
from sinks.fingerprint import check_fingerprint
from sinks.group_commit import ExactlyOnceSink
from sinks.postgres_connection import reachable, reason_of
from sinks.postgres_transactions import SELECT_FINGERPRINT, PostgresCommitter
from sinks.staging import StagedTable

__all__ = ["PostgresRoute", "has_postgres_output", "postgres_sink", "prepare_postgres"]

_REVISION = "revision"
_LOCK = zlib.crc32(b"sinks.postgres.prepare_postgres")


class PostgresRoute(NamedTuple):
    """Where one kind of output goes.

    Attributes:
        table: Has a primary key.
        upsert: Whether a row replaces the stored one of its key unless that has a higher
            `revision`; without, the first row of a key stays.
    """

    table: Table
    upsert: bool


def postgres_sink(
    identity: FlowIdentity,
    routes: Mapping[str, PostgresRoute],
    *,
    url: str,
    partitions: int = 2,
) -> ExactlyOnceSink:
    """A sink for items `(lane, Output)`.

    Args:
        identity: Whose progress; a second process of the same flow and version shuts out the
            first.
        routes: Where each kind of output goes, by kind.
        url: libpq URL, `postgresql://…`; to a server or a pool that keeps sessions.
        partitions: Transactions on their way at a time.
    """
    tables = {
        kind: StagedTable(
            route.table,
            newest=_REVISION if route.upsert else None,
            # What a lane brings is new: its stored position has dropped all repetitions.
            replace_equal=route.upsert,
        )
        for kind, route in routes.items()
    }
    return ExactlyOnceSink(
        lambda name: PostgresCommitter(identity, tables, url, name),
        partitions,
        flow=identity.name,
        sink="postgres",
    )


def prepare_postgres(
    identity: FlowIdentity,
    routes: Mapping[str, PostgresRoute],
    *,
    url: str,
    other_tables: Sequence[Table] = (),
) -> None:
    """Check that a flow may go on with its PostgreSQL output, and create missing tables.

    All checks come before the first change. Several processes may prepare at a time.

    Args:
        identity: As for `postgres_sink`, like the next two.
        routes: Their tables are created or checked.
        url: As above.
        other_tables: Further tables, such as those of previews.

    Raises:
        FlowError: The server cannot be reached, a table lacks columns or cannot be created,
            or the output was begun with other settings.
    """
    tables = [FLOWS, PROGRESS, WRITERS, *(route.table for route in routes.values()), *other_tables]
    engine = create_engine(
        "postgresql+psycopg://",
        creator=lambda: reachable(url, autocommit=False),
        poolclass=NullPool,
    )
    try:
        with engine.begin() as connection:
            connection.execute(select(func.pg_advisory_xact_lock(_LOCK)))
            _check(connection, identity, tables)
            for table in tables:
                table.create(connection, checkfirst=True)
                _index(connection, table)
    except DBAPIError as error:
        reason = reason_of(error.orig or error)
        raise FlowError(
            f"The tables of flow {identity.name} cannot be prepared ({reason})",
            "Let the flow's user create tables, or create them beforehand.",
        ) from error


def _index(connection: Connection, table: Table) -> None:
    """Create what a table lacks of its indexes, if the user may: no flow needs them."""
    for index in table.indexes:
        with suppress(ProgrammingError), connection.begin_nested():
            index.create(connection, checkfirst=True)


def has_postgres_output(identity: FlowIdentity, *, url: str) -> bool:
    """Whether this version of the flow has ever written; after `prepare_postgres`."""
    own = {"own_flow": identity.name, "own_version": identity.version}
    with reachable(url) as connection:
        return connection.execute(SELECT_FINGERPRINT, own).fetchone() is not None


def _check(connection: Connection, identity: FlowIdentity, tables: Sequence[Table]) -> None:
    inspector = inspect(connection)
    for table in tables:
        if not inspector.has_table(table.name):
            continue
        found = {column["name"] for column in inspector.get_columns(table.name)}
        lacking = [column.name for column in table.columns if column.name not in found]
        if lacking:
            raise FlowError(
                f"Table {table.name} lacks the columns {', '.join(lacking)}",
                "Add them, or rename the table: the flow then creates it anew.",
            )
    if inspector.has_table(FLOWS.name):
        stored = connection.execute(
            select(FLOWS.c.fingerprint).where(
                FLOWS.c.flow == identity.name, FLOWS.c.version == identity.version
            )
        ).scalar_one_or_none()
        check_fingerprint(identity, stored)
