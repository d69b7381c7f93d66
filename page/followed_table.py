"""One table and how far it is followed: what was written to it since it was last looked at.

Contract. With each poll, all rows behind the newest one known of their series are published,
oldest first, a bounded number at a time; and of the newest few rows known of each series those
that were written since the last poll. A sweep does the latter for as many rows as a snapshot
holds, so that it also finds what was corrected or put in between further back. Only `next` may
move the newest row on: were it another query, rows between the two would be left out.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from psycopg import sql

from page.database import ReadConnection
from page.hub import Hub
from page.kinds import Kind, Row, make_row
from page.queries import MOST_PER_SERIES, MOST_ROWS, TableQueries, table_queries

__all__ = ["FollowedTable"]

_RECENT_ROWS = 3
_CHUNK = 500

Group = tuple[str, ...]


class FollowedTable:
    """A table that exists.

    Args:
        kind: with the table.
        depth: rows of a series that a snapshot may hold.
        hub: where rows go.
        connection: to read with.
    """

    def __init__(self, kind: Kind, depth: int, hub: Hub, connection: ReadConnection) -> None:
        self.kind = kind
        self._depth = depth
        self._hub = hub
        self._connection = connection
        self._queries: TableQueries = table_queries(kind)
        # The oldest transaction that ran when the table was last polled and swept: whatever
        # was committed since is of it or of a later one. None: not on this connection.
        self._polled: str | None = None
        self._swept: str | None = None

    async def poll(self, oldest: str) -> bool:
        """Publish what is new; whether there is more to be had at once.

        Args:
            oldest: transaction that was running a moment ago, the oldest of all.
        """
        if self._queries.whole is not None:
            await self._publish(await self._rows(self._queries.whole, {"moment": self._polled}))
            self._polled = self._swept = oldest
            return False
        groups = await self._groups()
        known = self._hub.memory.newest(self.kind.name)
        new = [group for group in groups if group not in known]
        old = {group: known[group] for group in groups if group in known}
        await self._load(new, None)
        has_more = False
        if old:
            rows = await self._rows(self._queries.next, self._arrays(list(old), old))
            rows, has_more = self._whole_times(rows)
            await self._publish(rows)
            # A table without groups is one series, whose rows are in no strict order.
            depth = _RECENT_ROWS if self.kind.group else self._depth
            await self._recent(old, depth, self._polled)
        elif self._swept is None:
            self._swept = oldest  # all of it was read just now
        self._polled = oldest
        return has_more

    async def sweep(self, oldest: str) -> None:
        """Publish what was written further back."""
        if self._queries.whole is None and self.kind.group:
            known = self._hub.memory.newest(self.kind.name)
            if self._swept is None:
                for groups in self._batches(list(known)):
                    await self._recent({g: known[g] for g in groups}, self._depth, None)
            elif known:
                await self._recent(known, self._depth, self._swept)
        self._swept = oldest

    async def _groups(self) -> list[Group]:
        if self._queries.groups is None:
            return [()]
        found = await (await self._connection.execute(self._queries.groups)).fetchall()
        return [tuple(map(str, group)) for group in found]

    async def _load(self, groups: list[Group], moment: str | None) -> None:
        """Publish the ends of series that are not known yet."""
        for some in self._batches(groups):
            values = {**self._arrays(some, {}), "moment": moment, "depth": self._depth}
            await self._publish(await self._rows(self._queries.recent, values))

    async def _recent(self, known: dict[Group, str], depth: int, moment: str | None) -> None:
        """Publish what was written since among the newest rows known of some series."""
        values = {**self._arrays(list(known), known), "moment": moment, "depth": depth}
        rows = await self._rows(self._queries.recent, values)
        await self._publish([row for row in rows if row.place[0] <= known[row.group]])

    async def _rows(self, query: sql.Composed, values: dict[str, Any]) -> list[Row]:
        """The rows of a query, oldest first."""
        names = self._queries.columns
        async with self._connection.cursor() as cursor:
            await cursor.execute(query, values)
            records = await cursor.fetchall()
        rows = [make_row(self.kind, dict(zip(names, one, strict=True))) for one in records]
        return sorted(rows, key=lambda row: row.place)

    async def _publish(self, rows: list[Row]) -> None:
        """Publish without holding anybody up for long."""
        for start in range(0, len(rows), _CHUNK):
            self._hub.publish(rows[start : start + _CHUNK])
            await asyncio.sleep(0)

    def _whole_times(self, rows: list[Row]) -> tuple[list[Row], bool]:
        """Rows of `next` without those of a time that may not be there in full; if there are."""
        full = {g for g, n in Counter(row.group for row in rows).items() if n >= MOST_PER_SERIES}
        last = {row.group: row.place[0] for row in rows}
        whole = [row for row in rows if row.group not in full or row.place[0] < last[row.group]]
        return whole or rows, bool(full) or len(rows) >= MOST_ROWS

    def _batches(self, groups: list[Group]) -> Iterator[list[Group]]:
        """Series whose ends are not too many rows together."""
        size = max(1, MOST_ROWS // self._depth)
        return (groups[start : start + size] for start in range(0, len(groups), size))

    def _arrays(self, groups: Sequence[Group], since: dict[Group, str]) -> dict[str, list[str]]:
        """Series as arrays, and behind which time each is to be read."""
        return {
            **{name: [g[place] for g in groups] for place, name in enumerate(self.kind.group)},
            "since": [f"{since[g]}Z" if g in since else "infinity" for g in groups],
        }
