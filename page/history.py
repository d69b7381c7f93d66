"""Rows of the past, out of PostgreSQL: pages of a range, each along an index.

A page ends with a cursor, the place of its last row; the next one begins behind it. So pages
never overlap or leave anything out, whatever is written in between; a row that is corrected
while one reads is there once, old or new.
"""

import asyncio
import base64
import binascii
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, NamedTuple

import psycopg
from psycopg import sql

from page.database import ReadConnection, connect
from page.kinds import Kind, Row, make_row
from page.refusals import RefusedError

__all__ = ["History", "Range", "decode_cursor", "encode_cursor"]

_CONNECTIONS = 4
_WAIT_S = 5.0
_STATEMENT_TIMEOUT_S = 5.0

_PAGE = """
    SELECT {columns} FROM {table}
    WHERE {conditions} ORDER BY {order} LIMIT %(limit)s
"""


class Range(NamedTuple):
    """What is asked for.

    Attributes:
        same: values of columns that all rows share.
        start: least time; None: no limit.
        end: time before which all rows are; None: no limit.
        is_descending: newest first.
        after: place of the row before the first one, as in a cursor; None: from the start.
    """

    same: Mapping[str, str]
    start: datetime | None = None
    end: datetime | None = None
    is_descending: bool = False
    after: tuple[str, ...] | None = None


def encode_cursor(place: Sequence[str]) -> str:
    """A place as opaque text for a URL."""
    return base64.urlsafe_b64encode(json.dumps(list(place)).encode()).decode().rstrip("=")


def decode_cursor(text: str, parts: int) -> tuple[str, ...]:
    """The place of a cursor: a time, and as many more texts as make up `parts`.

    Raises:
        RefusedError: It is none.
    """
    try:
        if not text.isascii():
            raise ValueError("no cursor")  # noqa: TRY301  # as all that follow
        padded = text + "=" * (-len(text) % 4)
        place = json.loads(base64.b64decode(padded, b"-_", validate=True))
        if (
            not isinstance(place, list)
            or len(place) != parts
            or not all(isinstance(part, str) and "\x00" not in part for part in place)
        ):
            raise ValueError("no cursor")  # noqa: TRY301
        datetime.fromisoformat(place[0])
        json.dumps(place, ensure_ascii=False).encode()  # no half of a surrogate pair
    except (ValueError, binascii.Error, RecursionError):
        raise RefusedError(
            400, "next is not what a page before ended with", "Give it back as it was."
        ) from None
    return tuple(place)


class History:
    """Reads pages; of one event loop.

    Args:
        url: gives the libpq URL; None for no database.
    """

    def __init__(self, url: Callable[[], Awaitable[str | None]]) -> None:
        self._url = url
        self._idle: list[ReadConnection] = []
        self._free = asyncio.Semaphore(_CONNECTIONS)

    async def close(self) -> None:
        """Close all connections."""
        while self._idle:
            await self._idle.pop().close()

    async def page(self, kind: Kind, asked: Range, limit: int) -> tuple[list[Row], str | None]:
        """Up to `limit` rows in order, and the cursor of the next page; None: there is none.

        Raises:
            RefusedError: There is no database, it is away or busy, or the query takes too long.
        """
        keys = _keys(kind)
        columns = [column.name for column in kind.table.columns]
        query = sql.SQL(_PAGE).format(
            columns=_list(columns),
            table=sql.Identifier(kind.table.name),
            conditions=_conditions(kind, asked),
            order=sql.SQL(", ").join(
                sql.SQL("{} DESC" if asked.is_descending else "{}").format(sql.Identifier(key))
                for key in keys
            ),
        )
        values = {
            **asked.same,
            "start": asked.start,
            "end": asked.end,
            "limit": limit + 1,
            **{f"after_{number}": part for number, part in enumerate(asked.after or ())},
        }
        records = await self.fetch(query, values)
        rows = [make_row(kind, dict(zip(columns, one, strict=True))) for one in records[:limit]]
        if len(records) <= limit or not rows:
            return rows, None
        last = dict(zip(columns, records[limit - 1], strict=True))
        return rows, encode_cursor([str(last[key]) for key in keys])

    async def fetch(self, query: sql.Composed, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """All rows of a query.

        Raises:
            RefusedError: As `page`.
        """
        async with self._connection() as connection:
            try:
                return await (await connection.execute(query, values)).fetchall()
            except psycopg.errors.QueryCanceled:
                raise RefusedError(
                    503,
                    f"PostgreSQL did not answer in {_STATEMENT_TIMEOUT_S:.0f} s",
                    "Ask for less: a shorter range, or a smaller limit.",
                ) from None
            except psycopg.errors.UndefinedTable:
                raise RefusedError(
                    503, "The table is not there yet", "Start the flow that writes it."
                ) from None

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[ReadConnection]:
        """A connection; waits its turn."""
        try:
            await asyncio.wait_for(self._free.acquire(), _WAIT_S)
        except TimeoutError:
            raise RefusedError(
                503, "Too many ask for history at the moment", "Ask again a little later."
            ) from None
        try:
            connection = await self._take()
            try:
                yield connection
            except psycopg.OperationalError:
                await connection.close()
                raise
            except asyncio.CancelledError:  # in the middle of an answer, perhaps
                await connection.close()
                raise
            finally:
                if not connection.closed:
                    self._idle.append(connection)
        except psycopg.Error as error:
            # Its text may hold the address, and a reader needs no more than this.
            raise RefusedError(
                503,
                f"PostgreSQL cannot be asked ({type(error).__name__})",
                "Ask again a little later; the page's health says more.",
            ) from error
        finally:
            self._free.release()

    async def _take(self) -> ReadConnection:
        while self._idle:
            connection = self._idle.pop()
            try:
                await connection.execute("SELECT 1")
            except psycopg.Error:
                await connection.close()
            else:
                return connection
        url = await self._url()
        if url is None:
            raise RefusedError(
                503,
                "There is no history: DATABASE_URL=off",
                "Set DATABASE_URL to the database that the flows write, and start the page anew.",
            )
        return await connect(url, _STATEMENT_TIMEOUT_S)


def _keys(kind: Kind) -> list[str]:
    """The columns by which a page is in order: the time first, then what makes it unique."""
    return [
        kind.order,
        *(c.name for c in kind.table.primary_key if c.name not in (*kind.group, kind.order)),
    ]


def _conditions(kind: Kind, asked: Range) -> sql.Composed:
    order = sql.Identifier(kind.order)
    conditions: list[sql.Composable] = [
        sql.SQL("{} = {}").format(sql.Identifier(name), sql.Placeholder(name))
        for name in asked.same
    ]
    if asked.start is not None:
        conditions.append(sql.SQL("{} >= %(start)s").format(order))
    if asked.end is not None:
        conditions.append(sql.SQL("{} < %(end)s").format(order))
    if asked.after is not None:
        keys = _keys(kind)
        casts = ["timestamptz", *("text" for _ in keys[1:])]
        given = [
            sql.SQL("{}::{}").format(sql.Placeholder(f"after_{number}"), sql.SQL(cast))
            for number, cast in enumerate(casts)
        ]
        conditions.append(
            sql.SQL("({}) < ({})" if asked.is_descending else "({}) > ({})").format(
                _list(keys), sql.SQL(", ").join(given)
            )
        )
    return sql.SQL(" AND ").join(conditions or [sql.SQL("TRUE")])


def _list(names: Sequence[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, names))
