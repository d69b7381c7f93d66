"""Map-side combine: the records of a batch become one partial per (key, pane, tick).

`group` is a pure function of the batch: which (key, pane, effective tick) occur, and which
of them each record belongs to. An aggregate's `lift` fills the partials.

Cost: one pass, an open-addressing table of at most four 4-byte slots a record, and a short
cut for the usual case that a key's next trade falls in the same pane as its last.
"""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from operators.watermark import LATE_TICK
from schemas.stream import Int64s

__all__ = ["Groups", "group"]


class Groups(NamedTuple):
    """Which (key, pane, effective tick) occur in a batch of n records, m of them.

    Attributes:
        slots: (n,) int32, group of each record; -1 for a late one.
        keys: (m,) int32 key codes, in order of first occurrence.
        panes: (m,) int64 pane starts, ms.
        ticks: (m,) int64 effective ticks, ms.
    """

    slots: NDArray[np.int32]
    keys: NDArray[np.int32]
    panes: Int64s
    ticks: Int64s


_EMPTY = np.int32(-1)
_PRIMES = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9)
_KEY, _PANE, _TICK = (np.uint64(p) for p in _PRIMES)
_TOP = np.uint64(40)


@njit(cache=True)
def _group(
    keys: NDArray[np.int32],
    event_time_ms: NDArray[np.int64],
    ticks: NDArray[np.int64],
    pane_ms: int,
    slots: NDArray[np.int32],
    table: NDArray[np.int32],
    last: NDArray[np.int32],
    group_keys: NDArray[np.int32],
    group_panes: NDArray[np.int64],
    group_ticks: NDArray[np.int64],
) -> int:
    mask = np.uint64(len(table) - 1)
    m = 0
    for i in range(len(keys)):
        tick = ticks[i]
        if tick == LATE_TICK:
            slots[i] = -1
            continue
        key = keys[i]
        pane = event_time_ms[i] // pane_ms * pane_ms
        slot = last[key]
        if slot < 0 or group_panes[slot] != pane or group_ticks[slot] != tick:
            mixed = np.uint64(key) * _KEY + np.uint64(pane) * _PANE + np.uint64(tick) * _TICK
            at = (mixed ^ (mixed >> _TOP)) & mask
            slot = table[at]
            while slot >= 0 and (
                group_keys[slot] != key or group_panes[slot] != pane or group_ticks[slot] != tick
            ):
                at = (at + np.uint64(1)) & mask
                slot = table[at]
            if slot < 0:
                slot = np.int32(m)
                table[at] = slot
                group_keys[m] = key
                group_panes[m] = pane
                group_ticks[m] = tick
                m += 1
            last[key] = slot
        slots[i] = slot
    return m


def group(
    keys: NDArray[np.int32],
    n_keys: int,
    event_time_ms: Int64s,
    ticks: Int64s,
    pane_ms: int,
) -> Groups:
    """Group records by (key, pane, effective tick).

    Args:
        keys: (n,) key codes, 0 <= code < n_keys.
        n_keys: number of keys.
        event_time_ms: (n,) event times.
        ticks: (n,) effective ticks; `LATE_TICK` for records to leave out.
        pane_ms: length of a pane.
    """
    n = len(keys)
    slots = np.empty(n, np.int32)
    table = np.full(max(8, 1 << (2 * n - 1).bit_length()) if n else 8, _EMPTY, np.int32)
    last = np.full(n_keys, _EMPTY, np.int32)
    group_keys = np.empty(n, np.int32)
    group_panes = np.empty(n, np.int64)
    group_ticks = np.empty(n, np.int64)
    m = _group(
        keys,
        event_time_ms,
        ticks,
        pane_ms,
        slots,
        table,
        last,
        group_keys,
        group_panes,
        group_ticks,
    )
    return Groups(slots, group_keys[:m], group_panes[:m], group_ticks[:m])
