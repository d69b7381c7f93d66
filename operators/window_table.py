"""The windows of one shard, between kernel and dataflow: names, growth, snapshots.

What it computes. Fed with partials and watermarks, a `WindowTable` is the state of
`operators.windows`: `advance(watermark)` returns the rows of all ticks up to it, `flush` ends
a finite run, `forming` previews. Keys are text outside and codes inside.

Contract. A table restored from a snapshot goes on as the original would. A snapshot is an
immutable copy that holds what is live and nothing else, so its size is bounded by the open
and the correctable windows and the pending partials, not by events.

Cost: about 300 bytes a cell; a key costs one cell per interval and correctable window.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from operators import windows
from operators.aggregate import Aggregate, cell_dtype, partial_dtype
from operators.cells import CLOSED, FREE, HORIZON, MEMORY, NEXT_DUE, PANE, SILENCE, USED
from operators.keys import Keys
from operators.metrics import StateSize
from operators.watermark import NO_TIME, first_tick_after
from schemas.stream import NEVER

__all__ = ["TableSnapshot", "WindowRule", "WindowTable"]

_DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class WindowRule:
    """Parameters of tumbling windows.

    Attributes:
        intervals_ms: window lengths, rising, multiples of `pane_ms`.
        pane_ms: length of pane and tick.
        horizon_ms: how long after its end a pane is corrected.
        fill_gaps: whether windows without events get a row.
        silence_ms: how long after its last event a key's gaps are filled.
        memory_ms: how long after its end a window still gives its close and its sequence
            to the next one; keys silent for longer are forgotten.
    """

    intervals_ms: tuple[int, ...]
    pane_ms: int = 1_000
    horizon_ms: int = 300_000
    fill_gaps: bool = False
    silence_ms: int = 3_600_000
    memory_ms: int = _DAY_MS


@dataclass(frozen=True, slots=True)
class TableSnapshot:
    """Everything a `WindowTable` is, compact: see its attributes."""

    names: tuple[str, ...]
    cells: bytes
    partials: bytes
    closed_ms: int
    next_due_ms: int


class WindowTable:
    """Tumbling windows of the keys of one shard.

    Args:
        aggregate: what a window holds.
        rule: the windows' parameters.
        snapshot: where to go on; None for a new table.
    """

    _cells: NDArray[Any]
    _pending: NDArray[Any]
    _pending_n: int
    _heads: NDArray[np.int32]
    _tails: NDArray[np.int32]
    _keys: Keys
    _changed: NDArray[np.bool_]
    _any_changed: bool

    def __init__(
        self, aggregate: Aggregate, rule: WindowRule, snapshot: TableSnapshot | None = None
    ) -> None:
        self._rule = rule
        self._intervals = np.array(rule.intervals_ms, np.int64)
        self._cell = cell_dtype(aggregate)
        self._partial = partial_dtype(aggregate)
        self._rows = np.empty(64, self._cell)
        self._clock = np.zeros(8, np.int64)
        self._clock[PANE] = rule.pane_ms
        self._clock[HORIZON] = rule.horizon_ms
        self._clock[SILENCE] = rule.silence_ms
        self._clock[MEMORY] = rule.memory_ms
        self._restore(snapshot or TableSnapshot((), b"", b"", NEVER, NO_TIME))

    @property
    def names(self) -> list[str]:
        """Keys by code, for the `key` field of rows."""
        return self._keys.names

    @property
    def closed_ms(self) -> int:
        """The last tick with something to do that was processed; `NEVER` at first."""
        return int(self._clock[CLOSED])

    @property
    def changed(self) -> bool:
        """Whether some key has changed since the last preview."""
        return self._any_changed

    def add(self, names: Sequence[str], partials: NDArray[Any]) -> None:
        """Take in partials whose `key` indexes `names`.

        A partial whose tick has passed (after a flush ran ahead of a partition's own
        watermark) takes effect at the next tick.
        """
        if not len(partials):
            return
        codes = self._keys.codes(names)
        self._make_room()
        n = self._pending_n
        more = n + len(partials)
        if more > len(self._pending):
            grown = np.zeros(max(2 * len(self._pending), more), self._partial)
            grown[:n] = self._pending[:n]
            self._pending = grown
        fresh = self._pending[n:more]
        fresh[:] = partials
        fresh["key"] = codes[partials["key"]]
        if self.closed_ms > NEVER:
            np.maximum(
                fresh["tick"],
                first_tick_after(self.closed_ms, self._rule.pane_ms),
                out=fresh["tick"],
            )
        self._pending_n = more
        self._changed[codes] = True
        self._any_changed = True

    def advance(self, watermark_ms: int) -> NDArray[Any]:
        """Process all ticks up to `watermark_ms`; the emitted rows, (r,) cells.

        A row's `tick` is when it was emitted and `emitted` its revision.
        """
        return self._advance(watermark_ms, watermark_ms)

    def _advance(self, limit_ms: int, watermark_ms: int) -> NDArray[Any]:
        pending = self._pending[: self._pending_n]
        ticks = pending["tick"]
        due = np.flatnonzero(ticks <= limit_ms)
        if not len(due) and self._clock[NEXT_DUE] > limit_ms:
            return self._rows[:0]
        order = due[np.argsort(ticks[due], kind="stable")]
        self._cells, self._rows, n = windows.advance(
            pending,
            order,
            limit_ms,
            watermark_ms,
            self._rule.fill_gaps,
            self._cells,
            self._heads,
            self._tails,
            self._clock,
            self._intervals,
            self._keys.ranks(),
            self._rows,
        )
        if len(due):
            kept = pending[ticks > limit_ms]
            self._pending[: len(kept)] = kept
            self._pending_n = len(kept)
        return self._rows[:n].copy()  # the buffer is written again

    def flush(self, watermark_ms: int) -> NDArray[Any]:
        """End of a finite run: apply all that is pending, then emit every open window.

        `watermark_ms` is the least watermark of the source partitions, which a later run
        goes on from; the windows they can still touch are kept.
        """
        rows = np.empty(0, self._cell)
        if self._pending_n:
            last = int(self._pending["tick"][: self._pending_n].max())
            rows = self._advance(last, watermark_ms)
        self._rows, n = windows.flush(
            self._cells,
            self._heads,
            self._clock,
            self._intervals,
            self._keys.ranks(),
            self._rows,
        )
        return np.concatenate((rows, self._rows[:n]))

    def forming(self) -> NDArray[Any]:
        """The open windows of the keys that changed since the last call, (r,) cells."""
        self._rows, n = windows.forming(
            self._pending[: self._pending_n],
            self._changed,
            self._cells,
            self._heads,
            self._clock,
            self._intervals,
            self._keys.ranks(),
            self._rows,
        )
        self._changed[:] = False
        self._any_changed = False
        return self._rows[:n].copy()

    def size(self) -> StateSize:
        """How much it holds; any thread may ask."""
        cells = self._cells[: self._clock[USED]]
        arrays = (self._cells, self._rows, self._pending, self._heads, self._tails, self._changed)
        return StateSize(
            int(np.count_nonzero(cells["is_open"])),
            len(self._keys),
            self._pending_n,
            sum(array.nbytes for array in arrays),
        )

    def snapshot(self) -> TableSnapshot:
        """An immutable copy of what is live."""
        cells = self._cells[: self._clock[USED]]
        cells = cells[cells["used"] == 1]
        cells = cells[np.lexsort((cells["start"], cells["interval"], cells["key"]))]
        pending = self._pending[: self._pending_n].copy()
        gone = self.closed_ms - self._rule.memory_ms - self._rule.horizon_ms
        newest = np.full(len(self._keys), NEVER)
        np.maximum.at(newest, cells["key"], cells["end"])
        newest[pending["key"]] = NO_TIME
        live = np.flatnonzero(newest >= gone - self._rule.pane_ms - self._intervals[-1])
        codes = np.full(len(self._keys), -1, np.int32)
        codes[live] = np.arange(len(live))
        cells = cells[codes[cells["key"]] >= 0]
        cells["key"] = codes[cells["key"]]
        pending["key"] = codes[pending["key"]]
        snapshot = TableSnapshot(
            tuple(self.names[i] for i in live),
            cells.tobytes(),
            pending.tobytes(),
            self.closed_ms,
            int(self._clock[NEXT_DUE]),
        )
        if len(live) < len(self._keys) // 2:
            self._restore(snapshot)  # forget the silent keys here too
        return snapshot

    def _restore(self, snapshot: TableSnapshot) -> None:
        cells = np.frombuffer(snapshot.cells, self._cell)
        used = len(cells)
        self._cells = np.zeros(max(64, 2 * used), self._cell)
        self._cells[:used] = cells
        self._clock[USED] = used
        self._clock[FREE] = -1
        self._clock[CLOSED] = snapshot.closed_ms
        self._clock[NEXT_DUE] = snapshot.next_due_ms
        self._keys = Keys(snapshot.names)
        shape = (len(self._keys), len(self._intervals))
        self._heads = np.full(shape, -1, np.int32)
        self._tails = np.full(shape, -1, np.int32)
        key, interval = cells["key"], cells["interval"]
        index = np.arange(used)
        same = np.zeros(used + 1, bool)  # same[i]: cells i - 1 and i are of one list
        if used:
            same[1:-1] = (key[1:] == key[:-1]) & (interval[1:] == interval[:-1])
            self._cells["older"][:used] = np.where(same[:-1], index - 1, -1)
            self._cells["newer"][:used] = np.where(same[1:], index + 1, -1)
            first, last = ~same[:-1], ~same[1:]
            self._tails[key[first], interval[first]] = index[first]
            self._heads[key[last], interval[last]] = index[last]
        pending = np.frombuffer(snapshot.partials, self._partial)
        self._pending_n = len(pending)
        self._pending = np.zeros(max(64, 2 * len(pending)), self._partial)
        self._pending[: len(pending)] = pending
        self._changed = np.ones(len(self._keys), bool)
        self._any_changed = len(self._keys) > 0

    def _make_room(self) -> None:
        """Room for every key."""
        if len(self._keys) <= len(self._heads):
            return
        more = max(16, 2 * len(self._keys) - len(self._heads))
        empty = np.full((more, len(self._intervals)), -1, np.int32)
        self._heads = np.concatenate((self._heads, empty))
        self._tails = np.concatenate((self._tails, empty))
        self._changed = np.concatenate((self._changed, np.zeros(more, bool)))
