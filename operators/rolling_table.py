"""The rolling windows of one shard, between kernel and dataflow: rule, names, growth.

What it computes. Fed with partials, a `RollingTable` is the state of
`operators.rolling_ticks`: `advance(limit)` yields the rows of all ticks up to it. Keys are
text outside and codes inside.

Contract. The rows after a tick L are a function of the partials whose pane lies in or after
L's window. So the table is never stored: a new one that is silent up to L, and is fed again
from there, goes on as the old one would.

Cost: 144 bytes for each pane that holds trades and about 200 for a key. What is freed is
used again; names of keys whose window is empty are forgotten.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from operators import rolling_ticks
from operators.candle import PARTIAL
from operators.keys import Keys
from operators.metrics import StateSize
from operators.rolling_panes import FREE, KEY, PANE
from operators.rolling_ticks import (
    DONE,
    LIVE,
    NEXT_EMPTY,
    PANE_LENGTH,
    QUIET,
    ROW,
    SILENT,
    TICK,
    WINDOW,
)
from operators.watermark import NO_TIME
from schemas.stream import NEVER

__all__ = ["RollingRule", "RollingTable"]

_ROWS_AT_ONCE = 20_000
_FEW_KEYS = 64
_PANE_LIMIT_MS = 2**31  # times within a pane are int32


@dataclass(frozen=True, slots=True)
class RollingRule:
    """Parameters of rolling windows.

    Attributes:
        window_ms: length of the window, a multiple of `pane_ms`.
        pane_ms: length of a pane, by which trades enter and leave.
        tick_ms: time between two emissions of a key with trades, a multiple of `pane_ms`.
        quiet_every_ms: time between two emissions of a key without trades, a multiple of
            `tick_ms`.
        replaces: whether a partial stands for all of its pane, as a published candle does,
            rather than adding to it, as trades do.

    Raises:
        ValueError: A length is not positive or does not fit the others.
    """

    window_ms: int = 86_400_000
    pane_ms: int = 1_000
    tick_ms: int = 1_000
    quiet_every_ms: int = 60_000
    replaces: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.pane_ms < _PANE_LIMIT_MS:
            raise ValueError(f"pane_ms={self.pane_ms} is not between 1 and 2**31 - 1")
        for name, unit in (("window", "pane"), ("tick", "pane"), ("quiet_every", "tick")):
            length, unit_ms = getattr(self, f"{name}_ms"), getattr(self, f"{unit}_ms")
            if length <= 0 or length % unit_ms:
                raise ValueError(f"{name}_ms={length} is not a multiple of {unit}_ms={unit_ms}")
        if self.tick_ms > self.window_ms:
            raise ValueError(f"tick_ms={self.tick_ms} is more than window_ms={self.window_ms}")

    @property
    def horizon_limit_ms(self) -> int:
        """The largest correction horizon that leaves no record between late and in a window.

        A record whose pane ended h before its arrival watermark w takes effect by w + tick,
        and its pane begins at w - h - pane. With -1 every delayed record is late.
        """
        return max(self.window_ms - self.pane_ms - self.tick_ms, -1)


class RollingTable:
    """Rolling windows of the keys of one shard.

    Args:
        rule: the windows' parameters.
        silent_until_ms: last tick that yields no rows; `NEVER` to be silent at none.
    """

    def __init__(self, rule: RollingRule, silent_until_ms: int = NEVER) -> None:
        self._replaces = rule.replaces
        self._clock = np.zeros(8, np.int64)
        self._clock[DONE] = NEVER
        self._clock[SILENT] = silent_until_ms
        self._clock[NEXT_EMPTY] = NO_TIME
        self._clock[WINDOW] = rule.window_ms
        self._clock[PANE_LENGTH] = rule.pane_ms
        self._clock[TICK] = rule.tick_ms
        self._clock[QUIET] = rule.quiet_every_ms
        self._arena = np.zeros(2, np.int64)
        self._arena[FREE] = -1
        self._panes = np.empty(64, PANE)
        self._keys = Keys()
        self._windows = _empty_windows(16)
        self._rows = np.empty(64, ROW)
        self._pending = np.empty(64, PARTIAL)
        self._pending_n = 0

    @property
    def names(self) -> list[str]:
        """Keys by code, for the `key` field of the rows yielded last."""
        return self._keys.names

    @property
    def last_tick_ms(self) -> int:
        """The last effective tick among partials still to be applied; `NEVER` without."""
        return int(self._pending["tick"][: self._pending_n].max(initial=NEVER))

    def add(self, names: Sequence[str], partials: NDArray[Any]) -> None:
        """Take in candle partials whose `key` indexes `names`; they apply at their ticks."""
        if not len(partials):
            return
        codes = self._keys.codes(names)
        missing = len(self._keys) - len(self._windows)
        if missing > 0:
            more_windows = _empty_windows(max(missing, len(self._windows)))
            self._windows = np.concatenate((self._windows, more_windows))
        n = self._pending_n
        more = n + len(partials)
        if more > len(self._pending):
            grown = np.empty(max(2 * len(self._pending), more), PARTIAL)
            grown[:n] = self._pending[:n]
            self._pending = grown
        self._pending[n:more] = partials
        self._pending["key"][n:more] = codes[partials["key"]]
        self._pending_n = more

    def advance(self, limit_ms: int) -> Iterator[NDArray[Any]]:
        """Process all ticks up to `limit_ms`; yields `ROW` arrays, each of whole ticks.

        A long silence makes many rows: they come in parts of about 20,000.
        """
        while True:
            rows = self._advance(limit_ms)
            if not len(rows):
                break
            yield rows
        if len(self._keys) > _FEW_KEYS and self._clock[LIVE] < len(self._keys) // 2:
            self._forget()

    def size(self) -> StateSize:
        """How much it holds; any thread may ask."""
        arrays = (self._panes, self._windows, self._rows, self._pending)
        return StateSize(
            int(self._clock[LIVE]),
            len(self._keys),
            self._pending_n,
            sum(array.nbytes for array in arrays),
        )

    def _advance(self, limit_ms: int) -> NDArray[Any]:
        pending = self._pending[: self._pending_n]
        ticks = pending["tick"]
        due = np.flatnonzero(ticks <= limit_ms)
        order = due[np.argsort(ticks[due], kind="stable")]
        ranks = self._keys.ranks()
        self._panes, self._rows, n = rolling_ticks.advance(
            pending,
            order,
            limit_ms,
            _ROWS_AT_ONCE,
            self._replaces,
            self._panes,
            self._arena,
            self._windows,
            self._clock,
            ranks,
            np.argsort(ranks).astype(np.int32),
            self._rows,
        )
        if len(due):
            kept = pending[ticks > self._clock[DONE]]
            self._pending[: len(kept)] = kept
            self._pending_n = len(kept)
        return self._rows[:n].copy()  # the buffer is written again

    def _forget(self) -> None:
        """Leave out the keys with neither a window nor anything pending."""
        pending = self._pending[: self._pending_n]
        used = self._windows["newest"][: len(self._keys)] >= 0
        used[pending["key"]] = True
        kept = np.flatnonzero(used)
        codes = np.full(len(used), -1, np.int32)
        codes[kept] = np.arange(len(kept))
        pending["key"] = codes[pending["key"]]
        self._keys = Keys([self.names[code] for code in kept.tolist()])
        self._windows = np.concatenate((self._windows[kept], _empty_windows(16)))


def _empty_windows(n: int) -> NDArray[Any]:
    windows = np.zeros(n, KEY)
    for name in ("oldest", "newest", "front", "back"):
        windows[name] = -1
    windows["touched"] = NEVER
    return windows
