"""The sessions operators equal the oracle, however the log is cut, interleaved or restored."""

import random
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.ordered import OrderedShard
from operators.ordered_scatter import Scatter, ScatterRule
from operators.session_table import SessionTable
from operators.sessions import SessionRule
from schemas.device_wire import sensor_words
from schemas.stream import NEVER, Events
from tests import sessions_oracle, strategies
from tests.oracle import FOREVER
from tests.runs import Run, as_rows, batch
from tests.sessions_oracle import DATA, SENT, WOKE, E, Rule

BASE = strategies.BASE_MS


def event_columns(events: list[E]) -> dict[str, np.ndarray]:
    return {
        "kind": np.array([e.kind for e in events], np.uint8),
        "sensor": sensor_words([e.name.encode() for e in events]),
        "value": np.array([e.value for e in events], np.float64),
    }


def events_of(partition: int, log: list[E], rule: Rule, cuts: random.Random) -> list[Events]:
    """A partition's log as batches, cut at random, but for one at least; a value is its place."""
    out: list[Events] = []
    at = 0
    while at < len(log) or not out:
        last = at + cuts.choice([1, 1, 2, 5, 1000])
        events = batch(partition, log, at, last, rule, event_columns)
        values = [f"{partition} {offset}".encode() for offset in events.offsets]
        out.append(replace(events, values=pa.array(values, pa.binary())))
        at = last
    return out


class SessionRun(Run):
    """Rows are sessions; `events` are what was re-keyed."""

    def __init__(self, logs: list[list[E]], rule: Rule, seed: int, *, restore: bool) -> None:
        super().__init__(logs, rule, seed, restore=restore)
        self.events: list[dict] = []
        self._emitted = {"events": NEVER, "results": NEVER}

    def new_step(self) -> Scatter:
        rule = ScatterRule("sessions", "events", 1, with_values=True)
        return Scatter(SessionRule(self.rule.timeout), rule)

    def new_shard(self, state: Any) -> OrderedShard:
        rule = SessionRule(self.rule.timeout)
        return OrderedShard(rule, len(self.logs), 1_000, state, SessionTable)

    def take(self, items: list[Any]) -> None:
        for output in items:
            assert output.position == output.positions[-1]
            assert output.positions[0] > self._emitted[output.kind], "a tick was cut in two"
            assert (np.diff(output.positions) >= 0).all()
            self._emitted[output.kind] = output.position
            for row in as_rows(output):
                if output.kind == "events":
                    partition, offset = row.pop("value").split()
                    self.events.append(row | {"place": (int(partition), int(offset))})
                else:
                    self.rows.append(row | {"sensors": dict(row["sensors"])})

    def all(self) -> list[dict]:
        queues = [events_of(p, log, self.rule, self.random) for p, log in enumerate(self.logs)]
        while any(queues):
            self.feed(self.random.choice([q for q in queues if q]).pop(0))
        return self.rows


_STEPS = [0, 0, 1, 10, 300, 1_000, 1_500, 3_999, 4_000, 4_001, 7_000, 30_000]
_DELAYS = [0, 0, 0, 0, 5, 900, 1_999, 2_000, 2_001, 4_000, 61_000]
_VALUES = [0.0, 5.0, 0.1, -0.3, 1e308, -1e308, 5e-324, 0.7]


@st.composite
def logs(draw: st.DrawFn, *, partitions: int = 3, records: int = 40) -> list[list[E]]:
    """Partitions of device events: out of order, tied, late; a device may be in several."""
    out = []
    for _ in range(draw(st.integers(1, partitions))):
        log: list[E] = []
        time = BASE + draw(st.sampled_from([0, 0, 1_000, 59_999]))
        for _ in range(draw(st.integers(0, records))):
            time += draw(st.sampled_from(_STEPS))
            kind = draw(st.sampled_from([WOKE, DATA, DATA, SENT]))
            when = max(0, time - draw(st.sampled_from(_DELAYS)))
            device = draw(st.sampled_from(["a", "b", "é/x"]))
            if kind == DATA:
                name = draw(st.sampled_from(["wind", "pressure", "temp", "höhe", "x" * 64]))
                log.append(E(when, device, kind, name, draw(st.sampled_from(_VALUES))))
            else:
                log.append(E(when, device, kind))
        out.append(log)
    return out


