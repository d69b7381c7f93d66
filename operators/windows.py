"""Tumbling windows of one shard: merge partials, close by watermark, correct, fill gaps.

What it computes. For ticks T in rising order up to a limit: all partials with effective
tick <= T are merged into the windows that hold their pane, of every interval; then a row is
emitted for each window that ends at T and for each closed window that changed. Rows of one
tick are sorted by (interval, key, start). A window is emitted with revision 0 first, and
with one more each time after.

Contract. The rows are a function of the partials and the tick sequence, not of how calls
are cut: `advance` to 5 and then to 9 emits what `advance` to 9 emits.

Cells (`operators.cells`) can be corrected until their end lies more than the horizon and
one pane behind both the tick and the watermark; then they are freed, but for the newest
such cell of a list, which later windows take their previous close and sequence from.

Cost: a partial costs one list step per interval, a tick one look at each key's newest cell
in each interval when some window is due.
"""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from operators.aggregate import carry, link, merge
from operators.cells import (
    CLOSED,
    HORIZON,
    MEMORY,
    NEXT_DUE,
    PANE,
    SILENCE,
    USED,
    emit,
    evict_settled,
    follow,
    insert_cell,
    previous_of,
    room,
    room_for_touched,
    sort_rows,
    touch,
)
from operators.watermark import NO_TIME

__all__ = ["advance", "flush", "forming"]


@njit(cache=True)
def _close_due(
    cells: NDArray[Any],
    heads: NDArray[np.int32],
    tails: NDArray[np.int32],
    clock: NDArray[np.int64],
    intervals: NDArray[np.int64],
    tick: int,
    settled: int,
    fill: bool,  # noqa: FBT001  # compiled functions take no keywords
    rows: NDArray[Any],
    n: int,
) -> tuple[NDArray[Any], NDArray[Any], int]:
    """Close the windows that end by `tick`, fill gaps, and find the next time to look."""
    next_due = NO_TIME
    for key in range(len(heads)):
        for k in range(len(intervals)):
            c = heads[key, k]
            if c < 0:
                continue
            rows = room(rows, n, 1)
            if cells[c]["is_open"] and cells[c]["end"] <= tick:
                cells[c]["is_open"] = 0
                if cells[c]["dirty"] or cells[c]["emitted"] == 0:
                    n = emit(cells, c, tick, clock[MEMORY], rows, n)
            while fill and not cells[c]["is_open"]:
                end = cells[c]["end"] + intervals[k]
                if end - cells[c]["since"] > clock[SILENCE]:
                    break
                if end > tick:
                    next_due = min(next_due, end)
                    break
                cells = room(cells, clock[USED], 1)
                gap = insert_cell(
                    cells, heads, tails, clock, key, k, end - intervals[k], intervals[k]
                )
                cells[gap]["since"] = cells[c]["since"]
                carry(cells[gap], cells[c])
                rows = room(rows, n, 1)
                n = emit(cells, gap, tick, clock[MEMORY], rows, n)
                c = gap
            if cells[c]["is_open"]:
                next_due = min(next_due, cells[c]["end"])
            evict_settled(cells, tails, clock, key, k, settled)
    clock[NEXT_DUE] = next_due
    return cells, rows, n


@njit(cache=True)
def advance(
    partials: NDArray[Any],
    order: NDArray[np.int64],
    limit: int,
    watermark: int,
    fill: bool,  # noqa: FBT001  # compiled functions take no keywords
    cells: NDArray[Any],
    heads: NDArray[np.int32],
    tails: NDArray[np.int32],
    clock: NDArray[np.int64],
    intervals: NDArray[np.int64],
    ranks: NDArray[np.int32],
    rows: NDArray[Any],
) -> tuple[NDArray[Any], NDArray[Any], int]:
    """Process every tick up to `limit`.

    Args:
        partials: (p,) partials; those listed in `order` have ticks after `clock[CLOSED]`.
        order: (m,) their indices by rising tick, all ticks <= limit.
        limit: last tick to process, ms.
        watermark: least watermark of the source partitions; cells that they may still
            correct are kept, also when a flush has run ahead of it.
        fill: whether silent windows get a gap row.
        cells: (c,) cell records.
        heads: (keys, intervals) int32, newest cell or -1.
        tails: (keys, intervals) int32, oldest cell or -1.
        clock: (8,) int64 scalars.
        intervals: (intervals,) window lengths in ms, rising, multiples of the pane.
        ranks: (keys,) int32, position of each key in sorted order.
        rows: any array of the cells' dtype, room for output.

    Returns:
        The cells (perhaps grown), the rows (perhaps grown) and how many of them are set.
    """
    n = 0
    i = 0
    touched = np.empty(0, np.int32)
    while True:
        tick = clock[NEXT_DUE]
        if i < len(order):
            tick = min(tick, partials[order[i]]["tick"])
        if tick > limit:
            break
        tick = max(tick, clock[CLOSED])
        settled = min(tick, watermark) - clock[HORIZON] - clock[PANE]
        first = n
        n_touched = 0
        while i < len(order) and partials[order[i]]["tick"] <= tick:
            partial = partials[order[i]]
            cells = room(cells, clock[USED], len(intervals))
            for k in range(len(intervals)):
                length = intervals[k]
                start = partial["pane"] // length * length
                c = insert_cell(cells, heads, tails, clock, partial["key"], k, start, length)
                merge(cells[c], partial)
                cells[c]["since"] = cells[c]["end"]
                if cells[c]["end"] < tick:
                    touched = room_for_touched(touched, n_touched, clock)
                    n_touched = touch(cells, touched, n_touched, c)
                else:
                    cells[c]["is_open"] = 1
                    cells[c]["dirty"] = 1
                    clock[NEXT_DUE] = min(clock[NEXT_DUE], cells[c]["end"])
            i += 1
        corrected = n_touched
        if corrected > 0:  # oldest first, so that each finds its predecessors settled
            starts = np.empty(corrected, np.int64)
            for t in range(corrected):
                starts[t] = cells[touched[t]]["start"]
            touched[:corrected] = touched[:corrected][np.argsort(starts)]
        for t in range(corrected):
            n_touched = follow(cells, touched, n_touched, touched[t], clock[MEMORY])
        rows = room(rows, n, n_touched)
        for t in range(n_touched):
            n = emit(cells, touched[t], tick, clock[MEMORY], rows, n)
        if clock[NEXT_DUE] <= tick or (fill and corrected > 0):
            cells, rows, n = _close_due(
                cells, heads, tails, clock, intervals, tick, settled, fill, rows, n
            )
        clock[CLOSED] = tick
        sort_rows(rows, first, n, ranks)
    return cells, rows, n


