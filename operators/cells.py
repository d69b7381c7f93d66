"""The cells of a shard's window table: linked lists in one record array.

A cell is a window of one key. The cells of a (key, interval) are a list linked by start,
newest at `heads`, oldest at `tails`; freed cells are chained for use again. What a cell
holds is an aggregate (`operators.aggregate`); here is only how cells are found, corrected,
emitted and freed. All functions are compiled and called by the kernels of
`operators.windows`; indices are int32, -1 for none.
"""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from operators.aggregate import carry, link

__all__ = [
    "CLOSED",
    "FREE",
    "HORIZON",
    "MEMORY",
    "NEXT_DUE",
    "PANE",
    "SILENCE",
    "USED",
    "emit",
    "evict_settled",
    "follow",
    "insert_cell",
    "previous_of",
    "room",
    "room_for_touched",
    "sort_rows",
    "touch",
]

# Indices into the int64 array `clock`, the scalars that kernels change or need.
CLOSED, NEXT_DUE, USED, FREE, PANE, HORIZON, SILENCE, MEMORY = range(8)


@njit(cache=True)
def _take(cells: NDArray[Any], clock: NDArray[np.int64]) -> Any:  # noqa: ANN401  # int or int64
    """Index of an unused, zeroed cell; the caller has made sure that there is one."""
    if clock[FREE] >= 0:
        c = clock[FREE]
        clock[FREE] = cells[c]["older"]
    else:
        c = clock[USED]
        clock[USED] += 1
    cells[c] = np.zeros(1, cells.dtype)[0]
    cells[c]["used"] = 1
    return c


@njit(cache=True)
def insert_cell(
    cells: NDArray[Any],
    heads: NDArray[np.int32],
    tails: NDArray[np.int32],
    clock: NDArray[np.int64],
    key: int,
    k: int,
    start: int,
    length: int,
) -> Any:  # noqa: ANN401  # int or int32
    """The cell of a window, made and linked when there is none yet."""
    newer = -1
    older = heads[key, k]
    while older >= 0 and cells[older]["start"] > start:
        newer = older
        older = cells[older]["older"]
    if older >= 0 and cells[older]["start"] == start:
        return older
    c = _take(cells, clock)
    cells[c]["key"] = key
    cells[c]["interval"] = k
    cells[c]["start"] = start
    cells[c]["end"] = start + length
    cells[c]["newer"] = newer
    cells[c]["older"] = older
    if newer >= 0:
        cells[newer]["older"] = c
    else:
        heads[key, k] = c
    if older >= 0:
        cells[older]["newer"] = c
    else:
        tails[key, k] = c
    return c


@njit(cache=True)
def previous_of(cells: NDArray[Any], c: int, memory: int) -> Any:  # noqa: ANN401  # int or int32
    """The predecessor whose close and sequence count, or the cell itself."""
    older = cells[c]["older"]
    if older >= 0 and cells[c]["start"] - cells[older]["end"] <= memory:
        return older
    return c


@njit(cache=True)
def evict_settled(
    cells: NDArray[Any],
    tails: NDArray[np.int32],
    clock: NDArray[np.int64],
    key: int,
    k: int,
    settled: int,
) -> None:
    """Free the cells that nothing can touch any more, but for the newest of them."""
    c = tails[key, k]
    while c >= 0:
        newer = cells[c]["newer"]
        if newer < 0 or cells[newer]["end"] >= settled or cells[newer]["is_open"]:
            break
        cells[newer]["older"] = -1
        tails[key, k] = newer
        cells[c]["used"] = 0
        cells[c]["older"] = clock[FREE]
        clock[FREE] = c
        c = newer


@njit(cache=True)
def touch(cells: NDArray[Any], touched: NDArray[np.int32], n: int, c: int) -> int:
    """Note a closed cell that has changed, once."""
    if not cells[c]["is_open"] and not cells[c]["dirty"]:
        touched[n] = c
        n += 1
    cells[c]["dirty"] = 1
    return n


@njit(cache=True)
def room_for_touched(
    touched: NDArray[np.int32], n: int, clock: NDArray[np.int64]
) -> NDArray[np.int32]:
    """Room for every cell there is: each is noted at most once a tick."""
    if clock[USED] <= len(touched):
        return touched
    grown = np.empty(2 * clock[USED], np.int32)
    grown[:n] = touched[:n]
    return grown


@njit(cache=True)
def follow(cells: NDArray[Any], touched: NDArray[np.int32], n: int, c: int, memory: int) -> int:
    """Let what stands after a corrected cell follow it: gaps, then the next trade's link."""
    before = c
    after = cells[c]["newer"]
    while after >= 0 and cells[after]["count"] == 0 and not cells[after]["is_open"]:
        cells[after]["since"] = cells[before]["since"]
        if carry(cells[after], cells[before]):
            n = touch(cells, touched, n, after)
        before = after
        after = cells[after]["newer"]
    if (
        after >= 0
        and cells[after]["emitted"] > 0
        and link(cells[after], cells[previous_of(cells, after, memory)])
    ):
        n = touch(cells, touched, n, after)
    return n


@njit(cache=True)
def emit(cells: NDArray[Any], c: int, tick: int, memory: int, rows: NDArray[Any], n: int) -> int:
    """Add the row of a cell to the output; the new number of rows."""
    link(cells[c], cells[previous_of(cells, c, memory)])
    cells[c]["tick"] = tick
    rows[n] = cells[c]
    cells[c]["emitted"] += 1
    cells[c]["dirty"] = 0
    return n + 1


@njit(cache=True)
def sort_rows(rows: NDArray[Any], first: int, last: int, ranks: NDArray[np.int32]) -> None:
    """Order the rows of one tick by (interval, key, start)."""
    n = last - first
    if n < 2:  # noqa: PLR2004  # nothing to order
        return
    order = np.empty(n, np.int64)
    for i in range(n):
        order[i] = first + i
    gap = 1
    while gap < n:
        gap = gap * 3 + 1
    while gap > 0:  # Shell's sort: in place, no comparison function to pass
        for i in range(gap, n):
            moving = order[i]
            at = i
            while at >= gap:
                other = order[at - gap]
                a = rows[other]
                b = rows[moving]
                if a["interval"] != b["interval"]:
                    wrong = a["interval"] > b["interval"]
                elif a["key"] != b["key"]:
                    wrong = ranks[a["key"]] > ranks[b["key"]]
                else:
                    wrong = a["start"] > b["start"]
                if not wrong:
                    break
                order[at] = other
                at -= gap
            order[at] = moving
        gap //= 3
    sorted_rows = np.empty(n, rows.dtype)
    for i in range(n):
        sorted_rows[i] = rows[order[i]]
    rows[first:last] = sorted_rows


@njit(cache=True)
def room(rows: NDArray[Any], n: int, more: int) -> NDArray[Any]:
    """An array with the first n rows and room for more of them."""
    if n + more <= len(rows):
        return rows
    grown = np.empty(max(2 * len(rows), n + more), rows.dtype)
    grown[:n] = rows[:n]
    return grown
