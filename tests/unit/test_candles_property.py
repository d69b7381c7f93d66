"""The candles operators equal the oracle, however the log is cut, interleaved or restored."""

import pickle
import random

import numpy as np
import pyarrow as pa
from hypothesis import example, given, settings
from hypothesis import strategies as st

from operators.candle import CANDLE
from operators.combine import Combine, CombineRule, PanePartials
from operators.tumbling import Preview, TumblingShard, preview_rows
from operators.window_table import WindowRule
from schemas.candles import INTERVALS_MS
from schemas.stream import NEVER, Events, Output
from tests import oracle, strategies
from tests.oracle import Rule, T

BASE = strategies.BASE_MS


def events_of(partition: int, log: list[T], rule: Rule, cuts: random.Random) -> list[Events]:
    """A partition's log as batches, cut at random, the last one marked as the end."""
    out: list[Events] = []
    at, newest = 0, NEVER
    while True:
        part = log[at : at + cuts.choice([1, 1, 2, 5, 1000])]
        time = np.array([t.time for t in part], np.int64)
        running = np.maximum.accumulate(np.concatenate(([newest], time)))
        names = sorted({t.key for t in part})
        newest = int(running[-1])
        out.append(
            Events(
                partition,
                np.arange(at, at + len(part), dtype=np.int64),
                time,
                np.maximum(running[:-1] - rule.lateness, NEVER),
                np.array([names.index(t.key) for t in part], np.int32),
                names,
                {
                    "price": np.array([t.price for t in part], np.int64),
                    "quantity": np.array([t.quantity for t in part], np.int64),
                    "side": np.array([t.side for t in part], np.int8),
                    "seq": np.array([t.seq for t in part], np.int64),
                },
                pa.array([b"x"] * len(part), pa.binary()),
                max(NEVER, newest - rule.lateness),
                len(part),
            )
        )
        at += len(part)
        if at >= len(log):
            return out


def as_rows(output: Output) -> list[dict]:
    rows = output.rows.to_pylist()
    for row, tick in zip(rows, output.positions.tolist(), strict=True):
        row["interval"] = INTERVALS_MS[row["interval"]]
        row["tick"] = tick
        for name, value in row.items():
            if name.endswith("_time") and value is not None:
                row[name] = round(value.timestamp() * 1000)
    return rows


