"""Does on a real PostgreSQL what a simulated inventory says, at an even pace."""

import threading
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import psycopg
from psycopg import sql

from schemas.errors import FlowError
from schemas.transactions import CapturedTable, RowChange
from schemas.vehicles import CAPTURED
from sources.inventory import Inventory

__all__ = ["DDL", "InventoryDriver", "execute"]

DDL = """
CREATE TABLE IF NOT EXISTS vehicles (
    vehicle_uuid uuid PRIMARY KEY,
    year_of_manufacture integer NOT NULL,
    model text NOT NULL
);
CREATE TABLE IF NOT EXISTS engines (
    engine_uuid uuid PRIMARY KEY,
    vehicle_uuid uuid UNIQUE,
    year_of_manufacture integer NOT NULL,
    manufacturer text NOT NULL,
    maximum_engine_speed integer NOT NULL,
    maximum_mileage_resource bigint NOT NULL,
    remaining_mileage_resource bigint NOT NULL
);
"""
"""The source's tables."""

_LOCK = 0x7469_6465  # one process creates the tables


def _names(table: CapturedTable) -> list[str]:
    return [table.key.name, *(column.name for column in table.columns)]


def _upsert(table: CapturedTable) -> sql.Composed:
    names = _names(table)
    sets = [sql.SQL("{0} = excluded.{0}").format(sql.Identifier(name)) for name in names[1:]]
    return sql.SQL("INSERT INTO {} ({}) VALUES ({}) ON CONFLICT ({}) DO UPDATE SET {}").format(
        sql.Identifier(table.name),
        sql.SQL(", ").join(map(sql.Identifier, names)),
        sql.SQL(", ").join([sql.Placeholder()] * len(names)),
        sql.Identifier(table.key.name),
        sql.SQL(", ").join(sets),
    )


def _delete(table: CapturedTable) -> sql.Composed:
    return sql.SQL("DELETE FROM {} WHERE {} = {}").format(
        sql.Identifier(table.name), sql.Identifier(table.key.name), sql.Placeholder()
    )


_UPSERT = {name: _upsert(table) for name, table in CAPTURED.items()}
_DELETE = {name: _delete(table) for name, table in CAPTURED.items()}


def execute(cursor: "psycopg.Cursor[Any]", changes: Sequence[RowChange]) -> None:
    """Do what the changes say, within the open transaction."""
    for change in changes:
        if change.row is None:
            cursor.execute(_DELETE[change.table], [change.key])
        else:
            cursor.execute(_UPSERT[change.table], [change.key, *change.row])


def _not_set_up(reason: str) -> FlowError:
    return FlowError(
        f"The inventory cannot be set up ({' '.join(reason.split())})",
        "Start the server, or correct the URL or the access rights.",
    )


class InventoryDriver:
    """Makes an inventory live on a PostgreSQL.

    Creates the tables when missing and goes on from the rows that are there.

    Args:
        url: libpq URL.
        seed: of the choices.
        rate: transactions per second; None for as many as the server takes.
        size: see `Inventory`.

    Raises:
        FlowError: The server does not answer or refuses.
    """

    def __init__(
        self, url: str, *, seed: int = 1, rate: float | None = 20.0, size: int = 1_000
    ) -> None:
        self._rate = rate
        try:
            self._connection = psycopg.connect(url, application_name="inventory")
            with self._connection.transaction(), self._connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
                cursor.execute(DDL)
            self._inventory = self._resumed(seed, size)
        except psycopg.ProgrammingError as error:
            # Of a URL that cannot be read the text may repeat a password.
            reason = "the URL cannot be read" if error.sqlstate is None else str(error)
            raise _not_set_up(reason) from None
        except psycopg.Error as error:
            raise _not_set_up(str(error)) from error

    def _resumed(self, seed: int, size: int) -> Inventory:
        known = []
        with self._connection.transaction(), self._connection.cursor() as cursor:
            for table in CAPTURED.values():
                columns = sql.SQL(", ").join(map(sql.Identifier, _names(table)))
                query = sql.SQL("SELECT {} FROM {} ORDER BY 1")
                cursor.execute(query.format(columns, sql.Identifier(table.name)))
                for key, *row in cursor.fetchall():
                    values = [str(v) if isinstance(v, uuid.UUID) else v for v in row]
                    known.append(RowChange(table.name, str(key), tuple(values)))
        # Another start makes other choices: the same would name the same new rows again.
        inventory = Inventory(seed + 1_000_003 * len(known), size)
        for change in known:
            inventory.know(change)
        return inventory

    def step(self) -> list[RowChange]:
        """Commit one transaction; what it did.

        Raises:
            psycopg.Error: The server has gone, or another writer was in the way; nothing of
                the transaction is done.
        """
        changes = self._inventory.transaction()
        with self._connection.transaction(), self._connection.cursor() as cursor:
            execute(cursor, changes)
        return changes

    def run(
        self,
        stopped: Callable[[], bool],
        *,
        transactions: int | None = None,
        report: Callable[[int, int], None] | None = None,
    ) -> None:
        """Go on until told to stop, at an even pace.

        Args:
            stopped: whether to stop.
            transactions: or after so many.
            report: called with transactions and changes so far, after each.

        Raises:
            psycopg.Error: As of `step`.
        """
        started_s, done, changed = time.monotonic(), 0, 0
        while not stopped() and (transactions is None or done < transactions):
            if self._rate is not None:
                time.sleep(max(0.0, started_s + done / self._rate - time.monotonic()))
            changed += len(self.step())
            done += 1
            if report is not None:
                report(done, changed)

    def start(self, stopped: Callable[[], bool]) -> None:
        """Go on in a thread of its own, which ends with the process or the server."""
        threading.Thread(target=self._run_quietly, args=[stopped], daemon=True).start()

    def _run_quietly(self, stopped: Callable[[], bool]) -> None:
        with suppress(psycopg.Error):  # the embedded server stops before this process
            self.run(stopped)

    def close(self) -> None:
        """Let go of the connection."""
        self._connection.close()
