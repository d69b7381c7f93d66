"""Rolling windows of one shard, tick by tick: merge partials, evict, emit, expire.

What it computes. For ticks T in rising order up to a limit, the partials with effective tick
<= T are taken into their panes, if these are still in [T - window, T). Then a row is emitted
for each key whose window changed; when T is a quiet tick (every aligned minute), for each
key whose window is not empty; and, once, for each key whose window has become empty by T.
Rows of one tick are in the order of the keys' names. Nothing emitted is ever corrected.

Contract. The rows are a function of the partials, not of how calls are cut. Ticks at which
nothing can happen are skipped, so a silence costs its quiet rows and no more.

Cost: constant per (key, tick), whatever the fullness of the window. A quiet tick, and one at
which some window may become empty, looks at every key.
"""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from operators.cells import room
from operators.rolling_panes import FREE, HIGH, LOW, USED, evict, put
from operators.watermark import NO_TIME

__all__ = [
    "DONE",
    "LIVE",
    "NEXT_EMPTY",
    "PANE_LENGTH",
    "QUIET",
    "ROW",
    "SILENT",
    "TICK",
    "WINDOW",
    "advance",
]

ROW = np.dtype(
    [
        ("key", "i4"),
        ("tick", "i8"),
        ("open", "i8"),
        ("high", "i8"),
        ("low", "i8"),
        ("last", "i8"),
        ("high_time", "i8"),
        ("low_time", "i8"),
        ("first_seq", "i8"),
        ("last_seq", "i8"),
        ("volume_low", "u8"),
        ("volume_high", "u8"),
        ("quote_low", "u8"),
        ("quote_high", "u8"),
        ("count", "i8"),
    ],
    align=True,
)
"""A row: figures of one key's window at one tick; `count` 0 is an empty window."""

# Indices into the int64 array `clock`: the last tick processed, the tick up to which nothing
# is emitted, a bound below which no window becomes empty, keys with a window, and the rule.
DONE, SILENT, NEXT_EMPTY, LIVE, WINDOW, PANE_LENGTH, TICK, QUIET = range(8)


