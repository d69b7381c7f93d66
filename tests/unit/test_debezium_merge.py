"""Events of several topics become whole transactions again, whatever happens on the way."""

import pickle
import random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from schemas.transactions import RowChange, Transaction
from sources.debezium_merge import Merge
from sources.debezium_records import End, Event

NAMES = ["public.vehicles", "public.engines"]
BAD = "bad"
SNAPSHOT_LSN = 100


class Topics:
    """What a connector writes: a list of records per table, and the markers."""

    def __init__(self) -> None:
        self.tables: list[list[Any]] = [[], []]
        self.ends: list[End] = []

    def snapshot(self, rows: list[tuple[int, str]], *, lsn: int = SNAPSHOT_LSN) -> None:
        rows = sorted(rows)
        for n, (table, key) in enumerate(rows):
            is_last = n + 1 == len(rows)
            ends_table = is_last or rows[n + 1][0] != table
            mark = "last" if is_last else "last_in_data_collection" if ends_table else "true"
            change = RowChange(NAMES[table], key, (lsn,))
            self.tables[table].append(Event(change, None, 0, lsn, 7, "r", mark))

    def commit(self, number: int, end: int, changes: list[tuple[int, str]]) -> None:
        for event in self.events(number, end, changes):
            self.tables[event[0]].append(event[1])
        self.ends.append(self.end(number, end, changes))

    @staticmethod
    def events(number: int, end: int, changes: list[tuple[int, str]]) -> list[tuple[int, Event]]:
        return [
            (
                table,
                Event(
                    RowChange(NAMES[table], key, (end, order)),
                    *(number, order, end - 50 + order, end * 10, "u"),
                ),
            )
            for order, (table, key) in enumerate(changes, 1)
        ]

    @staticmethod
    def end(number: int, end: int, changes: list[tuple[int, str]]) -> End:
        counts = {name: sum(t == n for t, _ in changes) for n, name in enumerate(NAMES)}
        return End(number, end, {name: count for name, count in counts.items() if count})

    def read(self, chance: random.Random, *, restarts: bool = True) -> list[Transaction]:
        """Read them side by side in some order, with restarts; what comes out."""
        merge, out = Merge(NAMES), []
        left = [*(list(records) for records in self.tables), list(self.ends)]
        while any(left):
            n = chance.choice([n for n, records in enumerate(left) if records])
            for _ in range(chance.choice([1, 1, 2, 5, 50])):
                if not left[n]:
                    break
                record = left[n].pop(0)
                if record == BAD:
                    merge.take_damage(n)
                elif isinstance(record, End):
                    merge.take_end(record)
                else:
                    merge.take(n, record)
            if chance.random() < 0.7:
                out += merge.advance(lambda n: not left[n])
            if restarts and chance.random() < 0.2:
                merge = Merge(NAMES, pickle.loads(pickle.dumps(merge.snapshot())))
        out += merge.advance(lambda _: True)
        assert merge.advance(lambda _: True) == []
        return out


changes_strategy = st.lists(st.tuples(st.integers(0, 1), st.sampled_from("abcd")), max_size=4)


@given(
    st.lists(changes_strategy, max_size=8),
    st.lists(st.tuples(st.integers(0, 1), st.sampled_from("abcd")), unique=True, max_size=6),
    st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8), st.integers(0, 4)), max_size=3),
    st.integers(0, 2**32),
)
def test_whole_in_order_and_once_whatever_the_interleaving_restarts_and_repetitions(
    history: list[list[tuple[int, str]]],
    rows: list[tuple[int, str]],
    resent: list[tuple[int, int, int]],
    seed: int,
) -> None:
    topics, wanted = Topics(), []
    if rows:
        topics.snapshot(rows)
        wanted.append({RowChange(NAMES[t], key, (SNAPSHOT_LSN,)) for t, key in rows})
    again = {at: (back, cut) for at, back, cut in resent}
    for n, changes in enumerate(history):
        topics.commit(n, 1_000 + 100 * n, changes)
        if changes:
            events = topics.events(n, 1_000 + 100 * n, changes)
            wanted.append([event.change for _, event in events])
        if n in again:
            back, cut = again[n]
            # The connector was killed, in the middle of sending what it sends again; twice.
            for m in range(max(0, n - back), n + 1):
                events = topics.events(m, 1_000 + 100 * m, history[m])
                for table, event in events if m < n else events[:cut]:
                    topics.tables[table].append(event)
                if m < n:
                    topics.ends.append(topics.end(m, 1_000 + 100 * m, history[m]))
            for m in range(max(0, n - back), n + 1):
                topics.commit(m, 1_000 + 100 * m, history[m])
    found = topics.read(random.Random(seed))
    changes_found: list[Any] = [transaction.changes for transaction in found]
    if rows:
        changes_found[0] = set(changes_found[0])
    assert changes_found == wanted
    assert [t.lsn for t in found] == sorted({t.lsn for t in found})
    assert all(t.committed_us == (7 if t.lsn == SNAPSHOT_LSN else t.lsn * 10) for t in found)


