"""What a logical slot needs: publication, slot, first snapshot; and whether it can go on.

Contract: nothing is created or dropped before everything was checked. A slot is made anew only
for a flow that has no state and no output yet; in every other case what it has already forgotten
would be missing without a trace, so that is an error.
"""

import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any, NamedTuple

import psycopg
from psycopg import sql

from schemas.errors import FlowError
from schemas.transactions import CapturedTable, RowChange, Transaction
from sources.replication import ReplicationStream, lsn_text

__all__ = [
    "SlotPlace",
    "check_slot",
    "create_slot",
    "end_of_log",
    "explained",
    "prepare_source",
]

_TAKEN_S = 15.0
_START_ANEW = (
    "Start a new FLOW_VERSION with an OUTPUT_TOPIC, a DATABASE_URL and a recovery directory of its "
    "own: it begins with a snapshot of the tables as they are."
)


class SlotPlace(NamedTuple):
    """Where to capture.

    Attributes:
        url: libpq URL of the source database.
        slot: name of the replication slot.
        publication: name of the publication.
        tables: what to capture, by name; in schema `public`.
    """

    url: str
    slot: str
    publication: str
    tables: Mapping[str, CapturedTable]

    def connect(self) -> "psycopg.Connection[Any]":
        """An ordinary connection.

        Raises:
            psycopg.Error: The server does not answer or refuses.
        """
        return psycopg.connect(self.url, autocommit=True, application_name="tidemark")


def prepare_source(place: SlotPlace) -> None:
    """Check the source database, and create a missing publication.

    Raises:
        FlowError: It cannot be captured; says what to change.
    """
    with explained(), closing(place.connect()) as connection:
        level = _value(connection, "SHOW wal_level")
        if level != "logical":
            raise FlowError(
                f"The source database has wal_level={level}, which keeps no row changes",
                "Set wal_level=logical in its configuration and restart the server.",
            )
        _check_tables(connection, place)
        _publish(connection, place)


def _check_tables(connection: "psycopg.Connection[Any]", place: SlotPlace) -> None:
    query = (
        "SELECT column_name FROM information_schema.columns "
        "WHERE table_schema = 'public' AND table_name = %s"
    )
    for table in place.tables.values():
        found = {row[0] for row in connection.execute(query, [table.name])}
        wanted = [table.key.name, *(column.name for column in table.columns)]
        lacking = [name for name in wanted if name not in found]
        if lacking:
            raise FlowError(
                f"The source database has no table public.{table.name} with the columns "
                f"{', '.join(lacking)}",
                "Create it, give the flow's user access to it, or correct SOURCE_DATABASE_URL.",
            )


def _publish(connection: "psycopg.Connection[Any]", place: SlotPlace) -> None:
    exists = "SELECT EXISTS (SELECT FROM pg_publication WHERE pubname = %s)"
    if not _value(connection, exists, place.publication):
        tables = sql.SQL(", ").join(sql.Identifier("public", name) for name in place.tables)
        create = sql.SQL("CREATE PUBLICATION {} FOR TABLE {}")
        connection.execute(create.format(sql.Identifier(place.publication), tables))
        return
    query = (
        "SELECT tablename FROM pg_publication_tables WHERE pubname = %s AND schemaname = 'public'"
    )
    published = {row[0] for row in connection.execute(query, [place.publication])}
    lacking = [name for name in place.tables if name not in published]
    if lacking:
        raise FlowError(
            f"The publication {place.publication} leaves out {', '.join(lacking)}",
            "Add them with ALTER PUBLICATION … ADD TABLE, or name another one in "
            "VEHICLES_PUBLICATION.",
        )


def create_slot(place: SlotPlace, stream: ReplicationStream, *, has_output: bool) -> Transaction:
    """Make the slot, in the place of one that nothing came of, and read the tables.

    Args:
        place: where.
        stream: connection that makes the slot.
        has_output: whether anything was ever written.

    Returns:
        The rows of all tables at the moment from which on the slot sends changes.

    Raises:
        FlowError: There is output and no state, or another process reads the slot.
        psycopg.Error: The server does not answer or refuses.
    """
    if has_output:
        raise FlowError(
            f"The output of slot {place.slot} was begun, and there is no state to go on from",
            "Start with the recovery directory it was begun with (-r; make run sees to it). A "
            "slot sends each change once, so without it nothing can be computed. " + _START_ANEW,
        )
    with closing(place.connect()) as connection:
        _drop(connection, place.slot)
        lsn, snapshot = stream.create_slot(place.slot)
        with connection.transaction():
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            connection.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(snapshot)))
            micros = "SELECT (extract(epoch FROM now()) * 1000000)::bigint"
            taken_us = int(_value(connection, micros))
            changes = [
                change for table in place.tables.values() for change in _rows(connection, table)
            ]
    return Transaction(lsn, taken_us, changes)


