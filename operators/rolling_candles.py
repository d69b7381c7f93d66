"""Candles as panes: what `operators.combine` makes of a log of published candles.

A candle of the interval that is the pane's length is its pane's partial, whole. Corrections
are published as whole candles again: of several candles of one pane the one with more
trades counts, and among equals the one further on in the log, here and in the windows
(`RollingRule.replaces`). A candle without trades, such as one that fills a gap, is none.
"""

from dataclasses import replace
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from operators.candle import CANDLE, PARTIAL
from operators.panes import Groups
from schemas.stream import OFFSET_BITS, Events

__all__ = ["PUBLISHED_CANDLE"]

_COLUMNS = (
    "open",
    "high",
    "low",
    "close",
    "open_time",
    "high_time",
    "low_time",
    "close_time",
    "volume_low",
    "volume_high",
    "quote_low",
    "quote_high",
    "count",
)


@njit(cache=True)
def _choose(slots: NDArray[np.int32], count: NDArray[np.int64], chosen: NDArray[np.int64]) -> None:
    """Index of the candle that counts in each group; -1 where none has trades."""
    for i in range(len(slots)):
        slot = slots[i]
        if slot < 0 or count[i] == 0:
            continue
        if chosen[slot] < 0 or count[i] >= count[chosen[slot]]:
            chosen[slot] = i


def _lift(events: Events, groups: Groups) -> NDArray[Any]:
    """Partials of a batch of candles with the columns of `schemas.candle_codec`."""
    partials = np.zeros(len(groups.keys), PARTIAL)
    partials["key"] = groups.keys
    partials["pane"] = groups.panes
    partials["tick"] = groups.ticks
    chosen = np.full(len(partials), -1, np.int64)
    _choose(groups.slots, events.columns["count"], chosen)
    filled = np.flatnonzero(chosen >= 0)
    at = chosen[filled]
    for name in _COLUMNS:
        partials[name][filled] = events.columns[name][at]
    place = (events.partition << OFFSET_BITS) + events.offsets[at]
    for end, seq in (("open", "first_seq"), ("close", "last_seq")):
        partials[f"{end}_seq"][filled] = events.columns[seq][at]
        partials[f"{end}_place"][filled] = place
    return partials


PUBLISHED_CANDLE = replace(CANDLE, lift=_lift)
"""The candle aggregate of a log of candles; its records are those of `CANDLE`."""
