"""Follows the tables: what anybody commits is published within about a poll.

Nothing is asked while nothing is committed. Polls take a tenth of the time at most, whatever
they cost; sweeps, which look further back, come once a second or so; see
`page.followed_table`. When the server goes away, the reader says so and tries again for ever.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import LiteralString

import psycopg

from page.database import ReadConnection, connect
from page.followed_table import FollowedTable
from page.hub import Hub
from page.kinds import Kind
from page.queries import MOMENT, has_order_index
from schemas.errors import FlowError
from sinks.postgres_connection import reason_of

__all__ = ["PostgresReader", "Report"]

Report = Callable[[str | None], None]
"""Told what is wrong with the source; None: nothing."""

_STATEMENT_TIMEOUT_S = 10.0
_SHARE = 10
_SWEEP_S = 1.0
_LOOK_S = 1.0
_LONGEST_PAUSE_S = 5.0
_FIRST_RETRY_S, _LAST_RETRY_S = 0.25, 5.0


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
        self._retry_s = _FIRST_RETRY_S
        self.ready = asyncio.Event()

    async def run(self) -> None:
        """Follow the tables, through outages, for ever."""
        while True:
            try:
                url = await self._url()
                if url is None:
                    self._report("DATABASE_URL=off: there are no tables to show")
                    return
                async with await connect(url, _STATEMENT_TIMEOUT_S) as connection:
                    await self._follow(connection)
            except (psycopg.Error, FlowError, OSError) as error:
                self._report(f"PostgreSQL cannot be read ({_reason(error)})")
            await asyncio.sleep(self._retry_s)
            self._retry_s = min(2 * self._retry_s, _LAST_RETRY_S)

    async def _follow(self, connection: ReadConnection) -> None:
        followed: dict[str, FollowedTable] = {}
        problems: dict[str, str] = {}
        polled = swept = ""  # what was visible then
        looked_s = swept_s = sweep_pause_s = 0.0
        while True:
            started_s = time.monotonic()
            if started_s - looked_s >= _LOOK_S:
                looked_s = started_s
                if await self._look(connection, followed, problems):
                    polled = ""
                self._report("; ".join(problems.values()) or None)
            visible, oldest = await _moment(connection)
            has_more = False
            if visible != polled:
                for one in list(followed.values()):
                    try:
                        has_more |= await one.poll(oldest)
                        problems.pop(one.kind.name, None)
                    except psycopg.ProgrammingError as error:
                        # Its table was dropped or may not be read; the others go on.
                        problems[one.kind.name] = f"{one.kind.table.name}: {_reason(error)}"
                        del followed[one.kind.name]
                polled = "" if has_more else visible
            if visible != swept and started_s - swept_s >= sweep_pause_s and not has_more:
                swept_s = time.monotonic()
                for one in followed.values():
                    await one.sweep(oldest)
                swept = visible
                sweep_pause_s = max(_SWEEP_S, _SHARE * (time.monotonic() - swept_s))
            self.ready.set()
            self._retry_s = _FIRST_RETRY_S
            took_s = time.monotonic() - started_s
            pause_s = self._poll_s if has_more else max(self._poll_s, _SHARE * took_s)
            await asyncio.sleep(min(pause_s, _LONGEST_PAUSE_S))

    async def _look(
        self,
        connection: ReadConnection,
        followed: dict[str, FollowedTable],
        problems: dict[str, str],
    ) -> bool:
        """Begin to follow the tables that have come to be; whether there were some."""
        before = len(followed)
        for kind in self._kinds:
            if kind.name in followed:
                continue
            query = "SELECT to_regclass(%s) IS NOT NULL"
            if not await _is_true(connection, query, [kind.table.name]):
                problems.pop(kind.name, None)
            elif not kind.group and not await _is_true(connection, *has_order_index(kind)):
                problems[kind.name] = (
                    f"{kind.table.name} has no index on {kind.order}: create one to see its rows"
                )
            else:
                followed[kind.name] = FollowedTable(
                    kind, self._depth[kind.name], self._hub, connection
                )
        return len(followed) > before


async def _moment(connection: ReadConnection) -> tuple[str, str]:
    """What is visible now, and the oldest transaction that may still become visible."""
    row = await (await connection.execute(MOMENT)).fetchone()
    assert row is not None  # noqa: S101  # a query without a table has one row
    return row[0], row[1]


async def _is_true(connection: ReadConnection, query: LiteralString, values: Sequence[str]) -> bool:
    row = await (await connection.execute(query, values)).fetchone()
    return bool(row and row[0])


def _reason(error: BaseException) -> str:
    primary = error.diag.message_primary if isinstance(error, psycopg.Error) else None
    return primary or reason_of(error)