def _rows(connection: "psycopg.Connection[Any]", table: CapturedTable) -> list[RowChange]:
    names = [table.key.name, *(column.name for column in table.columns)]
    query = sql.SQL("SELECT {} FROM public.{}").format(
        sql.SQL(", ").join(map(sql.Identifier, names)), sql.Identifier(table.name)
    )
    changes = []
    for row in connection.execute(query):
        values = [str(value) if isinstance(value, uuid.UUID) else value for value in row]
        change = table.change(dict(zip(names, values, strict=True)))
        if isinstance(change, str):
            raise FlowError(
                f"Row {values[0]} of public.{table.name} cannot be captured ({change})",
                "Correct the row or the types of the table's columns; integers have at most "
                "64 bits, keys are uuids.",
            )
        changes.append(change)
    return changes


def _drop(connection: "psycopg.Connection[Any]", slot: str) -> None:
    exists = "SELECT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = %s)"
    deadline_s = time.monotonic() + _TAKEN_S
    while _value(connection, exists, slot):
        try:
            connection.execute("SELECT pg_drop_replication_slot(%s)", [slot])
        except psycopg.errors.ObjectInUse as error:
            if time.monotonic() > deadline_s:
                raise FlowError(
                    f"Another process reads the replication slot {slot}",
                    "Run each flow and version once; end the other process, or give this flow "
                    "a slot of its own with VEHICLES_SLOT.",
                ) from error
            time.sleep(0.1)


def check_slot(place: SlotPlace, lsn: int) -> None:
    """See that the slot can go on after `lsn`, up to which the state has taken everything in.

    Raises:
        FlowError: It cannot; says what was lost.
        psycopg.Error: The server does not answer or refuses.
    """
    query = (
        "SELECT plugin, database = current_database(), wal_status, "
        "(confirmed_flush_lsn - '0/0'::pg_lsn)::bigint "
        "FROM pg_replication_slots WHERE slot_name = %s"
    )
    with closing(place.connect()) as connection:
        row = connection.execute(query, [place.slot]).fetchone()
        end = end_of_log(connection)
    if row is None:
        raise FlowError(
            f"The replication slot {place.slot} is gone; the state goes on after {lsn_text(lsn)}",
            "It was dropped, or did not survive a failover, and changes since then may be lost. "
            + _START_ANEW,
        )
    plugin, is_ours, status, confirmed = row
    if plugin != "pgoutput" or not is_ours:
        raise FlowError(
            f"The replication slot {place.slot} is not one of this flow (plugin {plugin})",
            "Name another one in VEHICLES_SLOT, or correct SOURCE_DATABASE_URL.",
        )
    if status == "lost":
        raise FlowError(
            f"The server has given up the replication slot {place.slot}: it fell too far behind",
            "Raise max_slot_wal_keep_size or idle_replication_slot_timeout for the next time. "
            + _START_ANEW,
        )
    if confirmed > lsn:
        raise FlowError(
            f"The replication slot {place.slot} has forgotten what came before "
            f"{lsn_text(confirmed)}; the state goes on after {lsn_text(lsn)}",
            "Another reader moved it, it was made anew, or the recovery directory is an older "
            "copy. Restore the newer one if there is one. " + _START_ANEW,
        )
    if end < lsn:
        raise FlowError(
            f"The source database ends at {lsn_text(end)}, before {lsn_text(lsn)}, which the state "
            "has taken in",
            "It was restored from a backup, or is another one than before. " + _START_ANEW,
        )


def end_of_log(connection: "psycopg.Connection[Any]") -> int:
    """How far the source's log is written."""
    return int(_value(connection, "SELECT (pg_current_wal_lsn() - '0/0'::pg_lsn)::bigint"))


def _value(connection: "psycopg.Connection[Any]", query: str, *parameters: str) -> Any:  # noqa: ANN401
    row = connection.execute(query.encode(), parameters).fetchone()
    return None if row is None else row[0]


@contextmanager
def explained() -> Iterator[None]:
    """Turn what the server says into an error for the person who runs the flow.

    Raises:
        FlowError: In the place of a `psycopg.Error`.
    """
    try:
        yield
    except psycopg.Error as error:
        raise FlowError(
            f"The source database at SOURCE_DATABASE_URL does not do what is needed "
            f"({' '.join(str(error).split())})",
            "Start the server, or correct the URL, which must lead to the server itself and not to "
            "a pool. The user needs the attribute REPLICATION and SELECT on the tables, and CREATE "
            "on the database where the publication is missing; the server needs a free slot and a "
            "free sender (max_replication_slots, max_wal_senders).",
        ) from error
