"""Writes rows and progress to PostgreSQL in transactions, for one sink partition.

Why each row is there once: a transaction holds rows and the positions they reach. Each
sink partition has an epoch, a row of the table `writers`. Opening raises it, and each
transaction first locks it as the value this process has raised it to. So a newer process
waits for the transaction an older one has open, and reads positions that are final; the
older one finds no row from then on, and stops. Where the transaction does not end, since the
older process sleeps in the middle of it, the newer one ends the session that holds the lock.
When a connection is lost on the way, the positions tell whether the transaction took effect:
they are all new or all old. Anything else means that somebody changed the database itself,
such as by restoring a backup.
"""

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import psycopg
import pyarrow as pa
from sqlalchemy import (
    BigInteger,
    Column,
    Text,
    bindparam,
    func,
    literal_column,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY, insert

from schemas import failpoints
from schemas.errors import FlowError
from schemas.stream import FlowIdentity, Output
from schemas.tables import FLOWS, PROGRESS, WRITERS
from sinks.fingerprint import check_fingerprint, fingerprint_json
from sinks.postgres_connection import (
    OUTAGE_S,
    PostgresConnection,
    connect,
    reachable,
    reason_of,
    statement,
)
from sinks.staging import StagedTable
from sinks.telling import tell_retry

__all__ = ["SELECT_FINGERPRINT", "PostgresCommitter"]

_OWN = (
    PROGRESS.c.flow == bindparam("own_flow"),
    PROGRESS.c.version == bindparam("own_version"),
)
_ONE = literal_column("1", BigInteger)
_RAISE_EPOCH = statement(
    insert(WRITERS)
    .values(
        flow=bindparam("own_flow"),
        version=bindparam("own_version"),
        partition=bindparam("own_partition"),
        epoch=_ONE,
    )
    .on_conflict_do_update(
        index_elements=list(WRITERS.primary_key), set_={"epoch": WRITERS.c.epoch + _ONE}
    )
    .returning(WRITERS.c.epoch)
)
_LOCK_EPOCH = statement(
    select(WRITERS.c.epoch)
    .where(
        WRITERS.c.flow == bindparam("own_flow"),
        WRITERS.c.version == bindparam("own_version"),
        WRITERS.c.partition == bindparam("own_partition"),
        WRITERS.c.epoch == bindparam("own_epoch"),
    )
    .with_for_update()
)
_END_HOLDER = statement(
    text(
        "SELECT pg_terminate_backend(pid) "
        "FROM pg_locks JOIN writers ON transactionid = writers.xmax "
        "WHERE locktype = 'transactionid' AND granted AND flow = :own_flow "
        "AND version = :own_version AND partition = :own_partition"
    )
)
_SELECT_POSITIONS = statement(select(PROGRESS.c.lane, PROGRESS.c.position).where(*_OWN))
# Each for all lanes at once: after a pipeline, which `executemany` is, the server forgets that
# the session is idle in a transaction, and the session timeout would not end one suspended there.
_MOVED = (
    func.unnest(
        bindparam("lanes", type_=ARRAY(Text)),
        bindparam("befores", type_=ARRAY(BigInteger)),
        bindparam("afters", type_=ARRAY(BigInteger)),
    )
    .table_valued(Column("lane", Text), Column("before", BigInteger), Column("after", BigInteger))
    .render_derived("moved")
)
_MOVE_POSITIONS = statement(
    update(PROGRESS)
    .where(*_OWN, PROGRESS.c.lane == _MOVED.c.lane)
    .where(PROGRESS.c.position == _MOVED.c.before)
    .values(position=_MOVED.c.after)
)
_INSERT_POSITIONS = statement(
    insert(PROGRESS)
    .from_select(
        ["flow", "version", "lane", "position"],
        select(
            bindparam("own_flow", type_=Text),
            bindparam("own_version", type_=Text),
            _MOVED.c.lane,
            _MOVED.c.after,
        ),
    )
    .on_conflict_do_nothing()
)
SELECT_FINGERPRINT = statement(
    select(FLOWS.c.fingerprint).where(
        FLOWS.c.flow == bindparam("own_flow"), FLOWS.c.version == bindparam("own_version")
    )
)
_INSERT_FINGERPRINT = statement(
    insert(FLOWS)
    .values(
        flow=bindparam("own_flow"),
        version=bindparam("own_version"),
        fingerprint=bindparam("fingerprint"),
    )
    .on_conflict_do_nothing()
)
_LONGEST_BACKOFF_S = 2.0


class _Move(NamedTuple):
    before: int | None
    after: int


class PostgresCommitter:
    """A connection and its progress; see `sinks.group_commit.Committer`.

    Args:
        identity: Whose progress.
        tables: Where each kind of output goes, by kind.
        url: libpq URL.
        name: Of the sink partition, such as `00`.
    """

    def __init__(
        self, identity: FlowIdentity, tables: Mapping[str, StagedTable], url: str, name: str
    ) -> None:
        self._identity = identity
        self._own: dict[str, str | int] = {
            "own_flow": identity.name,
            "own_version": identity.version,
            "own_partition": name,
        }
        self._tables = tables
        self._url = url
        self._connection: PostgresConnection | None = None
        self._positions: dict[str, int] = {}
        self._begun = False

    def open(self) -> Mapping[str, int]:
        """Connect, shut out predecessors, and read the positions.

        Raises:
            FlowError: The server does not answer, a predecessor's transaction neither ends nor
                can be ended, or the progress belongs to other settings, which shuts nobody out.
        """
        self._connection = reachable(self._url)
        try:
            self._stage(self._connection)
            try:
                self._take_over(self._connection)
            except psycopg.errors.LockNotAvailable as held:
                try:
                    self._connection.execute(_END_HOLDER, self._own)
                except psycopg.errors.InsufficientPrivilege:  # it is of another user
                    raise held from None
                self._take_over(self._connection)
        except psycopg.OperationalError as error:
            raise FlowError(
                f"PostgreSQL does not tell how far flow {self._identity.name}, version "
                f"{self._identity.version}, has been written ({reason_of(error)})",
                "Look at the state of the server and start the flow again; where a lock was not "
                "granted, first end the process that holds it: a former run of this flow that "
                "is suspended, or its session (pg_locks, pg_terminate_backend).",
            ) from error
        return self._positions

    def commit(self, outputs: Sequence[Output]) -> None:
        """See `Committer`.

        Raises:
            FlowError: Another process has taken over, the server was away for too long, or
                it has lost what was written.
            psycopg.Error: The server refuses the rows.
        """
        moves = {
            output.lane: _Move(self._positions.get(output.lane), output.position)
            for output in outputs
        }
        backoff_s, lost_s = 0.05, 0.0
        while True:
            try:
                if self._connection is None:
                    self._connection = connect(self._url)
                    self._stage(self._connection)
                    if self._took_effect(self._connection, moves):
                        break
                self._write(self._connection, outputs, moves)
                break
            except psycopg.Error as error:
                # A session that the server ended may come as any class of error.
                lost = self._connection is None or self._connection.closed
                if not (lost or isinstance(error, psycopg.OperationalError)):
                    raise
                self.close()
                is_first = not lost_s
                lost_s = lost_s or time.monotonic()
                if time.monotonic() - lost_s > OUTAGE_S:
                    raise FlowError(
                        f"PostgreSQL went away and did not return in {OUTAGE_S:.0f} s "
                        f"({reason_of(error)})",
                        "Look at the state of the server and start the flow again: it goes on "
                        "after the last transaction that succeeded.",
                    ) from error
                tell_retry(
                    self._identity.name,
                    "postgres",
                    str(self._own["own_partition"]),
                    outputs,
                    reason_of(error),
                    is_first=is_first,
                )
                time.sleep(backoff_s)
                backoff_s = min(2 * backoff_s, _LONGEST_BACKOFF_S)
        self._begun = True
        self._positions.update((lane, move.after) for lane, move in moves.items())

    def close(self) -> None:
        """See `Committer`."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _write(
        self, connection: PostgresConnection, outputs: Sequence[Output], moves: Mapping[str, _Move]
    ) -> None:
        batches: defaultdict[str, list[pa.RecordBatch]] = defaultdict(list)
        for output in outputs:
            batches[output.kind].append(output.rows)
        with connection.transaction(), connection.cursor() as cursor:
            failpoints.reached("postgres.before_write")
            self._lock_epoch(connection)
            if not self._begun:
                self._claim(connection)
            self._move(cursor, moves)
            for kind in sorted(batches):
                self._tables[kind].write(cursor, batches[kind])
            failpoints.reached("postgres.between_write_and_commit")
        failpoints.reached("postgres.after_commit")

    def _move(self, cursor: psycopg.Cursor[Any], moves: Mapping[str, _Move]) -> None:
        for query, is_known in ((_MOVE_POSITIONS, True), (_INSERT_POSITIONS, False)):
            lanes = sorted(
                lane for lane, move in moves.items() if (move.before is not None) == is_known
            )
            if lanes:
                parameters = {
                    **self._own,
                    "lanes": lanes,
                    "befores": [moves[lane].before for lane in lanes],
                    "afters": [moves[lane].after for lane in lanes],
                }
                cursor.execute(query, parameters)
                if cursor.rowcount != len(lanes):
                    raise self._changed_outside(moves)

    def _took_effect(self, connection: PostgresConnection, moves: Mapping[str, _Move]) -> bool:
        with connection.transaction():
            self._lock_epoch(connection)
            stored = self._read_positions(connection)
        found = {lane: stored.get(lane) for lane in moves}
        if found == {lane: move.after for lane, move in moves.items()}:
            return True
        if found == {lane: move.before for lane, move in moves.items()}:
            return False
        raise self._changed_outside(moves)

    def _lock_epoch(self, connection: PostgresConnection) -> None:
        if connection.execute(_LOCK_EPOCH, self._own).fetchone() is None:
            raise FlowError(
                f"Another process writes flow {self._identity.name}, version "
                f"{self._identity.version}, in PostgreSQL (it has taken over partition "
                f"{self._own['own_partition']} of the sink)",
                "Run each flow and version once; if no other one runs, start this one again. "
                "Nothing is lost or repeated.",
            )

    def _claim(self, connection: PostgresConnection) -> None:
        fingerprint = fingerprint_json(self._identity)
        connection.execute(_INSERT_FINGERPRINT, {**self._own, "fingerprint": fingerprint})
        self._check_fingerprint(connection)

    def _check_fingerprint(self, connection: PostgresConnection) -> None:
        row = connection.execute(SELECT_FINGERPRINT, self._own).fetchone()
        check_fingerprint(self._identity, row[0] if row else None)

    def _read_positions(self, connection: PostgresConnection) -> dict[str, int]:
        return dict(connection.execute(_SELECT_POSITIONS, self._own).fetchall())

    def _take_over(self, connection: PostgresConnection) -> None:
        with connection.transaction():
            raised = connection.execute(_RAISE_EPOCH, self._own).fetchone()
            self._check_fingerprint(connection)
            self._positions = self._read_positions(connection)
        self._own["own_epoch"] = raised[0] if raised else 0

    def _stage(self, connection: PostgresConnection) -> None:
        with connection.transaction(), connection.cursor() as cursor:
            for table in self._tables.values():
                table.create(cursor)

    def _changed_outside(self, moves: Mapping[str, _Move]) -> FlowError:
        return FlowError(
            f"The table {PROGRESS.name} in PostgreSQL does not say what flow "
            f"{self._identity.name}, version {self._identity.version}, has written there "
            f"(lanes {', '.join(sorted(moves))})",
            "A backup was restored, a server took over that lagged behind, or someone changed "
            "the table. Start the flow again: it goes on, or tells what is missing.",
        )
