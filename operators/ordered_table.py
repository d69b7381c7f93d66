"""The fold of one shard, between kernel and dataflow: order, keys, early rows, snapshots.

What it computes. Fed with events and watermarks, `advance(watermark)` folds all events
before the watermark in order and returns the rows that are due, by (tick, key, start).

`flush`, the end of a finite run, is a look ahead: it returns the rows that there would be if
the log ended here, and changes no state. What comes later is folded at its place, and the
rows leave again at their true ticks, with the next revision. The flush leaves at a tick of
its own, the first one after all it has seen; a lane's position never falls, so nothing else
leaves before the tick after that, and what was due until then leaves at it.

Contract. The rows are a function of the events and of where finite runs ended, not of how
calls are cut. A table restored from a snapshot goes on as the original would. A snapshot is
an immutable copy that holds what is live: events not in order yet, and states of keys.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from operators.keys import Keys
from operators.ordered_buffer import ReorderBuffer
from operators.ordered_fold import Fold
from operators.ordered_scatter import ShardEvents
from operators.watermark import NO_TIME, first_tick_after
from schemas.stream import NEVER, OFFSET_BITS

__all__ = ["FoldSnapshot", "FoldTable"]


class FoldSnapshot(NamedTuple):
    """Everything a `FoldTable` is, compact.

    Attributes:
        names: keys that are live.
        states: their state records.
        events: the columns of the reorder buffer.
        early: rows that a finite run published before their time.
        newest_ms: newest event time seen.
        flushed_ms: tick of the last flush; `NEVER` without one.
    """

    names: tuple[str, ...] = ()
    states: bytes = b""
    events: Mapping[str, bytes] | None = None
    early: bytes = b""
    newest_ms: int = NEVER
    flushed_ms: int = NEVER


class FoldTable:
    """The fold of the keys of one shard.

    Args:
        fold: what to compute.
        tick_ms: length of a tick.
        snapshot: where to go on; an empty one for a new table.
    """

    _keys: Keys
    _states: NDArray[Any]
    _buffer: ReorderBuffer
    _early: dict[tuple[int, int], Any]
    _newest_ms: int
    _flushed_ms: int
    _next_due_ms: int

    def __init__(self, fold: Fold, tick_ms: int, snapshot: FoldSnapshot | None = None) -> None:
        self._fold = fold
        self._tick_ms = tick_ms
        self._restore(snapshot or FoldSnapshot())

    @property
    def names(self) -> Sequence[str]:
        """Keys by code, for the `key` field of rows."""
        return self._keys.names

    def add(self, events: ShardEvents) -> None:
        """Take in a batch."""
        if not len(events.keys):
            return
        codes = self._keys.codes(events.names)
        more = len(self._keys) - len(self._states)
        if more > 0:
            fresh = np.zeros(max(16, 2 * more + len(self._states)), self._fold.state)
            self._states = np.concatenate((self._states, fresh))
        sequence = self._fold.sequence
        self._buffer.add(
            codes[events.keys],
            events.event_time_ms,
            np.zeros(len(events.keys), np.int64) if sequence is None else events.columns[sequence],
            (events.partition << OFFSET_BITS) + events.offsets,
            events.columns,
        )
        self._newest_ms = max(self._newest_ms, int(events.event_time_ms.max()))

    def advance(self, watermark_ms: int) -> NDArray[Any]:
        """Fold what lies before `watermark_ms`; the rows due, in order."""
        resume_ms = self._flushed_ms + self._tick_ms
        is_due = self._buffer.oldest_ms < watermark_ms or self._next_due_ms <= watermark_ms
        if watermark_ms < resume_ms or not is_due:
            return np.empty(0, self._fold.row)
        rows, self._next_due_ms = self._fold.fold(
            self._buffer.release(watermark_ms), watermark_ms, self._states[: len(self._keys)]
        )
        rows["tick"] = np.maximum(rows["tick"], resume_ms)
        rows = self._in_order(rows)
        if self._early:
            for row in rows:
                early = self._early.pop((int(row["key"]), int(row["start"])), None)
                if early is not None:
                    row["revision"] = early["revision"] + 1
        return rows

    def flush(self, watermark_ms: int) -> NDArray[Any]:
        """The rows of all keys as if the log ended here, those that are new or have changed.

        Call it after `advance(watermark_ms)`.
        """
        states = self._states[: len(self._keys)].copy()
        rows, _ = self._fold.fold(self._buffer.peek(), NO_TIME, states)
        rows = self._in_order(rows)
        rows = rows[[self._is_news(row) for row in rows]] if len(rows) else rows
        if len(rows):
            seen_ms = max(self._newest_ms, watermark_ms, self._flushed_ms)
            self._flushed_ms = first_tick_after(seen_ms, self._tick_ms)
            rows["tick"] = self._flushed_ms
        return rows

    def snapshot(self) -> FoldSnapshot:
        """An immutable copy of what is live."""
        states = self._states[: len(self._keys)]
        is_live = self._fold.is_live(states)
        is_live[self._buffer.keys] = True
        is_live[[key for key, _ in self._early]] = True
        live = np.flatnonzero(is_live)
        codes = np.full(len(self._keys), -1, np.int64)
        codes[live] = np.arange(len(live))
        early = np.array(list(self._early.values()), self._fold.row)
        early["key"] = codes[early["key"]]
        snapshot = FoldSnapshot(
            tuple(self._keys.names[code] for code in live),
            states[live].tobytes(),
            self._buffer.snapshot(codes),
            early.tobytes(),
            self._newest_ms,
            self._flushed_ms,
        )
        if len(live) < len(self._keys) // 2:
            self._restore(snapshot)  # forget the others here too
        return snapshot

    def _restore(self, snapshot: FoldSnapshot) -> None:
        self._keys = Keys(snapshot.names)
        self._states = np.frombuffer(snapshot.states, self._fold.state).copy()
        self._buffer = ReorderBuffer(self._fold.columns, snapshot.events)
        early = np.frombuffer(snapshot.early, self._fold.row)
        self._early = {(int(row["key"]), int(row["start"])): row for row in early}
        self._newest_ms = snapshot.newest_ms
        self._flushed_ms = snapshot.flushed_ms
        self._next_due_ms = NEVER  # the next call finds out

    def _in_order(self, rows: NDArray[Any]) -> NDArray[Any]:
        ranks = self._keys.ranks()[rows["key"]]
        return rows[np.lexsort((rows["start"], ranks, rows["tick"]))]

    def _is_news(self, row: Any) -> bool:  # noqa: ANN401  # a NumPy record
        """Note an early row, with its revision; whether it differs from the one before."""
        place = int(row["key"]), int(row["start"])
        before = self._early.get(place)
        if before is not None:
            row["revision"] = before["revision"]
            if row == before:
                return False
            row["revision"] += 1
        self._early[place] = row.copy()
        return True
