"""What a fold is: a sequential function over the events of each key, with timers.

`operators.ordered_table` puts the events of a shard in order and hands them over in pieces;
a fold keeps one state record per key and returns rows. It is written as one compiled kernel
over all keys of the shard.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from operators.ordered_buffer import InOrder

__all__ = ["EventShape", "Fold", "row_dtype"]


def row_dtype(fields: Sequence[tuple[str, str]]) -> np.dtype[Any]:
    """Record of a fold's row.

    `key` is a key code; `start` says which of the key's rows it is (the start of a window);
    `tick` is when it leaves, ms; `revision` is set by the table. `fields` are the fold's.
    """
    head = [("key", "i4"), ("revision", "i4"), ("start", "i8"), ("tick", "i8")]
    return np.dtype([*head, *fields])


class EventShape(Protocol):
    """What an ordered operator needs of an event."""

    @property
    def columns(self) -> Mapping[str, str]:
        """Name and NumPy type of the events' columns that it reads."""
        ...

    @property
    def sequence(self) -> str | None:
        """Column that orders events of one time, int64; None for place in the log alone."""
        ...


class Fold(EventShape, Protocol):
    """A fold.

    Contract:
    * A row is a function of its key's events in order, and of nothing else: not of how they
      are cut into calls, nor of other keys.
    * A row's tick is a multiple of the tick length, later than the events it is made of,
      and at most the limit of the call that returns it. All rows with a tick up to the
      limit are returned: a key's event shows that its earlier rows are due, and for keys
      without further events the fold keeps timers.
    * A state that is all zeros is that of a key without events.
    """

    @property
    def state(self) -> np.dtype[Any]:
        """Record of a key's state."""
        ...

    @property
    def row(self) -> np.dtype[Any]:
        """Record of a row, by `row_dtype`."""
        ...

    def fold(
        self, events: InOrder, limit_ms: int, states: NDArray[Any]
    ) -> tuple[NDArray[Any], int]:
        """Fold events into the states of their keys, then do what is due by the limit.

        Args:
            events: (n,) events before `limit_ms` and not before any earlier limit.
            limit_ms: how far time has come.
            states: (k,) state records by key code, changed.

        Returns:
            (r,) rows in any order, and when something is due next without a further event.
        """
        ...

    def is_open(self, states: NDArray[Any]) -> NDArray[np.bool_]:
        """(k,) whether a row is still to come of what was folded."""
        ...

    def is_live(self, states: NDArray[Any]) -> NDArray[np.bool_]:
        """(k,) whether a state means more than that of a key without events."""
        ...

    def lower(self, rows: NDArray[Any], names: Sequence[str]) -> pa.RecordBatch:
        """(r,) rows of the output's table; `names` are keys by code."""
        ...
