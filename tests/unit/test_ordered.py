"""Ordered folds: the reorder buffer, the map side, and any fold with timers on top of them."""

import pickle
import random
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators import ordered_buffer
from operators.ordered import OrderedShard
from operators.ordered_buffer import InOrder, ReorderBuffer
from operators.ordered_fold import row_dtype
from operators.ordered_scatter import Scatter, ScatterRule, ShardEvents
from operators.shards import shard_key
from operators.watermark import NO_TIME
from schemas.murmur2 import partition_of
from schemas.stream import NEVER, Events, Output
from tests import strategies
from tests.ewma_oracle import Accepted, Ewma, accepted, in_order
from tests.oracle import T
from tests.runs import Run, end_of, events_of

BASE = strategies.BASE_MS

_events = st.lists(
    st.tuples(st.integers(0, 9), st.integers(0, 3), st.integers(0, 2), st.integers(0, 99)),
    max_size=60,
)


def fill(buffer: ReorderBuffer, events: Sequence[tuple[int, ...]]) -> None:
    """Each event is (time, sequence, key, payload); its place is its rank in the log."""
    time, sequence, key, payload, place = np.array(events, np.int64).reshape(-1, 5).T.copy()
    buffer.add(key, time, sequence, place, {"payload": payload})


def listed(events: InOrder) -> list[tuple[int, ...]]:
    columns = (events.event_time_ms, events.keys, events.columns["payload"])
    return list(zip(*(column.tolist() for column in columns), strict=True))


@settings(max_examples=100)
@given(_events, st.integers(0, 2**32))
def test_released_events_are_the_log_in_order_however_they_came(
    events: list[tuple[int, ...]], seed: int
) -> None:
    rng = random.Random(seed)
    placed = [(*event, place) for place, event in enumerate(events)]
    expected = [(t, k, p) for t, _, k, p, _ in sorted(placed, key=lambda e: (e[0], e[1], e[4]))]
    buffer = ReorderBuffer({"payload": "i8"})
    waiting = list(placed)
    rng.shuffle(waiting)
    released: list[tuple[int, ...]] = []
    for limit in range(11):  # what is added is never before the last limit
        now = [e for e in waiting if e[0] == limit or (e[0] > limit and rng.random() < 0.3)]
        waiting = [e for e in waiting if e not in now]
        while now:
            n = rng.randint(1, len(now))
            fill(buffer, now[:n])
            now = now[n:]
        assert listed(buffer.peek())[:1] == expected[len(released) :][:1] or waiting
        before = len(buffer)
        part = buffer.release(limit + 1)
        assert len(buffer) == before - len(part.keys)
        assert all(t <= limit for t in part.event_time_ms)
        released += listed(part)
        if rng.random() < 0.3:
            codes = np.arange(3)
            buffer = ReorderBuffer(
                {"payload": "i8"}, pickle.loads(pickle.dumps(buffer.snapshot(codes)))
            )
    assert released == expected
    assert len(buffer) == 0
    assert buffer.oldest_ms == NO_TIME


@pytest.mark.parametrize("n", [2, 3, 40, 5_000])
def test_a_run_of_equal_times_is_sorted_whatever_its_length_and_order(n: int) -> None:
    rng = np.random.default_rng(n)
    for sequence in (np.arange(n)[::-1].copy(), rng.integers(0, 3, n), rng.permutation(n)):
        place = rng.permutation(n)
        order = np.arange(n)
        ordered_buffer._settle_ties(order, np.full(n, 7), sequence, place)
        assert order.tolist() == np.lexsort((place, sequence)).tolist()


