"""Where readers of the data and readers of the page meet: rows in, a queue per client out.

Contract. All of it runs on one event loop. A client gets a snapshot and then every row that
is news and that it wants, in order, none missing between the two. Of previews and health it
gets the newest only. A client whose queue is full is dropped: nobody waits for it.
"""

import asyncio
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from page.kinds import HEALTH, KIND_NAMES, RANGED, Row
from page.memory import Memory

__all__ = ["Client", "Hub", "TooManyClientsError", "Wanted"]

MOST_SNAPSHOT_ROWS = 20_000
_LATEST = {"preview", HEALTH}


class TooManyClientsError(Exception):
    """No more clients are let in."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a client asks for.

    Attributes:
        kinds: names.
        instruments: None: all. Rows without an instrument are always wanted.
        intervals: the same for intervals.
    """

    kinds: tuple[str, ...] = KIND_NAMES
    instruments: frozenset[str] | None = None
    intervals: frozenset[str] | None = None

    def __call__(self, row: Row) -> bool:
        """Whether a row is wanted."""
        return (
            row.kind in self.kinds
            and _is_in(row.instrument, self.instruments)
            and _is_in(row.interval, self.intervals)
        )


def _is_in(name: str | None, wanted: frozenset[str] | None) -> bool:
    return wanted is None or name is None or name in wanted


class Client:
    """One connection's queue; made by `Hub.join`.

    Attributes:
        snapshot: rows that were there when it joined.
        dropped: why it must end; None while it may go on.
    """

    def __init__(
        self, wanted: Wanted, snapshot: list[Row], most_rows: int, on_drop: Callable[[], None]
    ) -> None:
        self.wanted = wanted
        self.snapshot = snapshot
        self.dropped: str | None = None
        self._most_rows = most_rows
        self._on_drop = on_drop
        self._rows: list[Row] = []
        self._latest: dict[tuple[str, tuple[str, ...]], Row] = {}
        self._changed = asyncio.Event()

    def offer(self, rows: Iterable[Row]) -> None:
        """Queue what is wanted of the rows; drop the client when there is no room."""
        for row in filter(self.wanted, rows):
            if row.kind in _LATEST:
                self._latest[row.kind, row.group] = row
            else:
                self._rows.append(row)
        if len(self._rows) + len(self._latest) > self._most_rows:
            self.drop(f"it is more than {self._most_rows:,} rows behind")
        elif self._rows or self._latest:
            self._changed.set()

    async def rows(self) -> list[Row]:
        """Wait for rows, and take all; none when the client was dropped."""
        await self._changed.wait()
        self._changed.clear()
        return self.take()

    def take(self) -> list[Row]:
        """Take all that waits; nothing when there is none."""
        rows = [*self._rows, *self._latest.values()]
        self._rows, self._latest = [], {}
        return rows

    def drop(self, reason: str) -> None:
        """End it; what is queued is forgotten."""
        if self.dropped is None:
            self.dropped = reason
            self._rows, self._latest = [], {}
            self._changed.set()
            self._on_drop()


class Hub:
    """The rows, and who gets them.

    Args:
        memory: what snapshots are made of.
        most_clients: at a time.
        most_rows: that may wait for a client.

    Attributes:
        server: an id that is another one in each server process.
        dropped: clients that were too slow so far.
        sent: rows given to clients so far.
    """

    def __init__(self, memory: Memory, *, most_clients: int, most_rows: int) -> None:
        self.memory = memory
        self.server = secrets.token_hex(8)
        self.dropped = 0
        self.sent = 0
        self._most_clients = most_clients
        self._most_rows = most_rows
        self._clients: set[Client] = set()

    @property
    def clients(self) -> int:
        """How many are connected."""
        return len(self._clients)

    def publish(self, rows: Iterable[Row]) -> list[Row]:
        """Take rows in, and queue what is news for whom it may concern; the news."""
        news = self.memory.take(rows)
        if news:
            for client in list(self._clients):
                if client.dropped is None:
                    client.offer(news)
        return news

    def join(self, wanted: Wanted, history: int, on_drop: Callable[[], None]) -> Client:
        """Let a client in, with the snapshot of this very moment.

        Args:
            wanted: what it gets.
            history: rows of a series in the snapshot, where a kind has no limit of its own.
            on_drop: called when it is dropped, to cut its connection.

        Raises:
            TooManyClientsError: There are as many as may be.
        """
        if len(self._clients) >= self._most_clients:
            raise TooManyClientsError
        snapshot = [
            row
            for kind in wanted.kinds
            if kind not in RANGED or history > 0
            for row in self.memory.tail(
                kind, wanted, history if kind in RANGED else None, MOST_SNAPSHOT_ROWS
            )
        ]
        client = Client(wanted, snapshot, self._most_rows, on_drop)
        self._clients.add(client)
        return client

    def leave(self, client: Client) -> None:
        """Forget a client whose connection has ended."""
        self._clients.discard(client)
        self.dropped += client.dropped is not None
