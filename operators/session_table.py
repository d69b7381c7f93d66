"""The sessions of one shard, between kernel and dataflow: order, early rows, snapshots.

What it computes. Fed with events and watermarks, `advance(watermark)` folds all events before
the watermark in order and returns two streams: the events, each with its session, and the
sessions that have ended. Both leave at ticks: an event at the first one after it, a session
as `operators.sessions` says.

`flush`, the end of a finite run, is a look ahead as in `operators.ordered_table`: it returns
what there would be if the log ended here, and changes no state. When a longer log is folded
later, an event that left early does not leave again, unless it belongs to another session
now; a session that left early leaves again with the next revision when it truly ends; and one
that does not come about is withdrawn, by a row that says so.

Contract. As of `operators.ordered_table`. Sessions that have ended are gone from memory and
from snapshots; devices without a session are gone with the next snapshot.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from operators.many_keys import ManyKeys
from operators.metrics import StateSize
from operators.ordered_arrivals import Arrivals
from operators.ordered_buffer import InOrder
from operators.ordered_scatter import ShardEvents
from operators.ordered_table import TableRows
from operators.session_early import EarlySessions, EarlySnapshot
from operators.session_rows import lower_events, lower_sessions
from operators.sessions import CELL, STATE, Folded, SessionRule, fold, pack
from operators.watermark import NO_TIME, first_tick_after
from schemas.stream import NEVER, Int64s

__all__ = ["SessionSnapshot", "SessionTable"]


class SessionSnapshot(NamedTuple):
    """Everything a `SessionTable` is, compact.

    Attributes:
        names: devices with a session, or with events that wait.
        states: their state records.
        cells: of the states' sensors.
        events: the columns of the reorder buffer.
        early: what a finite run published before its time.
        newest_ms: newest event time seen.
        flushed_ms: tick of the last flush; `NEVER` without one.
    """

    names: tuple[str, ...] = ()
    states: bytes = b""
    cells: bytes = np.zeros(1, CELL).tobytes()
    events: Mapping[str, bytes] | None = None
    early: EarlySnapshot = EarlySnapshot()
    newest_ms: int = NEVER
    flushed_ms: int = NEVER


class SessionTable:
    """The sessions of the devices of one shard; see `operators.ordered_table.OrderedTable`.

    Args:
        rule: parameters.
        tick_ms: length of a tick.
        snapshot: where to go on; None for a new table.
    """

    _arrivals: Arrivals[ManyKeys]
    _states: NDArray[Any]
    _cells: NDArray[Any]
    _early: EarlySessions
    _flushed_ms: int
    _next_due_ms: int

    def __init__(
        self, rule: SessionRule, tick_ms: int, snapshot: SessionSnapshot | None = None
    ) -> None:
        self._rule = rule
        self._tick_ms = tick_ms
        self._restore(snapshot or SessionSnapshot())

    def add(self, events: ShardEvents) -> None:
        """Take in a batch."""
        self._states = self._arrivals.add(events, self._states)

    def advance(self, watermark_ms: int) -> Sequence[TableRows]:
        """Fold what lies before `watermark_ms`; events and ended sessions, in order."""
        resume_ms = self._flushed_ms + self._tick_ms
        buffer = self._arrivals.buffer
        is_due = buffer.oldest_ms < watermark_ms or self._next_due_ms <= watermark_ms
        if watermark_ms < resume_ms or not is_due:
            return []
        events = buffer.release(watermark_ms)
        self._cells = _with_room(self._cells, len(events.keys))
        states = self._states[: len(self._arrivals.keys)]
        folded = fold(self._rule, self._tick_ms, events, watermark_ms, states, self._cells)
        self._next_due_ms = folded.next_due_ms
        is_news = None
        if len(self._early):
            folded, is_news = self._early.settle(events, folded, states)
        ticks = (events.event_time_ms // self._tick_ms + 1) * self._tick_ms
        folded.rows["tick"] = np.maximum(folded.rows["tick"], resume_ms)
        return self._lowered(events, folded, np.maximum(ticks, resume_ms), is_news)

    def flush(self, watermark_ms: int) -> Sequence[TableRows]:
        """Events and sessions as if the log ended here, those that are new or have changed.

        Call it after `advance(watermark_ms)`.
        """
        events = self._arrivals.buffer.peek()
        states = self._states[: len(self._arrivals.keys)].copy()
        cells = _with_room(self._cells.copy(), len(events.keys))
        folded = fold(self._rule, self._tick_ms, events, NO_TIME, states, cells)
        folded, is_news = self._early.leave(events, folded)
        if not (len(folded.rows) or is_news.any()):
            return []
        seen_ms = max(self._arrivals.newest_ms, watermark_ms, self._flushed_ms)
        self._flushed_ms = int(first_tick_after(seen_ms, self._tick_ms))
        folded.rows["tick"] = self._flushed_ms
        return self._lowered(events, folded, np.full(len(is_news), self._flushed_ms), is_news)

    def size(self) -> StateSize:
        """How much it holds; any thread may ask."""
        states, arrivals = self._states, self._arrivals
        return StateSize(
            int(np.count_nonzero(states["count"])),
            len(arrivals.keys),
            len(arrivals.buffer),
            states.nbytes + self._cells.nbytes + arrivals.buffer.nbytes,
        )

    def snapshot(self) -> SessionSnapshot:
        """An immutable copy of what is live."""
        states = self._states[: len(self._arrivals.keys)]
        is_live = states["count"] > 0
        is_live[self._arrivals.buffer.keys] = True
        is_live[self._early.keys] = True
        live = np.flatnonzero(is_live)
        codes = np.full(len(states), -1, np.int64)
        codes[live] = np.arange(len(live))
        kept = states[live]
        cells = pack(kept, self._cells)
        snapshot = SessionSnapshot(
            tuple(self._arrivals.keys.names.take(pa.array(live)).to_pylist()),
            kept.tobytes(),
            cells.tobytes(),
            self._arrivals.buffer.snapshot(codes),
            self._early.snapshot(codes),
            self._arrivals.newest_ms,
            self._flushed_ms,
        )
        if len(live) < len(states) // 2 or 2 * len(cells) < len(self._cells):
            self._restore(snapshot)  # forget the others here too
        return snapshot

    def _restore(self, snapshot: SessionSnapshot) -> None:
        self._arrivals = Arrivals(
            self._rule.columns,
            self._rule.sequence,
            ManyKeys(snapshot.names),
            snapshot.events,
            snapshot.newest_ms,
            with_values=True,
        )
        self._states = np.frombuffer(snapshot.states, STATE).copy()
        self._cells = np.frombuffer(snapshot.cells, CELL).copy()
        self._early = EarlySessions(snapshot.early)
        self._flushed_ms = snapshot.flushed_ms
        self._next_due_ms = NEVER  # the next call finds out

    def _lowered(
        self, events: InOrder, folded: Folded, ticks: Int64s, is_news: NDArray[np.bool_] | None
    ) -> Sequence[TableRows]:
        names = self._arrivals.keys.names
        out = []
        if is_news is not None and not is_news.all():
            at = np.flatnonzero(is_news)
            events, folded, ticks = _part(events, at), _of(folded, at), ticks[at]
        if len(ticks):
            out.append(TableRows("events", ticks, lower_events(events, folded, names)))
        rows = folded.rows
        if len(rows):
            folded = folded._replace(rows=rows[_order(rows, names)])
            due = np.ascontiguousarray(folded.rows["tick"])
            out.append(TableRows("results", due, lower_sessions(folded, names)))
        return out


def _order(rows: NDArray[Any], names: pa.StringArray) -> Int64s:
    """(r,) indices by tick, device and the order in which sessions began."""
    columns = {name: np.ascontiguousarray(rows[name]) for name in ("tick", "start", "place")}
    table = pa.table({**columns, "device": names.take(pa.array(rows["key"]))})
    by = [(name, "ascending") for name in ("tick", "device", "start", "place")]
    order: Int64s = pc.sort_indices(table, sort_keys=by).to_numpy().astype(np.int64)
    return order


def _with_room(cells: NDArray[Any], more: int) -> NDArray[Any]:
    """The cells, with so many that were never used at the end."""
    wanted = int(cells[0]["count"]) + 1 + more
    if wanted <= len(cells):
        return cells
    grown = np.zeros(2 * wanted, CELL)
    grown[: len(cells)] = cells
    return grown


def _part(events: InOrder, at: Int64s) -> InOrder:
    return InOrder(
        events.keys[at],
        events.event_time_ms[at],
        {},
        events.place[at],
        pc.take(events.values, pa.array(at)),
    )


def _of(folded: Folded, at: Int64s) -> Folded:
    """With the sessions of these events alone."""
    return folded._replace(starts=folded.starts[at], places=folded.places[at])
