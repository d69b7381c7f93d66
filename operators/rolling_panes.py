"""The panes of a shard's rolling windows: one arena of compact records, linked key by key.

A pane is a slice of event time of one key; only panes with trades exist. The panes of a key
are a list linked by start (`older`, `newer`), and its highs and its lows are two monotonic
deques threaded through the same records (`best_older`, `best_newer`): from the front, the
oldest, each high is at least as high as the next, so the front is the window's high and,
among equals, the earliest. Lows are kept negated, so that both deques are the same code.
Sums of a key are added to when a pane changes and subtracted from when it leaves.

All functions are compiled and called by `operators.rolling_ticks`; indices are int32, -1 for
none. The state is a function of the panes' contents, not of the order of the calls.

Cost: 144 bytes a pane, nothing else grows with the window. A pane enters at the new end and
leaves at the old end in constant time; one in between costs a step for each newer pane.
"""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from operators.aggregate import merge
from schemas.fixed_point import add_wide

__all__ = ["FREE", "HIGH", "KEY", "LOW", "PANE", "USED", "evict", "put"]

PANE = np.dtype(
    [
        ("start", "i8"),
        ("open", "i8"),
        ("close", "i8"),
        ("best", "i8", (2,)),  # high, and low negated
        ("open_seq", "i8"),
        ("close_seq", "i8"),
        ("open_place", "i8"),
        ("close_place", "i8"),
        ("volume_low", "u8"),
        ("quote_low", "u8"),
        ("quote_high", "u8"),
        ("volume_high", "u4"),  # 2**32 quantities, and as many trades, fit
        ("count", "u4"),
        ("open_at", "i4"),  # times are ms after the pane's start
        ("close_at", "i4"),
        ("best_at", "i4", (2,)),
        ("older", "i4"),
        ("newer", "i4"),
        ("best_older", "i4", (2,)),
        ("best_newer", "i4", (2,)),
    ],
    align=True,
)
"""A pane, 144 bytes."""

KEY = np.dtype(
    [
        ("oldest", "i4"),
        ("newest", "i4"),
        ("front", "i4", (2,)),  # of the deques of highs and lows
        ("back", "i4", (2,)),
        ("count", "i8"),
        ("volume_low", "u8"),
        ("volume_high", "u8"),
        ("quote_low", "u8"),
        ("quote_high", "u8"),
        ("touched", "i8"),  # the last tick that changed the window
    ],
    align=True,
)
"""A key: its list, its deques and the sums of its panes."""

HIGH, LOW = 0, 1

# Indices into the int64 array `arena`: panes ever used, and the first of those freed.
USED, FREE = range(2)

_NOT_IN_DEQUE = -2
_ONE = np.uint64(1)
_ZERO = np.uint64(0)


@njit(cache=True)
def _take(panes: NDArray[Any], arena: NDArray[np.int64]) -> Any:  # noqa: ANN401  # int or int64
    """Index of an unused pane; the caller has made sure that there is one."""
    p = arena[FREE]
    if p >= 0:
        arena[FREE] = panes[p]["older"]
    else:
        p = arena[USED]
        arena[USED] += 1
    panes[p]["count"] = 0
    for side in range(2):
        panes[p]["best_newer"][side] = _NOT_IN_DEQUE
    return p


@njit(cache=True)
def _unpack(pane: Any, partial: Any) -> None:  # noqa: ANN401  # records
    """A pane as a partial, as far as it goes."""
    start = pane["start"]
    partial["open_time"] = start + pane["open_at"]
    partial["open_seq"] = pane["open_seq"]
    partial["open_place"] = pane["open_place"]
    partial["open"] = pane["open"]
    partial["close_time"] = start + pane["close_at"]
    partial["close_seq"] = pane["close_seq"]
    partial["close_place"] = pane["close_place"]
    partial["close"] = pane["close"]
    partial["high"] = pane["best"][HIGH]
    partial["high_time"] = start + pane["best_at"][HIGH]
    partial["low"] = -pane["best"][LOW]
    partial["low_time"] = start + pane["best_at"][LOW]
    partial["volume_low"] = pane["volume_low"]
    partial["volume_high"] = np.uint64(pane["volume_high"])
    partial["quote_low"] = pane["quote_low"]
    partial["quote_high"] = pane["quote_high"]
    partial["count"] = np.int64(pane["count"])


@njit(cache=True)
def _pack(partial: Any, pane: Any) -> None:  # noqa: ANN401  # records
    """What a pane keeps of a partial."""
    start = pane["start"]
    pane["open_at"] = partial["open_time"] - start
    pane["open_seq"] = partial["open_seq"]
    pane["open_place"] = partial["open_place"]
    pane["open"] = partial["open"]
    pane["close_at"] = partial["close_time"] - start
    pane["close_seq"] = partial["close_seq"]
    pane["close_place"] = partial["close_place"]
    pane["close"] = partial["close"]
    pane["best"][HIGH] = partial["high"]
    pane["best_at"][HIGH] = partial["high_time"] - start
    pane["best"][LOW] = -partial["low"]
    pane["best_at"][LOW] = partial["low_time"] - start
    pane["volume_low"] = partial["volume_low"]
    pane["volume_high"] = partial["volume_high"]
    pane["quote_low"] = partial["quote_low"]
    pane["quote_high"] = partial["quote_high"]
    pane["count"] = partial["count"]


@njit(cache=True)
def _add(key: Any, pane: Any) -> None:  # noqa: ANN401  # records
    key["count"] += np.int64(pane["count"])
    key["volume_low"], key["volume_high"] = add_wide(
        key["volume_low"], key["volume_high"], pane["volume_low"], np.uint64(pane["volume_high"])
    )
    key["quote_low"], key["quote_high"] = add_wide(
        key["quote_low"], key["quote_high"], pane["quote_low"], pane["quote_high"]
    )


