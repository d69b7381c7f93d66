"""Event-time rules of a source partition's records: effective tick, and late.

What it computes. A record carries its arrival watermark w, the partition's watermark just
before it. With panes (and ticks) of `pane_ms`, a record whose pane ends after w is on time
and takes effect at the end of its pane. Any other is delayed and takes effect at the first
tick strictly after w; if its pane ended more than the correction horizon before w, it is
late and takes no effect.

Contract. The answer for a record depends on its partition's log alone: not on batches, on
other partitions, or on the time of day. It is the one rule that makes everything downstream
a pure function of the logs. (With "at or after w" instead of "strictly after", a tick could
already have been processed when the record arrives.)
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from schemas.stream import NEVER, Int64s

__all__ = ["LATE_TICK", "NO_TIME", "effective_ticks", "first_tick_after"]

LATE_TICK = NEVER
"""Effective tick of a late record: none."""

NO_TIME = 2**62
"""A time after every other."""


@njit(cache=True)
def first_tick_after(position_ms: int, pane_ms: int) -> int:
    """The first multiple of `pane_ms` strictly after `position_ms`."""
    return position_ms // pane_ms * pane_ms + pane_ms


@njit(cache=True)
def _effective_ticks(
    event_time_ms: NDArray[np.int64],
    watermark_ms: NDArray[np.int64],
    pane_ms: int,
    horizon_ms: int,
    ticks: NDArray[np.int64],
) -> int:
    late = 0
    for i in range(len(event_time_ms)):
        w = watermark_ms[i]
        pane_end = first_tick_after(event_time_ms[i], pane_ms)
        if pane_end > w:
            ticks[i] = pane_end
        elif w - pane_end > horizon_ms:
            ticks[i] = LATE_TICK
            late += 1
        else:
            ticks[i] = first_tick_after(w, pane_ms)
    return late


def effective_ticks(
    event_time_ms: Int64s, watermark_ms: Int64s, pane_ms: int, horizon_ms: int
) -> tuple[Int64s, int]:
    """Effective tick of each record, and how many are late.

    Args:
        event_time_ms: (n,) event times.
        watermark_ms: (n,) arrival watermarks; `NEVER` before the first record.
        pane_ms: length of pane and tick.
        horizon_ms: the correction horizon.

    Returns:
        (n,) int64 ticks, `LATE_TICK` for late records; the number of late records.
    """
    ticks = np.empty(len(event_time_ms), np.int64)
    return ticks, int(_effective_ticks(event_time_ms, watermark_ms, pane_ms, horizon_ms, ticks))
