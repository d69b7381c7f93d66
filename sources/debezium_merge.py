"""Puts the events of several topics together to whole transactions, in order of their commits.

What it computes: the END markers of the transaction topic say the order, and how many events of
each table belong to a transaction; it is handed on when they are all here. Rows of an initial
snapshot belong to no transaction: all of one snapshot are handed on as one, before whatever was
committed after it. Rows of an incremental snapshot go with the next transaction of their table.

Contract. The transactions that leave are a function of the topics, whatever the interleaving in
which they are read. What the connector sends again (any suffix, any number of times) has no
effect: a marker at or below the last commit is old, and an event counts once. A record that
cannot be used delays nothing for ever: a transaction that lacks events is handed on without them
when its table's topic shows an event from after its commit, or when the topic holds an
undecodable record and was read to its end. Events whose own marker was lost go with the next
transaction.

It relies on the connector's order: a topic has one partition, and its events lie there in order
of the commits. Memory: the events of transactions that are not complete, and a snapshot.
"""

import logging
from collections import deque
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import NamedTuple

from schemas.stream import NEVER
from schemas.transactions import Transaction
from sources.debezium_records import End, Event

__all__ = ["Merge", "MergeState"]

_log = logging.getLogger(__name__)

_ENOUGH = 20_000  # events at hand of one table, while no marker asks for more
_by_order = attrgetter("order")


class TopicState(NamedTuple):
    """What waits of one table's topic; see `_Topic`."""

    events: tuple[tuple[Event, ...], ...] = ()
    rows: tuple[Event, ...] = ()
    passed: int = NEVER
    marked: int = NEVER
    is_damaged: bool = False


class MergeState(NamedTuple):
    """Snapshot: the last commit handed on, and what waits."""

    lsn: int
    snapshot_ended: int
    ends: tuple[End, ...]
    topics: tuple[TopicState, ...]


class _Topic:
    """What waits of one table's topic.

    Attributes:
        events: by transaction, in the order in which their first events lie in the topic; each
            by what two copies of it have in common. An event of no transaction is one of its
            own, with a negative id.
        rows: of initial snapshots.
        passed: greatest LSN of an event of a transaction.
        marked: snapshot of which the last row was seen.
        is_damaged: whether an undecodable record was seen, and nothing behind it handed on.
        count: number of events.
    """

    def __init__(self, state: TopicState) -> None:
        self.events: dict[int, dict[object, Event]] = {}
        self.rows = list(state.rows)
        self.passed = state.passed
        self.marked = state.marked
        self.is_damaged = False
        self.count = 0
        self._alone = 0
        self._behind: set[int] = set()  # transactions with events behind the damage
        for group in state.events:
            for event in group:
                self.add(event)
        if state.is_damaged:
            self.damage()

    def damage(self) -> None:
        self.is_damaged = True
        self._behind.clear()

    def add(self, event: Event) -> None:
        self._alone -= 1
        number = self._alone if event.transaction is None else event.transaction
        group = self.events.setdefault(number, {})
        before = len(group)
        group.setdefault(_identity(event), event)
        self.count += len(group) - before
        if event.transaction is not None:
            self.passed = max(self.passed, event.lsn)
        if self.is_damaged:
            self._behind.add(number)

    def has(self, transaction: int) -> int:
        return len(self.events.get(transaction, ()))

    def drop(self, transaction: int) -> list[Event]:
        group = self.events.pop(transaction, {})
        if transaction in self._behind:
            self.is_damaged = False
            self._behind.clear()
        self.count -= len(group)
        return list(group.values())

    def before(self, transaction: int) -> list[Event]:
        """Take out what lies before a transaction."""
        events: list[Event] = []
        if transaction in self.events:
            while (first := next(iter(self.events))) != transaction:
                events += self.drop(first)
        return events

    def state(self) -> TopicState:
        events = tuple(tuple(group.values()) for group in self.events.values())
        return TopicState(events, tuple(self.rows), self.passed, self.marked, self.is_damaged)