@njit(cache=True)
def _subtract(key: Any, pane: Any) -> None:  # noqa: ANN401  # records
    key["count"] -= np.int64(pane["count"])
    borrow = _ONE if key["volume_low"] < pane["volume_low"] else _ZERO
    key["volume_low"] = key["volume_low"] - pane["volume_low"]
    key["volume_high"] = key["volume_high"] - np.uint64(pane["volume_high"]) - borrow
    borrow = _ONE if key["quote_low"] < pane["quote_low"] else _ZERO
    key["quote_low"] = key["quote_low"] - pane["quote_low"]
    key["quote_high"] = key["quote_high"] - pane["quote_high"] - borrow


@njit(cache=True)
def _insert(panes: NDArray[Any], key: Any, p: int, older: int, newer: int) -> None:  # noqa: ANN401
    panes[p]["older"] = older
    panes[p]["newer"] = newer
    if older >= 0:
        panes[older]["newer"] = p
    else:
        key["oldest"] = p
    if newer >= 0:
        panes[newer]["older"] = p
    else:
        key["newest"] = p


@njit(cache=True)
def _compete(panes: NDArray[Any], key: Any, p: int, side: int) -> None:  # noqa: ANN401
    """Let a pane whose best is new, or has risen, take its place in a deque."""
    best = panes[p]["best"][side]
    if panes[p]["best_newer"][side] == _NOT_IN_DEQUE:
        newer = -1
        older = key["back"][side]
        while older >= 0 and panes[older]["start"] > panes[p]["start"]:
            newer = older
            older = panes[older]["best_older"][side]
        if newer >= 0 and panes[newer]["best"][side] > best:
            return
        panes[p]["best_newer"][side] = newer
        panes[p]["best_older"][side] = older
        if newer >= 0:
            panes[newer]["best_older"][side] = p
        else:
            key["back"][side] = p
    older = panes[p]["best_older"][side]
    while older >= 0 and panes[older]["best"][side] < best:  # an equal one is earlier, and stays
        panes[older]["best_newer"][side] = _NOT_IN_DEQUE
        older = panes[older]["best_older"][side]
    panes[p]["best_older"][side] = older
    if older >= 0:
        panes[older]["best_newer"][side] = p
    else:
        key["front"][side] = p


@njit(cache=True)
def _restart(panes: NDArray[Any], key: Any, side: int) -> None:  # noqa: ANN401
    """Build a deque anew, after a pane's best has fallen."""
    key["front"][side] = -1
    key["back"][side] = -1
    p = key["oldest"]
    while p >= 0:
        panes[p]["best_newer"][side] = _NOT_IN_DEQUE
        _compete(panes, key, p, side)
        p = panes[p]["newer"]


@njit(cache=True)
def put(
    panes: NDArray[Any],
    arena: NDArray[np.int64],
    key: Any,  # noqa: ANN401  # a record
    partial: Any,  # noqa: ANN401  # a record
    replaces: bool,  # noqa: FBT001  # compiled functions take no keywords
    scratch: NDArray[Any],
) -> bool:
    """Take a partial with trades into its pane; whether that changed the window.

    Args:
        panes: (n,) `PANE`, with room for one more.
        arena: (2,) int64 scalars.
        key: a `KEY` record.
        partial: a partial of `operators.candle.CANDLE`.
        replaces: False: partials of a pane add up. True: each stands for the whole pane,
            and the one with more trades, or else further on in the log, counts.
        scratch: (1,) partials, written.
    """
    start = partial["pane"]
    newer = -1
    p = key["newest"]
    while p >= 0 and panes[p]["start"] > start:
        newer = p
        p = panes[p]["older"]
    if p < 0 or panes[p]["start"] != start:
        older = p
        p = _take(panes, arena)
        panes[p]["start"] = start
        _insert(panes, key, p, older, newer)
        _pack(partial, panes[p])
        for side in range(2):
            _compete(panes, key, p, side)
    else:
        pane = panes[p]
        if replaces:
            count = np.int64(pane["count"])
            place = pane["open_place"]
            if partial["count"] < count or (
                partial["count"] == count and partial["open_place"] <= place
            ):
                return False
            scratch[0] = partial
        else:
            _unpack(pane, scratch[0])
            merge(scratch[0], partial)
        high = pane["best"][HIGH]
        low = pane["best"][LOW]
        _subtract(key, pane)
        _pack(scratch[0], pane)
        for side in range(2):
            if panes[p]["best"][side] < (high if side == HIGH else low):
                _restart(panes, key, side)
            else:
                _compete(panes, key, p, side)
    _add(key, panes[p])
    return True


@njit(cache=True)
def evict(panes: NDArray[Any], arena: NDArray[np.int64], key: Any, first: int) -> None:  # noqa: ANN401
    """Free the panes of a key that start before `first`."""
    p = key["oldest"]
    while p >= 0 and panes[p]["start"] < first:
        for side in range(2):
            if key["front"][side] == p:
                front = panes[p]["best_newer"][side]
                key["front"][side] = front
                if front >= 0:
                    panes[front]["best_older"][side] = -1
                else:
                    key["back"][side] = -1
        _subtract(key, panes[p])
        newer = panes[p]["newer"]
        panes[p]["older"] = arena[FREE]
        arena[FREE] = p
        p = newer
    key["oldest"] = p
    if p >= 0:
        panes[p]["older"] = -1
    else:
        key["newest"] = -1
