"""The queries by which a table is followed: each goes along an index and is bounded.

`changed` uses that a row version carries the transaction that wrote it: what was committed
since some moment has a transaction id at or above the oldest one that was running then.
"""

from collections.abc import Sequence
from typing import LiteralString, NamedTuple

from psycopg import sql

from page.kinds import Kind

__all__ = [
    "MOMENT",
    "MOST_PER_SERIES",
    "MOST_ROWS",
    "TableQueries",
    "has_order_index",
    "table_queries",
]

MOST_ROWS = 5_000
MOST_GROUPS = 20_000
MOST_PER_SERIES = 1_000

MOMENT = b"SELECT pg_current_snapshot()::text, pg_snapshot_xmin(pg_current_snapshot())::text"
"""What is visible now, and the oldest transaction that may still become visible."""

_INDEXED = """
    SELECT EXISTS (
        SELECT FROM pg_index i
        JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
        WHERE i.indrelid = to_regclass(%s) AND i.indisvalid AND i.indpred IS NULL
            AND a.attname = %s
    )
"""

_GROUPS = """
    WITH RECURSIVE found AS (
        (SELECT {names} FROM {table} ORDER BY {names} LIMIT 1)
        UNION ALL
        SELECT next.* FROM found CROSS JOIN LATERAL (
            SELECT {names} FROM {table} t
            WHERE ({t_names}) > ({found_names}) ORDER BY {t_names} LIMIT 1
        ) next
    )
    SELECT * FROM found LIMIT {most_groups}
"""

_NEXT = """
    SELECT {n_columns} FROM {groups} CROSS JOIN LATERAL (
        SELECT {columns} FROM {table} t WHERE {same} t.{order} > g.since
        ORDER BY t.{order} LIMIT {most_per_series}
    ) n LIMIT {most_rows}
"""

_RECENT = """
    SELECT {n_columns} FROM {groups} CROSS JOIN LATERAL (
        SELECT {columns}, t.xmin AS written_by FROM {table} t WHERE {same} TRUE
        ORDER BY t.{order} DESC LIMIT %(depth)s
    ) n
    WHERE %(moment)s::text IS NULL OR age(written_by) <= age(%(moment)s::xid8::xid)
"""

_WHOLE = """
    SELECT {columns} FROM {table} t
    WHERE %(moment)s::text IS NULL OR age(t.xmin) <= age(%(moment)s::xid8::xid)
    LIMIT {most_groups}
"""


class TableQueries(NamedTuple):
    """The queries of one kind; rows have `columns`.

    Attributes:
        columns: names.
        groups: all series; None for a table that is one series, or is read as a whole.
        next: rows behind `since` in series given as arrays, oldest first.
        recent: the newest `depth` rows of such series, of those only what was written since
            `moment`, the text of a transaction id; null for all.
        whole: the same for a small table; None for others.
    """

    columns: tuple[str, ...]
    groups: sql.Composed | None
    next: sql.Composed
    recent: sql.Composed
    whole: sql.Composed | None


def has_order_index(kind: Kind) -> tuple[LiteralString, Sequence[str]]:
    """A query, with parameters, for whether a table without groups has an index on its time."""
    return _INDEXED, (kind.table.name, kind.order)


def table_queries(kind: Kind) -> TableQueries:
    """The queries of a kind."""
    columns = tuple(column.name for column in kind.table.columns)
    names = _list(kind.group)
    arrays = [
        *(sql.SQL("%({})s::text[]").format(sql.SQL(name)) for name in kind.group),
        sql.SQL("%(since)s::timestamptz[]"),
    ]
    parts = {
        "table": sql.Identifier(kind.table.name),
        "order": sql.Identifier(kind.order),
        "columns": _list(columns),
        "n_columns": _list(columns, "n"),
        "names": names,
        "t_names": _list(kind.group, "t"),
        "found_names": _list(kind.group, "found"),
        "groups": sql.SQL("unnest({}) AS g({})").format(
            sql.SQL(", ").join(arrays), _list((*kind.group, "since"))
        ),
        "same": sql.SQL("").join(
            sql.SQL("t.{0} = g.{0} AND ").format(sql.Identifier(name)) for name in kind.group
        ),
        "most_groups": sql.Literal(MOST_GROUPS),
        "most_per_series": sql.Literal(MOST_PER_SERIES),
        "most_rows": sql.Literal(MOST_ROWS),
    }
    is_grouped = bool(kind.group) and not kind.is_latest
    return TableQueries(
        columns,
        sql.SQL(_GROUPS).format(**parts) if is_grouped else None,
        sql.SQL(_NEXT).format(**parts),
        sql.SQL(_RECENT).format(**parts),
        sql.SQL(_WHOLE).format(**parts) if kind.is_latest else None,
    )


def _list(names: Sequence[str], of: str | None = None) -> sql.Composed:
    return sql.SQL(", ").join(
        sql.Identifier(name) if of is None else sql.Identifier(of, name) for name in names
    )
