"""Brings record batches into a table: COPY to a temporary table, then one INSERT.

COPY is the fastest way into PostgreSQL but knows nothing of conflicts; INSERT … SELECT …
ON CONFLICT does. The staging table belongs to one connection, is never logged, and is
empty again at the end of each transaction. Cost: about 1 µs a row to encode, a few to
insert; one round trip for COPY and one for INSERT, however many rows.
"""

import json
from collections.abc import Sequence
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from psycopg import sql
from sqlalchemy import Column, MetaData, Table, select
from sqlalchemy.dialects.postgresql import distinct_on, insert
from sqlalchemy.schema import CreateTable
from sqlalchemy.sql.expression import ClauseElement

from sinks.postgres_connection import statement

__all__ = ["StagedTable", "to_csv"]

_CSV = pyarrow.csv.WriteOptions(include_header=False, quoting_style="needed")


class StagedTable:
    """A table and the way into it.

    Args:
        table: Has a primary key.
        newest: A column; of several rows with one key the one with the greatest value in
            it stays, whether they come together or one is stored. None: the first one
            stored stays for ever.
        replace_equal: Whether a row also replaces a stored one that equals it in `newest`.
    """

    def __init__(
        self, table: Table, *, newest: str | None = None, replace_equal: bool = False
    ) -> None:
        columns = list(table.columns)
        self._names = [column.name for column in columns]
        staging = Table(
            f"{table.name}_staging",
            MetaData(),
            *(Column(column.name, column.type) for column in columns),
            prefixes=["TEMPORARY"],
            postgresql_on_commit="DELETE ROWS",
        )
        self._create = statement(CreateTable(staging))
        self._copy = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT csv)").format(
            sql.Identifier(staging.name), sql.SQL(", ").join(map(sql.Identifier, self._names))
        )
        self._insert = statement(_insert(table, staging, newest, replace_equal))

    def create(self, cursor: psycopg.Cursor[Any]) -> None:
        """Create the staging table; once per connection."""
        cursor.execute(self._create)

    def write(self, cursor: psycopg.Cursor[Any], batches: Sequence[pa.RecordBatch]) -> None:
        """Write rows within the open transaction.

        Args:
            cursor: Of a connection on which `create` was called.
            batches: Of one schema, with columns named as the table's, in any order.

        Raises:
            KeyError: A column of the table is missing.
        """
        rows = pa.Table.from_batches(batches).select(self._names)
        if rows.num_rows == 0:
            return
        # Before the COPY: in the middle of one no timeout of the server's ends a suspended session.
        text = to_csv(rows)
        with cursor.copy(self._copy) as copy:
            copy.write(memoryview(text))
        cursor.execute(self._insert)


def to_csv(rows: pa.Table) -> pa.Buffer:
    """Rows as PostgreSQL reads CSV: null as nothing, text in quotes, bytes as hex, maps as JSON.

    Times are written in UTC and without saying so: the session is in UTC.
    """
    # Many small chunks would each be written at the cost of a large one.
    columns = [_writable(column) for column in rows.combine_chunks().columns]
    sink = pa.BufferOutputStream()
    pyarrow.csv.write_csv(pa.table(columns, names=rows.column_names), sink, _CSV)
    return sink.getvalue()


def _writable(column: pa.ChunkedArray) -> pa.ChunkedArray:
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
        kind = kind.value_type
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        texts = [None if value is None else "\\x" + value.hex() for value in column.to_pylist()]
        return pa.chunked_array([pa.array(texts, pa.string())])
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        # PostgreSQL has no NUL in text. A key that holds one must not stop the flow.
        return pc.replace_substring(column, "\x00", "\ufffd")
    if pa.types.is_map(kind):
        maps = [None if pairs is None else json.dumps(dict(pairs)) for pairs in column.to_pylist()]
        return pa.chunked_array([pa.array(maps, pa.string())])
    if pa.types.is_timestamp(kind):
        return column.cast(pa.timestamp(kind.unit))  # twenty times as fast to write
    return column


def _insert(
    table: Table,
    staging: Table,
    newest: str | None,
    replace_equal: bool,  # noqa: FBT001
) -> ClauseElement:
    keys = [staging.c[column.name] for column in table.primary_key]
    rows = select(*staging.c).ext(distinct_on(*keys)).order_by(*keys)
    if newest is not None:
        rows = rows.order_by(staging.c[newest].desc())
    result = insert(table).from_select([column.name for column in staging.c], rows)
    if newest is None:
        return result.on_conflict_do_nothing()
    stored, given = table.c[newest], result.excluded[newest]
    return result.on_conflict_do_update(
        index_elements=list(table.primary_key),
        set_={
            column.name: result.excluded[column.name]
            for column in table.columns
            if not column.primary_key
        },
        where=stored <= given if replace_equal else stored < given,
    )
