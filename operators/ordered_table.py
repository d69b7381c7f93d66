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
from typing import Any, NamedTuple, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from operators.keys import Keys
from operators.metrics import StateSize
from operators.ordered_arrivals import Arrivals
from operators.ordered_fold import Fold
from operators.ordered_scatter import ShardEvents
from operators.watermark import NO_TIME, first_tick_after
from schemas.stream import NEVER, Int64s

__all__ = ["FoldSnapshot", "FoldTable", "OrderedTable", "TableRows"]


class TableRows(NamedTuple):
    """Rows that leave, with the kind of output they are and the tick of each, not falling."""

    kind: str
    ticks: Int64s
    rows: pa.RecordBatch


class OrderedTable(Protocol):
    """What a shard folds its events with; see the module."""

    def add(self, events: ShardEvents) -> None:
        """Take in a batch."""
        ...

    def advance(self, watermark_ms: int) -> Sequence[TableRows]:
        """Fold what lies before `watermark_ms`; the rows due, at most once of each kind."""
        ...

    def flush(self, watermark_ms: int) -> Sequence[TableRows]:
        """What there would be if the log ended here; call it after `advance(watermark_ms)`."""
        ...

    def size(self) -> StateSize:
        """How much it holds; any thread may ask."""
        ...

    def snapshot(self) -> Any:  # noqa: ANN401  # each table has its own
        """An immutable copy of what is live."""
        ...


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

    _arrivals: Arrivals[Keys]
    _states: NDArray[Any]
    _early: dict[tuple[int, int], Any]
    _flushed_ms: int
    _next_due_ms: int

    def __init__(self, fold: Fold, tick_ms: int, snapshot: FoldSnapshot | None = None) -> None:
        self._fold = fold
        self._tick_ms = tick_ms
        self._restore(snapshot or FoldSnapshot())

    @property
    def names(self) -> Sequence[str]:
        """Keys by code."""
        return self._arrivals.keys.names

    def add(self, events: ShardEvents) -> None:
        """Take in a batch."""
        self._states = self._arrivals.add(events, self._states)

    def advance(self, watermark_ms: int) -> Sequence[TableRows]:
        """Fold what lies before `watermark_ms`; the rows due, in order."""
        resume_ms = self._flushed_ms + self._tick_ms
        is_due = self._arrivals.buffer.oldest_ms < watermark_ms or self._next_due_ms <= watermark_ms
        if watermark_ms < resume_ms or not is_due:
            return []
        rows, self._next_due_ms = self._fold.fold(
            self._arrivals.buffer.release(watermark_ms),
            watermark_ms,
            self._states[: len(self._arrivals.keys)],
        )
        rows["tick"] = np.maximum(rows["tick"], resume_ms)
        rows = self._in_order(rows)
        if self._early:
            for row in rows:
                early = self._early.pop((int(row["key"]), int(row["start"])), None)
                if early is not None:
                    row["revision"] = early["revision"] + 1
        return self._lowered(rows)

    def flush(self, watermark_ms: int) -> Sequence[TableRows]:
        """The rows of all keys as if the log ended here, those that are new or have changed.

        Call it after `advance(watermark_ms)`.
        """
        states = self._states[: len(self._arrivals.keys)].copy()
        rows, _ = self._fold.fold(self._arrivals.buffer.peek(), NO_TIME, states)
        rows = self._in_order(rows)
        rows = rows[[self._is_news(row) for row in rows]] if len(rows) else rows
        if len(rows):
            seen_ms = max(self._arrivals.newest_ms, watermark_ms, self._flushed_ms)
            self._flushed_ms = first_tick_after(seen_ms, self._tick_ms)
            rows["tick"] = self._flushed_ms
        return self._lowered(rows)

    def size(self) -> StateSize:
        """How much it holds; any thread may ask."""
        states, arrivals = self._states, self._arrivals
        return StateSize(
            int(np.count_nonzero(self._fold.is_open(states))),
            len(arrivals.keys),
            len(arrivals.buffer),
            states.nbytes + arrivals.buffer.nbytes,
        )

    def snapshot(self) -> FoldSnapshot:
        """An immutable copy of what is live."""
        states = self._states[: len(self._arrivals.keys)]
        is_live = self._fold.is_live(states)
        is_live[self._arrivals.buffer.keys] = True
        is_live[[key for key, _ in self._early]] = True
        live = np.flatnonzero(is_live)
        codes = np.full(len(self._arrivals.keys), -1, np.int64)
        codes[live] = np.arange(len(live))
        early = np.array(list(self._early.values()), self._fold.row)
        early["key"] = codes[early["key"]]
        snapshot = FoldSnapshot(
            tuple(self._arrivals.keys.names[code] for code in live),
            states[live].tobytes(),
            self._arrivals.buffer.snapshot(codes),
            early.tobytes(),
            self._arrivals.newest_ms,
            self._flushed_ms,
        )
        if len(live) < len(self._arrivals.keys) // 2:
            self._restore(snapshot)  # forget the others here too
        return snapshot

    def _restore(self, snapshot: FoldSnapshot) -> None:
        self._arrivals = Arrivals(
            self._fold.columns,
            self._fold.sequence,
            Keys(snapshot.names),
            snapshot.events,
            snapshot.newest_ms,
        )
        self._states = np.frombuffer(snapshot.states, self._fold.state).copy()
        early = np.frombuffer(snapshot.early, self._fold.row)
        self._early = {(int(row["key"]), int(row["start"])): row for row in early}
        self._flushed_ms = snapshot.flushed_ms
        self._next_due_ms = NEVER  # the next call finds out

    def _lowered(self, rows: NDArray[Any]) -> Sequence[TableRows]:
        if not len(rows):
            return []
        ticks = np.ascontiguousarray(rows["tick"])
        return [TableRows("results", ticks, self._fold.lower(rows, self.names))]

    def _in_order(self, rows: NDArray[Any]) -> NDArray[Any]:
        ranks = self._arrivals.keys.ranks()[rows["key"]]
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