@st.composite
def rules(draw: st.DrawFn) -> Rule:
    return Rule(
        draw(st.sampled_from([1, 500, 1_000, 4_000, 60_000])),
        draw(st.sampled_from([0, 2_000, 5_000])),
    )


@settings(max_examples=150)
@given(logs(), rules(), st.integers(0, 2**32), st.booleans())
def test_output_equals_the_oracle_for_any_batching_interleaving_and_restore(
    logs: list[list[E]], rule: Rule, seed: int, restore: bool
) -> None:
    run = SessionRun(logs, rule, seed, restore=restore)
    run.all()
    assert (run.events, run.rows) == sessions_oracle.sessions(logs, rule), "to the bit"


@settings(max_examples=150)
@given(logs(), rules(), st.integers(0, 2**32), st.booleans())
def test_a_finite_run_ends_every_session_and_passes_on_every_event_once(
    logs: list[list[E]], rule: Rule, seed: int, restore: bool
) -> None:
    run = SessionRun(logs, rule, seed, restore=restore)
    run.all()
    run.finish()
    assert (run.events, run.rows) == sessions_oracle.sessions(logs, rule, limit=FOREVER)
    assert len(run.events) + run.late == sum(map(len, logs)), "aggregated + late = read"
    assert sum(row["event_count"] for row in run.rows) == len(run.events)


@settings(max_examples=200)
@given(logs(), rules(), st.integers(0, 2**32), st.data())
def test_finite_runs_on_a_growing_log_end_where_one_run_does(
    logs: list[list[E]], rule: Rule, seed: int, data: st.DataObject
) -> None:
    run = SessionRun(logs, rule, seed, restore=True)
    queues = [events_of(p, log, rule, random.Random(seed)) for p, log in enumerate(logs)]
    for _ in range(data.draw(st.integers(1, 3))):
        for queue in queues:
            for _ in range(data.draw(st.integers(0, len(queue)))):
                run.feed(queue.pop(0))
        run.finish(run.shard._watermarks_ms)
        run.shard = run.restored()
        if data.draw(st.booleans()):
            shown = len(run.rows), len(run.events)
            run.finish(run.shard._watermarks_ms)
            assert (len(run.rows), len(run.events)) == shown, "nothing read, nothing published"
            run.shard = run.restored()
        run.restore = True
    for queue in queues:
        for events in queue:
            run.feed(events)
    run.finish()
    events, rows = sessions_oracle.sessions(logs, rule, limit=FOREVER)
    assert {e["place"]: e["key"] for e in run.events} == {e["place"]: e["key"] for e in events}
    last: dict[tuple, dict] = {}
    for row in run.rows:
        key = (row["device"], row["session_id"])
        assert row["revision"] == (last[key]["revision"] + 1 if key in last else 0)
        last[key] = row
    final = {key: row for key, row in last.items() if row["reason"] != "withdrawn"}
    assert final.keys() == {(row["device"], row["session_id"]) for row in rows}
    for row in rows:
        own = final[row["device"], row["session_id"]]
        assert own | {"revision": 0, "tick": 0} == row | {"tick": 0}
    assert not len(run.shard._table._early) or run.shard._table._flushed_ms > NEVER


def test_a_batch_of_one_equals_a_huge_batch() -> None:
    rng = random.Random(5)
    log = []
    for i in range(20_000):
        time = BASE + i * 3 - rng.choice([0, 0, 1_500, 2_500])
        kind = rng.choice([WOKE, DATA, DATA, SENT])
        name = f"s{rng.randrange(6)}" if kind == DATA else ""
        value = rng.random() if kind == DATA else 0.0
        log.append(E(time, f"d{rng.randrange(500)}", kind, name, value))
    huge = SessionRun([log], Rule(), 0, restore=False)
    huge.random.choice = lambda options: options[-1]  # type: ignore[method-assign]
    small = SessionRun([log], Rule(), 1, restore=False)
    assert huge.all() == small.all()
    assert huge.events == small.events
    assert len(huge.rows) > 1_000