def test_rows_of_a_snapshot_that_was_broken_off_are_dropped() -> None:
    topics = Topics()
    topics.snapshot([(0, "a"), (0, "b"), (1, "c")], lsn=50)
    topics.tables[0].pop()
    topics.tables[1].pop()
    topics.snapshot([(0, "b"), (1, "c")], lsn=100)
    topics.commit(1, 1_000, [(0, "b")])
    for seed in range(50):
        first, second = topics.read(random.Random(seed))
        assert {change.key for change in first.changes} == {"b", "c"}
        assert second.lsn == 1_000


def test_a_snapshot_waits_for_the_topics_that_are_not_read_yet() -> None:
    topics = Topics()
    topics.snapshot([(0, "a"), (1, "c")])
    topics.commit(1, 1_000, [(0, "a")])
    merge = Merge(NAMES)
    for record in topics.tables[0]:
        merge.take(0, record)
    merge.take_end(topics.ends[0])
    assert merge.advance(lambda _: False) == []
    merge.take(1, topics.tables[1][0])
    assert [t.lsn for t in merge.advance(lambda _: False)] == [100, 1_000]


def test_a_foreign_undecodable_record_takes_nothing_from_a_transaction() -> None:
    topics = Topics()
    topics.commit(1, 1_000, [(0, "a")])
    topics.tables[0].append(BAD)
    topics.commit(2, 1_100, [(0, "b"), (0, "c")])
    for seed in range(50):
        found = topics.read(random.Random(seed))
        assert [[change.key for change in t.changes] for t in found] == [["a"], ["b", "c"]]


def test_a_damaged_event_delays_its_transaction_only_until_the_topic_says_more() -> None:
    topics = Topics()
    topics.commit(1, 1_000, [(0, "a"), (0, "b"), (1, "c")])
    topics.tables[0][0] = BAD
    topics.commit(2, 1_100, [(0, "d")])
    for seed in range(50):
        found = topics.read(random.Random(seed))
        assert [[change.key for change in t.changes] for t in found] == [["b", "c"], ["d"]]


def test_a_damaged_event_at_the_end_of_its_topic_delays_nothing_for_ever() -> None:
    topics = Topics()
    topics.commit(1, 1_000, [(0, "a"), (1, "c")])
    topics.tables[0][0] = BAD
    topics.commit(2, 1_100, [(1, "d")])
    for seed in range(50):
        found = topics.read(random.Random(seed))
        assert [[change.key for change in t.changes] for t in found] == [["c"], ["d"]]


def test_several_damaged_events_behind_good_ones_delay_nothing_for_ever() -> None:
    topics = Topics()
    topics.commit(1, 1_000, [(0, "a"), (1, "c")])
    for number in (2, 3):
        topics.commit(number, 1_000 + 100 * number, [(0, "x"), (1, "d")])
        topics.tables[0][-1] = BAD
    for seed in range(50):
        found = topics.read(random.Random(seed))
        assert [[c.key for c in t.changes] for t in found] == [["a", "c"], ["d"], ["d"]]


def test_events_whose_marker_was_lost_go_with_the_next_transaction() -> None:
    topics = Topics()
    topics.commit(1, 1_000, [(0, "a")])
    topics.commit(2, 1_100, [(0, "b")])
    topics.commit(3, 1_200, [(0, "c")])
    del topics.ends[1]
    for seed in range(50):
        found = topics.read(random.Random(seed))
        assert [[change.key for change in t.changes] for t in found] == [["a"], ["b", "c"]]


def test_a_change_that_cannot_be_used_counts_for_its_transaction() -> None:
    topics = Topics()
    topics.commit(1, 1_000, [(0, "a"), (1, "c")])
    topics.tables[0][0] = topics.tables[0][0]._replace(change=None)
    [transaction] = topics.read(random.Random(1))
    assert [change.key for change in transaction.changes] == ["c"]


def test_rows_of_an_incremental_snapshot_go_with_the_next_transaction_of_their_table() -> None:
    topics = Topics()
    topics.commit(1, 1_000, [(0, "a")])
    row = Event(RowChange(NAMES[0], "x", (1,)), None, 0, 1_010, 7, "r")
    topics.tables[0] += [row, row._replace(change=RowChange(NAMES[0], "y", (1,)))]
    topics.commit(2, 1_100, [(1, "b")])
    topics.commit(3, 1_200, [(0, "c")])
    for seed in range(50):
        found = topics.read(random.Random(seed))
        assert [[c.key for c in t.changes] for t in found] == [["a"], ["b"], ["x", "y", "c"]]


def test_reading_ahead_is_bounded_while_no_marker_asks_for_more() -> None:
    merge = Merge(NAMES)
    changes = [(0, f"k{n}") for n in range(20_000)]
    for table, event in Topics.events(1, 100_000, changes):
        merge.take(table, event)
    assert not merge.wants(0)
    assert merge.wants(1)
    merge.take_end(Topics.end(1, 100_000, changes))
    assert merge.wants(0)