class Merge:
    """See the module.

    Args:
        tables: names as in the markers, such as `public.engines`.
        state: where to go on.
    """

    def __init__(self, tables: Sequence[str], state: MergeState | None = None) -> None:
        if state is None:
            state = MergeState(NEVER, NEVER, (), (TopicState(),) * len(tables))
        self._lsn = state.lsn
        self._snapshot_ended = state.snapshot_ended
        self._ends = deque(state.ends)
        self._topics = dict(zip(tables, map(_Topic, state.topics), strict=True))
        self._names = list(tables)
        self._snapshot = max((r.lsn for t in self._topics.values() for r in t.rows), default=NEVER)

    def wants(self, table: int) -> bool:
        """Whether to read on in a table's topic."""
        return bool(self._ends) or self._topics[self._names[table]].count < _ENOUGH

    @property
    def wants_ends(self) -> bool:
        """Whether to read on in the transaction topic."""
        return len(self._ends) < _ENOUGH

    def take(self, table: int, event: Event) -> None:
        """Take in an event of a table's topic."""
        topic = self._topics[self._names[table]]
        if not event.snapshot:
            topic.add(event)
        elif event.lsn > self._lsn:
            topic.rows.append(event)
            self._snapshot = max(self._snapshot, event.lsn)
            if event.snapshot in ("last", "last_in_data_collection"):
                topic.marked = event.lsn
            if event.snapshot == "last":
                self._snapshot_ended = event.lsn

    def take_damage(self, table: int) -> None:
        """Take in that a record of a table's topic could not be read."""
        self._topics[self._names[table]].damage()

    def take_end(self, end: End) -> None:
        """Take in a marker."""
        self._ends.append(end)

    def advance(self, is_read: Callable[[int], bool]) -> list[Transaction]:
        """What is complete by now.

        Args:
            is_read: whether a table's topic was read to its end, as it is at this moment;
                asked only where nothing else can tell.
        """
        out: list[Transaction] = []
        while True:
            end = self._ends[0] if self._ends else None
            if end is not None and end.lsn <= self._lsn:
                self._ends.popleft()
                for topic in self._topics.values():
                    topic.drop(end.transaction)
            elif self._snapshot > NEVER and (end is None or end.lsn > self._snapshot):
                if not self._is_whole(end, is_read):
                    return out
                out.append(self._rows())
            elif end is None or not self._is_complete(end, is_read):
                return out
            else:
                self._ends.popleft()
                transaction = self._transaction(end)
                if transaction.changes:
                    out.append(transaction)

    def snapshot(self) -> MergeState:
        """All that waits."""
        topics = tuple(topic.state() for topic in self._topics.values())
        return MergeState(self._lsn, self._snapshot_ended, tuple(self._ends), topics)

    def _is_whole(self, end: End | None, is_read: Callable[[int], bool]) -> bool:
        """Whether all rows of the snapshot are here."""
        lsn, topics = self._snapshot, self._topics.values()
        has_ended = end is not None or self._snapshot_ended >= lsn
        return (has_ended or any(topic.passed >= lsn for topic in topics)) and all(
            topic.marked == lsn or topic.passed >= lsn or is_read(number)
            for number, topic in enumerate(topics)
        )

    def _rows(self) -> Transaction:
        """The rows of the last snapshot; what one brought that was broken off is old."""
        lsn, taken_us = self._snapshot, 0
        changes = []
        for topic in self._topics.values():
            for row in topic.rows:
                if row.lsn == lsn and row.change is not None:
                    changes.append(row.change)
                    taken_us = max(taken_us, row.committed_us)
            topic.rows.clear()
        self._lsn, self._snapshot = lsn, NEVER
        return Transaction(lsn, taken_us, changes)

    def _is_complete(self, end: End, is_read: Callable[[int], bool]) -> bool:
        for number, (name, topic) in enumerate(self._topics.items()):
            if self._lsn == NEVER and topic.passed == NEVER and not is_read(number):
                return False  # rows of a first snapshot may lie in it
            wanted = end.counts.get(name, 0)
            # The first event after a commit may lie exactly at its end.
            if topic.has(end.transaction) >= wanted or topic.passed >= end.lsn:
                continue
            if not (topic.is_damaged and is_read(number)):
                return False
        return True

    def _transaction(self, end: End) -> Transaction:
        """Take a transaction out, and what lies before it in its topics.

        The latter belongs to transactions that were handed on, or to one whose marker was lost.
        """
        events: list[Event] = []
        for name, topic in self._topics.items():
            events += [
                event._replace(order=0)
                for event in topic.before(end.transaction)
                if event.transaction is None or event.lsn >= self._lsn
            ]
            own = topic.drop(end.transaction)
            missing = end.counts.get(name, 0) - len(own)
            if missing > 0:
                _log.warning(
                    "Transaction %d lacks %d of its events of %s, which could not be read",
                    end.transaction,
                    missing,
                    name,
                    extra={"table": name, "transaction": end.transaction, "position": end.lsn},
                )
            events += own
        events.sort(key=_by_order)
        committed_us = max((event.committed_us for event in events), default=0)
        changes = [event.change for event in events if event.change is not None]
        self._lsn = end.lsn
        return Transaction(end.lsn, committed_us, changes)


def _identity(event: Event) -> object:
    """What two copies of an event have in common, and no two events of a table."""
    change = event.change
    return event.lsn, event.op, None if change is None else change.key