@njit(cache=True)
def _tick_at(time: int, tick_ms: int) -> int:
    """The first tick at or after a time."""
    return -(-time // tick_ms) * tick_ms


@njit(cache=True)
def _emptied_at(start: int, clock: NDArray[np.int64]) -> int:
    """The first tick at which a pane is no longer in the window."""
    return _tick_at(start + clock[PANE_LENGTH] + clock[WINDOW], clock[TICK])


@njit(cache=True)
def _emit(
    panes: NDArray[Any],
    key: Any,  # noqa: ANN401  # a record
    code: int,
    tick: int,
    rows: NDArray[Any],
    n: int,
) -> int:
    """Add the row of a key to the output; the new number of rows."""
    row = rows[n]
    row["key"] = code
    row["tick"] = tick
    row["count"] = key["count"]
    row["volume_low"] = key["volume_low"]
    row["volume_high"] = key["volume_high"]
    row["quote_low"] = key["quote_low"]
    row["quote_high"] = key["quote_high"]
    if key["oldest"] < 0:
        row["open"] = 0
        row["high"] = 0
        row["low"] = 0
        row["last"] = 0
        row["high_time"] = 0
        row["low_time"] = 0
        row["first_seq"] = 0
        row["last_seq"] = 0
        return n + 1
    oldest = panes[key["oldest"]]
    row["open"] = oldest["open"]
    row["first_seq"] = oldest["open_seq"]
    newest = panes[key["newest"]]
    row["last"] = newest["close"]
    row["last_seq"] = newest["close_seq"]
    high = panes[key["front"][HIGH]]
    row["high"] = high["best"][HIGH]
    row["high_time"] = high["start"] + high["best_at"][HIGH]
    low = panes[key["front"][LOW]]
    row["low"] = -low["best"][LOW]
    row["low_time"] = low["start"] + low["best_at"][LOW]
    return n + 1


@njit(cache=True)
def _visit_all(
    panes: NDArray[Any],
    arena: NDArray[np.int64],
    keys: NDArray[Any],
    clock: NDArray[np.int64],
    by_rank: NDArray[np.int32],
    tick: int,
    rows: NDArray[Any],
    n: int,
) -> tuple[NDArray[Any], int]:
    """Evict everywhere, emit what is due, forget the empty, find the next time to look."""
    loud = tick > clock[SILENT]
    quiet = tick % clock[QUIET] == 0
    next_empty = NO_TIME
    for code in by_rank:
        key = keys[code]
        if key["newest"] < 0:
            continue
        evict(panes, arena, key, tick - clock[WINDOW])
        if loud and (quiet or key["newest"] < 0 or key["touched"] == tick):
            rows = room(rows, n, 1)
            n = _emit(panes, key, code, tick, rows, n)
        if key["newest"] < 0:
            clock[LIVE] -= 1
        else:
            next_empty = min(next_empty, _emptied_at(panes[key["newest"]]["start"], clock))
    clock[NEXT_EMPTY] = next_empty
    return rows, n


@njit(cache=True)
def _next_tick(clock: NDArray[np.int64]) -> Any:  # noqa: ANN401  # int or int64
    """The next tick at which something happens by time alone."""
    if clock[LIVE] == 0:
        return NO_TIME
    shown = max(clock[DONE], clock[SILENT])  # what is silent needs no quiet tick
    next_quiet = shown // clock[QUIET] * clock[QUIET] + clock[QUIET]
    return min(clock[NEXT_EMPTY], next_quiet)


@njit(cache=True)
def advance(
    partials: NDArray[Any],
    order: NDArray[np.int64],
    limit: int,
    most: int,
    replaces: bool,  # noqa: FBT001  # compiled functions take no keywords
    panes: NDArray[Any],
    arena: NDArray[np.int64],
    keys: NDArray[Any],
    clock: NDArray[np.int64],
    ranks: NDArray[np.int32],
    by_rank: NDArray[np.int32],
    rows: NDArray[Any],
) -> tuple[NDArray[Any], NDArray[Any], int]:
    """Process every tick up to `limit`, or fewer once there are `most` rows.

    Args:
        partials: (p,) candle partials; those in `order` have ticks after `clock[DONE]`.
        order: (m,) their indices by rising tick.
        limit: last tick to process, ms.
        most: after so many rows no further tick is begun.
        replaces: see `operators.rolling_panes.put`.
        panes: (n,) `PANE` records.
        arena: (2,) int64 scalars of the panes.
        keys: (k,) `KEY` records.
        clock: (8,) int64 scalars.
        ranks: (k,) int32, position of each key in the order of names.
        by_rank: (k,) int32, the inverse.
        rows: any array of `ROW`, room for output.

    Returns:
        The panes (perhaps grown), the rows (perhaps grown) and how many of them are set.
    """
    n = 0
    i = 0
    touched = np.empty(len(order), np.int32)
    scratch = np.zeros(1, partials.dtype)
    while n < most:
        tick = _next_tick(clock)
        if i < len(order):
            tick = min(tick, _tick_at(partials[order[i]]["tick"], clock[TICK]))
        if tick > limit or tick == NO_TIME:
            break
        n_touched = 0
        while i < len(order) and partials[order[i]]["tick"] <= tick:
            partial = partials[order[i]]
            i += 1
            if partial["count"] == 0 or partial["pane"] < tick - clock[WINDOW]:
                continue
            key = keys[partial["key"]]
            if arena[FREE] < 0:
                panes = room(panes, arena[USED], 1)
            was_empty = key["newest"] < 0
            if put(panes, arena, key, partial, replaces, scratch) and key["touched"] != tick:
                key["touched"] = tick
                touched[n_touched] = ranks[partial["key"]]
                n_touched += 1
            if was_empty:
                clock[LIVE] += 1
                emptied = _emptied_at(panes[key["newest"]]["start"], clock)
                clock[NEXT_EMPTY] = min(clock[NEXT_EMPTY], emptied)
        clock[DONE] = tick
        if tick % clock[QUIET] == 0 or clock[NEXT_EMPTY] <= tick:
            rows, n = _visit_all(panes, arena, keys, clock, by_rank, tick, rows, n)
        elif tick > clock[SILENT]:
            rows = room(rows, n, n_touched)
            changed = touched[:n_touched]
            changed.sort()
            for rank in changed:
                code = by_rank[rank]
                evict(panes, arena, keys[code], tick - clock[WINDOW])
                n = _emit(panes, keys[code], code, tick, rows, n)
    return panes, rows, n