@njit(cache=True)
def flush(
    cells: NDArray[Any],
    heads: NDArray[np.int32],
    clock: NDArray[np.int64],
    intervals: NDArray[np.int64],
    ranks: NDArray[np.int32],
    rows: NDArray[Any],
) -> tuple[NDArray[Any], int]:
    """Emit every window that is still open, at the next tick.

    Call it when all partials are applied. A window stays open for what a later run on a
    longer log brings; then it is emitted again, as a revision, at its true end.
    """
    tick = clock[CLOSED] + clock[PANE]
    n = 0
    next_due = NO_TIME
    for key in range(len(heads)):
        for k in range(len(intervals)):
            c = heads[key, k]
            if c < 0 or not cells[c]["is_open"]:
                continue
            if cells[c]["dirty"]:
                rows = room(rows, n, 1)
                n = emit(cells, c, tick, clock[MEMORY], rows, n)
            if cells[c]["end"] <= tick:
                cells[c]["is_open"] = 0
            else:
                next_due = min(next_due, cells[c]["end"])
    if n > 0:
        clock[CLOSED] = tick
        clock[NEXT_DUE] = next_due
    sort_rows(rows, 0, n, ranks)
    return rows, n


@njit(cache=True)
def forming(
    partials: NDArray[Any],
    changed: NDArray[np.bool_],
    cells: NDArray[Any],
    heads: NDArray[np.int32],
    clock: NDArray[np.int64],
    intervals: NDArray[np.int64],
    ranks: NDArray[np.int32],
    rows: NDArray[Any],
) -> tuple[NDArray[Any], int]:
    """The windows still open of the changed keys, pending partials included.

    Nothing of the table changes. Args as in `advance`; `changed` is (keys,) bool. Rows are
    in (interval, key, start) order.
    """
    n = 0
    newest = np.full((len(heads), len(intervals)), -1, np.int32)
    for key in range(len(heads)):
        if changed[key]:
            for k in range(len(intervals)):
                c = heads[key, k]
                if c >= 0 and cells[c]["is_open"]:
                    rows = room(rows, n, 1)
                    rows[n] = cells[c]
                    newest[key, k] = n
                    n += 1
    for i in range(len(partials)):
        partial = partials[i]
        key = partial["key"]
        if not changed[key]:
            continue
        for k in range(len(intervals)):
            start = partial["pane"] // intervals[k] * intervals[k]
            if start + intervals[k] <= clock[CLOSED]:
                continue
            r = newest[key, k]
            while r >= 0 and rows[r]["start"] != start:
                r = rows[r]["newer"] if rows[r]["used"] == 2 else -1  # noqa: PLR2004
            if r < 0:
                rows = room(rows, n, 1)
                r = n
                rows[r] = np.zeros(1, rows.dtype)[0]
                rows[r]["key"] = key
                rows[r]["interval"] = k
                rows[r]["start"] = start
                rows[r]["end"] = start + intervals[k]
                rows[r]["newer"] = newest[key, k]
                rows[r]["used"] = 2
                newest[key, k] = r
                n += 1
            merge(rows[r], partial)
    for r in range(n):
        if rows[r]["used"] == 1:
            c = heads[rows[r]["key"], rows[r]["interval"]]
            link(rows[r], cells[previous_of(cells, c, clock[MEMORY])])
        else:
            link(rows[r], rows[r])
        rows[r]["is_open"] = 1
    sort_rows(rows, 0, n, ranks)
    return rows, n