class Visits:
    """A fold with timers: a visit ends a second after its key's last event; written plainly.

    A row is one visit: its number of events, and the order in which they came as a text.
    """

    gap_ms = 1_000
    columns: Mapping[str, str] = {"price": "i8"}
    state = np.dtype([("start", "i8"), ("last", "i8"), ("count", "i8"), ("digest", "u8")])
    row = row_dtype([("count", "i8"), ("digest", "u8")])

    def __init__(self, sequence: str | None = "seq") -> None:
        self.sequence = sequence

    def _end(self, state: Any) -> int:
        return -(-int(state["last"] + self.gap_ms) // 1_000) * 1_000

    def fold(self, events: InOrder, limit_ms: int, states: Any) -> tuple[Any, int]:
        rows: list[tuple] = []

        def close(key: int) -> None:
            state = states[key]
            rows.append((key, 0, state["start"], self._end(state), state["count"], state["digest"]))
            states[key] = np.zeros(1, self.state)[0]

        for key, time, price in zip(
            events.keys, events.event_time_ms, events.columns["price"], strict=True
        ):
            state = states[key]
            if state["count"] and time >= state["last"] + self.gap_ms:
                close(key)
            if not state["count"]:
                state["start"] = time
            state["last"] = time
            state["count"] += 1
            state["digest"] = (int(state["digest"]) * 31 + int(price)) % 2**61
        for key in range(len(states)):
            if states[key]["count"] and self._end(states[key]) <= limit_ms:
                close(key)
        due = [self._end(state) for state in states if state["count"]]
        return np.array(rows, self.row), min(due, default=NO_TIME)

    def is_live(self, states: Any) -> Any:
        return states["count"] > 0

    def lower(self, rows: Any, names: Sequence[str]) -> pa.RecordBatch:
        columns = {name: rows[name].tolist() for name in ("start", "revision", "count", "digest")}
        return pa.RecordBatch.from_pydict({"key": [names[k] for k in rows["key"]], **columns})


def visits(logs: list[list[T]], rule: Ewma, *, sequence: bool) -> list[tuple]:
    """All visits of the whole log: (tick, key, start, count, digest)."""
    everything: list[Accepted] = [a for p, log in enumerate(logs) for a in accepted(p, log, rule)]
    trades = in_order(everything)
    if not sequence:
        everything.sort(key=lambda a: (a.trade.time, a.place))
        trades = [a.trade for a in everything]
    rows = []
    for key in {t.key for t in trades}:
        group: list[T] = []
        for t in [*(t for t in trades if t.key == key), T(2**60, key, 0, 0)]:
            if group and t.time >= group[-1].time + Visits.gap_ms:
                digest = 0
                for one in group:
                    digest = (digest * 31 + one.price) % 2**61
                end = -(-(group[-1].time + Visits.gap_ms) // 1_000) * 1_000
                rows.append((end, key.encode(), group[0].time, len(group), digest))
                group = []
            group.append(t)
    return sorted(rows)


class VisitsRun(Run):
    fold = Visits()

    def new_step(self) -> Scatter:
        return Scatter(self.fold, ScatterRule("visits", "events", 1))

    def new_shard(self, state: Any) -> OrderedShard:
        return OrderedShard(self.fold, len(self.logs), 1_000, state)


class UnsequencedRun(VisitsRun):
    fold = Visits(sequence=None)


@settings(max_examples=100)
@given(strategies.logs(), st.sampled_from([0, 2_000]), st.integers(0, 2**32), st.booleans())
def test_a_fold_with_timers_sees_each_key_in_order_and_ends_it_in_silence(
    logs: list[list[T]], lateness: int, seed: int, sequence: bool
) -> None:
    rule = Ewma(lateness=lateness)
    run = (VisitsRun if sequence else UnsequencedRun)(logs, rule, seed, restore=True)
    seen = [
        (row["tick"], row["key"].encode(), row["start"], row["count"], row["digest"])
        for row in run.all()
    ]
    expected = visits(logs, rule, sequence=sequence)
    watermark = min(run.shard._watermarks_ms)
    assert seen == [row for row in expected if row[0] <= watermark]
    assert sum(row[3] for row in expected) + run.late == sum(map(len, logs)), "folded + late = read"


def some_events(
    times: list[int], watermarks: list[int], names: list[str], keys: list[int], after: int
) -> Events:
    n = len(times)
    return Events(
        3, np.arange(10, 10 + n), np.array(times, np.int64), np.array(watermarks, np.int64),
        np.array(keys, np.int32), names,
        {"price": np.arange(n), "seq": np.zeros(n, np.int64), "side": np.zeros(n, np.int8)},
        pa.array([b"%d" % i for i in range(n)], pa.binary()), after, n,
    )  # fmt: skip


def test_each_shard_gets_its_keys_in_log_order_and_every_shard_the_watermark() -> None:
    rng = random.Random(1)
    names = [f"K{i}" for i in range(20)]
    keys = [rng.randrange(20) for _ in range(300)]
    times = [BASE + rng.randrange(5_000) for _ in keys]
    watermarks = [BASE + 1_000] * len(keys)
    scatter = Scatter(Visits(), ScatterRule("visits", "events", 8))
    items = scatter(some_events(times, watermarks, names, keys, BASE + 1_234))
    shards = [i for _, i in items if isinstance(i, ShardEvents)]
    assert [key for key, _ in items][:8] == [shard_key(s) for s in range(8)]
    for s, item in enumerate(shards):
        assert (item.shard, item.partition, item.watermark_ms) == (s, 3, BASE + 1_000)
        own = [
            i for i, k in enumerate(keys)
            if partition_of(names[k].encode(), 8) == s and times[i] >= BASE + 1_000
        ]  # fmt: skip
        assert item.offsets.tolist() == [10 + i for i in own]
        assert [item.names[k] for k in item.keys] == [names[keys[i]] for i in own]
        assert item.event_time_ms.tolist() == [times[i] for i in own]
        assert item.columns["price"].tolist() == own
        assert set(item.columns) == {"price", "seq"}, "only what the fold reads"
        assert set(item.names) == {names[keys[i]] for i in own}, "no key without events"
    (late,) = [i for _, i in items if isinstance(i, Output)]
    assert late.rows["offset"].to_pylist() == [
        10 + i for i, t in enumerate(times) if t < BASE + 1_000
    ]
    assert late.rows["late_by_ms"].to_pylist() == [
        BASE + 1_000 - t for t in times if t < BASE + 1_000
    ]
    again = scatter(some_events([], [], [], [], BASE + 1_999))
    assert again == [], "the same tick is no news"
    later = scatter(some_events([], [], [], [], BASE + 2_000))
    assert [i.watermark_ms for _, i in later if isinstance(i, ShardEvents)] == [BASE + 2_000] * 8


def test_an_event_at_its_arrival_watermark_is_on_time_and_one_before_it_late() -> None:
    scatter = Scatter(Visits(), ScatterRule("visits", "events", 1))
    items = [
        i for _, i in scatter(some_events([BASE, BASE - 1], [BASE, BASE], ["a"], [0, 0], BASE))
    ]
    assert [len(i.keys) for i in items if isinstance(i, ShardEvents)] == [1]
    (late,) = [i for i in items if isinstance(i, Output)]
    assert late.lane == "late-03"
    assert late.rows["value"].to_pylist() == [b"1"]


def test_an_event_at_the_least_watermark_waits_for_its_equals() -> None:
    buffer = ReorderBuffer({"payload": "i8"})
    fill(buffer, [(5, 2, 0, 1, 0)])
    assert listed(buffer.release(5)) == []
    fill(buffer, [(5, 1, 0, 2, 1)])
    assert listed(buffer.release(6)) == [(5, 0, 2), (5, 0, 1)]


def test_a_snapshot_holds_what_is_live_and_its_size_does_not_grow_with_events() -> None:
    shard = OrderedShard(Visits(), 1, 1_000, None)
    scatter = Scatter(Visits(), ScatterRule("visits", "events", 1))
    sizes = []
    for step in range(60):
        log = [T(BASE + step * 2_000 + i, f"K{step}-{i % 50}", 1, 1) for i in range(0, 2_000, 5)]
        for events in events_of(0, log, Ewma(), random.Random(step)):
            items = [i for _, i in scatter(events)]
            shard.on_batch([i for i in items if isinstance(i, ShardEvents)])
        sizes.append(len(pickle.dumps(shard.snapshot())))
    assert max(sizes[30:]) <= max(sizes[:30]), "keys that are over are forgotten"
    assert len(shard._table.names) < 400


def test_nothing_is_emitted_when_a_run_is_stopped() -> None:
    shard = OrderedShard(Visits(), 1, 1_000, None)
    assert shard.on_eof() == ([], False)


def test_an_empty_log_ends_without_rows() -> None:
    shard = OrderedShard(Visits(), 1, 1_000, None)
    items = Scatter(Visits(), ScatterRule("visits", "events", 1))(end_of(0, NEVER))
    assert shard.on_batch([i for _, i in items if isinstance(i, ShardEvents)])[0] == []