class Run:
    """The operators without Bytewax: one shard that takes all keys."""

    def __init__(self, logs: list[list[T]], rule: Rule, seed: int, *, restore: bool) -> None:
        self.random = random.Random(seed)
        self.logs, self.rule, self.restore = logs, rule, restore
        self.combine = Combine(CANDLE, CombineRule("candles", "trades", 1, horizon_ms=rule.horizon))
        self.window_rule = WindowRule(
            rule.intervals,
            horizon_ms=rule.horizon,
            fill_gaps=rule.fill,
            silence_ms=rule.silence,
            memory_ms=rule.memory,
        )
        self.shard = self.new_shard(None)
        self.rows: list[dict] = []
        self.late = 0
        self.lane = NEVER

    def new_shard(self, state: object) -> TumblingShard:
        return TumblingShard(
            CANDLE, self.window_rule, len(self.logs), 0.0, state, clock=lambda: 0.0
        )

    def feed(self, events: Events) -> None:
        items = [item for _, item in self.combine(events)]
        self.late += sum(i.rows.num_rows for i in items if isinstance(i, Output))
        partials = [i for i in items if isinstance(i, PanePartials)]
        if partials:
            self.take(self.shard.on_batch(partials)[0])
        if self.restore and self.random.random() < 0.3:
            self.shard = self.new_shard(pickle.loads(pickle.dumps(self.shard.snapshot())))

    def take(self, items: list) -> None:
        for item in items:
            if isinstance(item, Preview):
                rows = preview_rows([item, item], CANDLE, self.window_rule)
                assert not any(rows["is_closed"].to_pylist())
                assert rows[: len(rows) // 2].equals(rows[len(rows) // 2 :])
                continue
            assert item.position == item.positions[-1]
            assert item.positions[0] > self.lane, "a tick was cut in two"
            self.lane = item.position
            self.rows += as_rows(item)

    def all(self) -> list[dict]:
        queues = [events_of(p, log, self.rule, self.random) for p, log in enumerate(self.logs)]
        while any(queues):
            self.feed(self.random.choice([q for q in queues if q]).pop(0))
        return self.rows

    def finish(self) -> list[dict]:
        self.restore = False  # a partition says again that it has ended, a shard need not know
        for partition, log in enumerate(self.logs):
            newest = max((t.time for t in log), default=None)
            self.feed(end_of(partition, NEVER if newest is None else newest - self.rule.lateness))
        return self.rows


def end_of(partition: int, watermark: int) -> Events:
    none = np.empty(0, np.int64)
    return Events(
        partition, none, none, none, np.empty(0, np.int32), [], {}, pa.array([], pa.binary()),
        watermark, 0, ended=True,
    )  # fmt: skip


def key_order(rows: list[dict]) -> list[dict]:
    """Compare with a message that shows the first difference."""
    return [dict(sorted(row.items())) for row in rows]


@settings(max_examples=100)
@given(strategies.logs(), strategies.rules(), st.integers(0, 2**32), st.booleans())
def test_rows_equal_the_oracle_for_any_batching_interleaving_and_restore(
    logs: list[list[T]], rule: Rule, seed: int, restore: bool
) -> None:
    run = Run(logs, rule, seed, restore=restore)
    assert key_order(run.all()) == key_order(oracle.candles(logs, rule))


@settings(max_examples=100)
@given(strategies.logs(), strategies.rules(), st.integers(0, 2**32), st.booleans())
def test_a_finite_run_closes_every_window_that_holds_data(
    logs: list[list[T]], rule: Rule, seed: int, restore: bool
) -> None:
    run = Run(logs, rule, seed, restore=restore)
    run.all()
    rows = run.finish()
    last = {(r["instrument"], r["interval"], r["open_time"]): r for r in rows}
    read = sum(map(len, logs))
    for interval in rule.intervals:
        counted = sum(r["trade_count"] for r in last.values() if r["interval"] == interval)
        assert counted + run.late == read, "aggregated + late = read"
    late = sum(a.tick is None for p, log in enumerate(logs) for a in oracle.arrivals(p, log, rule))
    assert run.late == late
    expected = oracle.candles(logs, rule, limit=oracle.FOREVER)
    assert key_order(rows) == key_order(expected)


@settings(max_examples=100)
@given(strategies.logs(), strategies.rules(), st.integers(0, 2**32), st.data())
def test_going_on_after_a_finite_run_loses_and_repeats_nothing(
    logs: list[list[T]], rule: Rule, seed: int, data: st.DataObject
) -> None:
    cuts = [data.draw(st.integers(0, len(log))) for log in logs]
    run = Run(logs, rule, seed, restore=True)
    queues = [events_of(p, log, rule, random.Random(seed)) for p, log in enumerate(logs)]
    rest = []
    for queue, cut in zip(queues, cuts, strict=True):
        rest.append([e for e in queue if not len(e.offsets) or e.offsets[0] >= cut])
        for events in queue:
            if len(events.offsets) and events.offsets[0] < cut:
                run.feed(events)
    run.restore = False
    for partition, queue in enumerate(rest):
        watermark = run.shard._watermarks_ms[partition]
        if queue and len(queue[0].offsets):
            watermark = int(queue[0].watermark_ms[0])
        run.feed(end_of(partition, watermark))
    run.shard = run.new_shard(pickle.loads(pickle.dumps(run.shard.snapshot())))
    for queue in rest:
        for events in queue:
            run.feed(events)
    run.finish()
    last = {(r["instrument"], r["interval"], r["open_time"]): r for r in run.rows}
    revisions: dict[tuple, list[int]] = {}
    for row in run.rows:
        key = (row["instrument"], row["interval"], row["open_time"])
        revisions.setdefault(key, []).append(row["revision"])
    assert all(r == list(range(len(r))) for r in revisions.values()), "revisions rise by one"
    expected = {
        (r["instrument"], r["interval"], r["open_time"]): r
        for r in oracle.candles(logs, rule, limit=oracle.FOREVER)
    }
    if not rule.fill:  # a gap can have been shown early, never a trade lost
        assert last.keys() == expected.keys()
    for key, row in expected.items():
        if row["trade_count"]:
            ignore = ("revision", "tick", "complete") if rule.fill else ("revision", "tick")
            assert {k: v for k, v in row.items() if k not in ignore} == {
                k: v for k, v in last[key].items() if k not in ignore
            }


def test_a_batch_of_one_equals_a_huge_batch() -> None:
    rng = random.Random(5)
    log = []
    for i in range(20_000):
        time = BASE + i * 3 - rng.choice([0, 0, 2_500])
        price, quantity = rng.randrange(1, 10**12), rng.randrange(1, 10**12)
        log.append(T(time, f"I{rng.randrange(50)}", price, quantity, rng.randrange(2), i))
    rule = Rule((1_000, 60_000))
    huge = Run([log], rule, 0, restore=False)
    huge.random.choice = lambda options: options[-1]  # type: ignore[method-assign]
    small = Run([log], rule, 1, restore=False)
    assert huge.all() == small.all()


@example(seed=0)
@given(st.integers(0, 2**32))
@settings(max_examples=20)
def test_ties_in_time_and_sequence_are_broken_by_the_place_in_the_log(seed: int) -> None:
    log = [T(BASE + 5, "a", p, 10**8) for p in (3, 9, 1, 7)]
    run = Run([log, []], Rule(), seed, restore=True)
    run.all()
    (row,) = run.finish()
    assert (row["open"], row["close"]) == ("0.00000003", "0.00000007")
