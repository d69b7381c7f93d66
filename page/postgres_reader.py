"""Follows the tables: what anybody commits is published within about a poll.

A poll brings what lies behind the newest row of each series and the newest few rows that were
written since the last poll; a sweep, once a second or so, does the latter for all rows that a
snapshot may hold, so that late corrections are seen. Polls take at most a tenth of the time,
whatever they cost. When the server goes away, the reader says so and tries again for ever.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, LiteralString, NamedTuple

import psycopg
from psycopg import sql

from page.database import ReadConnection, connect
from page.hub import Hub
from page.kinds import Kind, Row, make_row
from page.queries import MOMENT, TableQueries, has_order_index, table_queries
from schemas.errors import FlowError

__all__ = ["PostgresReader", "Report"]

Report = Callable[[str | None], None]
"""Told what is wrong with the source; None: nothing."""

_STATEMENT_TIMEOUT_S = 10.0
_RECENT_ROWS = 3
_CHUNK = 500
_SHARE = 10
_SWEEP_S = 1.0
_LOOK_S = 1.0
_LONGEST_PAUSE_S = 5.0
_FIRST_RETRY_S, _LAST_RETRY_S = 0.25, 5.0


class _Moment(NamedTuple):
    snapshot: str
    oldest: str


class _Followed:
    """One table that exists."""

    def __init__(self, kind: Kind, depth: int) -> None:
        self.kind = kind
        self.depth = depth
        self.queries: TableQueries = table_queries(kind)
        self.groups: set[tuple[str, ...]] = set()
        self.polled: str | None = None
        self.swept: str | None = None

    def rows(self, records: Sequence[tuple[Any, ...]]) -> list[Row]:
        names = self.queries.columns
        return [make_row(self.kind, dict(zip(names, one, strict=False))) for one in records]


class PostgresReader:
    """Publishes the rows of the tables until it is cancelled.

    Args:
        kinds: with the tables to follow.
        hub: where rows go.
        depth: rows of a series that a snapshot may hold, by kind.
        url: gives the libpq URL; asked again for each attempt to connect.
        report: told what is wrong.
        poll_s: between two polls, at least.

    Attributes:
        ready: set once what was there at first is published.
    """

    def __init__(
        self,
        kinds: Sequence[Kind],
        hub: Hub,
        depth: dict[str, int],
        *,
        url: Callable[[], Awaitable[str | None]],
        report: Report,
        poll_s: float,
    ) -> None:
        self._kinds = kinds
        self._hub = hub
        self._depth = depth
        self._url = url
        self._report = report
        self._poll_s = poll_s
        self.ready = asyncio.Event()

    async def run(self) -> None:
        """Follow the tables, through outages, for ever."""
        pause_s = _FIRST_RETRY_S
        while True:
            try:
                url = await self._url()
                if url is None:
                    self._report("DATABASE_URL=off: there are no tables to show")
                    return
                connection = await connect(url, _STATEMENT_TIMEOUT_S)
                try:
                    pause_s = _FIRST_RETRY_S
                    await self._follow(connection)
                finally:
                    await connection.close()
            except (psycopg.Error, FlowError, OSError) as error:
                self._report(f"PostgreSQL cannot be read ({_reason(error)})")
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LAST_RETRY_S)

    async def _follow(self, connection: ReadConnection) -> None:
        followed: dict[str, _Followed] = {}
        problems: dict[str, str] = {}
        snapshot, looked_s, swept_s, sweep_pause_s = "", 0.0, 0.0, 0.0
        while True:
            started_s = time.monotonic()
            if started_s - looked_s >= _LOOK_S:
                looked_s = started_s
                await self._look(connection, followed, problems)
                self._report("; ".join(problems.values()) or None)
            moment = await _moment(connection)
            if moment.snapshot != snapshot or not self.ready.is_set():
                is_sweep = started_s - swept_s >= sweep_pause_s
                for one in list(followed.values()):
                    try:
                        await (self._sweep if is_sweep else self._poll)(connection, one, moment)
                    except psycopg.ProgrammingError as error:
                        # Its table was dropped or may not be read; the others go on.
                        problems[one.kind.name] = f"{one.kind.table.name}: {_reason(error)}"
                        del followed[one.kind.name]
                if is_sweep:
                    swept_s = time.monotonic()
                    took_s = swept_s - started_s
                    sweep_pause_s = max(_SWEEP_S, _SHARE * took_s)
                else:
                    snapshot = moment.snapshot
            self.ready.set()
            took_s = time.monotonic() - started_s
            await asyncio.sleep(min(max(self._poll_s, _SHARE * took_s), _LONGEST_PAUSE_S))

    async def _look(
        self,
        connection: ReadConnection,
        followed: dict[str, _Followed],
        problems: dict[str, str],
    ) -> None:
        """Begin to follow the tables that have come to be."""
        for kind in self._kinds:
            if kind.name in followed:
                continue
            query = "SELECT to_regclass(%s) IS NOT NULL"
            if not await _scalar(connection, query, [kind.table.name]):
                problems.pop(kind.name, None)
                continue
            if not kind.group and not await _scalar(connection, *has_order_index(kind)):
                problems[kind.name] = (
                    f"{kind.table.name} has no index on {kind.order}: create one to see its rows"
                )
                continue
            problems.pop(kind.name, None)
            followed[kind.name] = _Followed(kind, self._depth[kind.name])

    async def _poll(self, connection: ReadConnection, one: _Followed, moment: _Moment) -> None:
        """Publish what was written since the last poll at the end of each series."""
        await self._new_groups(connection, one)
        queries, depth = one.queries, _RECENT_ROWS if one.kind.group else one.depth
        if queries.whole is not None:
            await self._publish(connection, one, queries.whole, {"moment": one.polled})
        elif one.groups:
            newest = self._hub.memory.newest(one.kind.name)
            where = _arrays(one, [(group, newest.get(group)) for group in one.groups])
            await self._publish(connection, one, queries.next, where)
            recent = {**where, "moment": one.polled, "depth": depth}
            await self._publish(connection, one, queries.recent, recent)
        one.polled = moment.oldest

    async def _sweep(self, connection: ReadConnection, one: _Followed, moment: _Moment) -> None:
        """A poll that also publishes what was written further back."""
        await self._poll(connection, one, moment)
        if one.kind.group and one.queries.whole is None and one.groups and one.swept is not None:
            where = _arrays(one, [(group, None) for group in one.groups])
            recent = {**where, "moment": one.swept, "depth": one.depth}
            await self._publish(connection, one, one.queries.recent, recent)
        one.swept = moment.oldest

    async def _new_groups(self, connection: ReadConnection, one: _Followed) -> None:
        """Find series, and publish the end of each that is new."""
        if one.queries.groups is not None:
            found = await (await connection.execute(one.queries.groups)).fetchall()
            groups = {tuple(map(str, group)) for group in found}
        else:
            groups = {()}
        new = groups - one.groups
        if not new or one.queries.whole is not None:
            return
        where = _arrays(one, [(group, None) for group in new])
        recent = {**where, "moment": None, "depth": one.depth}
        await self._publish(connection, one, one.queries.recent, recent)
        one.groups = groups

    async def _publish(
        self,
        connection: ReadConnection,
        one: _Followed,
        query: sql.Composed,
        values: dict[str, Any],
    ) -> None:
        """Publish the rows of a query, oldest first, without holding anybody up for long."""
        async with connection.cursor() as cursor:
            await cursor.execute(query, values)
            records = await cursor.fetchall()
        rows = one.rows(records)
        rows.sort(key=lambda row: row.place)
        for start in range(0, len(rows), _CHUNK):
            self._hub.publish(rows[start : start + _CHUNK])
            await asyncio.sleep(0)


def _arrays(
    one: _Followed, groups: Sequence[tuple[tuple[str, ...], str | None]]
) -> dict[str, list[str]]:
    """Series as arrays, and behind which time each is to be read; None: from the start."""
    names = enumerate(one.kind.group)
    return {
        **{name: [group[place] for group, _ in groups] for place, name in names},
        "since": ["-infinity" if time is None else f"{time}Z" for _, time in groups],
    }


async def _moment(connection: ReadConnection) -> _Moment:
    row = await (await connection.execute(MOMENT)).fetchone()
    return _Moment(*row) if row else _Moment("", "")


async def _scalar(connection: ReadConnection, query: LiteralString, values: Sequence[str]) -> bool:
    row = await (await connection.execute(query, values)).fetchone()
    return bool(row and row[0])


def _reason(error: BaseException) -> str:
    with suppress(AttributeError):
        primary = error.diag.message_primary  # type: ignore[attr-defined]
        if primary:
            return str(primary)
    return " ".join(str(error).split())
