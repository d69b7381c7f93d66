"""The reorder buffer of a shard: events wait here until they can be put in order.

What it computes. `release(limit)` hands over all events before a limit in the order of
(event time, sequence, place in the log), a total order, and keeps the others. So the events
of rising limits, one after the other, are the log's events sorted, however they arrived.

Contract. Nothing is added before the last limit. Events are columns; their number is
bounded by what the watermarks of the source partitions leave open: the lateness, and how
far partitions are apart in event time.

Cost: one sort of what is released (about 10 ns an event, as most are in order already) and
a few NumPy passes per column. The raw bytes of events are kept only for who asks for them.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numba import njit
from numpy.typing import NDArray

from operators.ordered_values import HeldValues
from operators.watermark import NO_TIME
from schemas.stream import Int64s

__all__ = ["InOrder", "ReorderBuffer"]

_START, _END, _VALUES = "value_start", "value_end", "values"


class InOrder(NamedTuple):
    """n events in order.

    Attributes:
        keys: (n,) int64 key codes.
        event_time_ms: (n,) int64, rising.
        columns: (n,) arrays by name.
        place: (n,) int64, where in the log: partition * 2**48 + offset.
        values: (n,) Arrow large binary, the bytes as they came; None where they are not kept.
    """

    keys: Int64s
    event_time_ms: Int64s
    columns: Mapping[str, NDArray[Any]]
    place: Int64s
    values: pa.LargeBinaryArray | None = None


@njit(cache=True)
def _settle_ties(
    order: NDArray[np.int64],
    event_time_ms: NDArray[np.int64],
    sequence: NDArray[np.int64],
    place: NDArray[np.int64],
) -> None:
    """Bring indices sorted by event time into full order, run of equal times by run."""
    first = 0
    while first < len(order):
        last = first + 1
        in_order = True
        while last < len(order) and event_time_ms[order[last]] == event_time_ms[order[first]]:
            a = order[last - 1]
            b = order[last]
            if sequence[a] > sequence[b] or (sequence[a] == sequence[b] and place[a] > place[b]):
                in_order = False
            last += 1
        gap = 1
        while gap < last - first:
            gap = gap * 3 + 1
        while gap > 0 and not in_order:  # Shell's sort: in place, no comparison to pass
            for i in range(first + gap, last):
                b = order[i]
                at = i
                while at >= first + gap:
                    a = order[at - gap]
                    if sequence[a] < sequence[b] or (
                        sequence[a] == sequence[b] and place[a] < place[b]
                    ):
                        break
                    order[at] = a
                    at -= gap
                order[at] = b
            gap //= 3
        first = last


class ReorderBuffer:
    """Events of one shard that cannot be put in order yet.

    Args:
        columns: names and NumPy types of what the events carry.
        snapshot: what `snapshot` returned; None for an empty buffer.
        with_values: whether to keep the events' raw bytes.
    """

    def __init__(
        self,
        columns: Mapping[str, str],
        snapshot: Mapping[str, bytes] | None = None,
        *,
        with_values: bool = False,
    ) -> None:
        own = {"key": "i8", "event_time_ms": "i8", "sequence": "i8", "place": "i8"}
        self._values = HeldValues() if with_values else None
        if with_values:
            own |= {_START: "i8", _END: "i8"}
        self._names = tuple(columns)
        self._columns: dict[str, NDArray[Any]] = {
            name: np.frombuffer(snapshot[name] if snapshot else b"", dtype).copy()
            for name, dtype in (own | dict(columns)).items()
        }
        self._n = len(self._columns["key"])
        self._oldest_ms = self._find_oldest()
        if self._values is not None and snapshot is not None:
            self._values.restore(snapshot[_VALUES])

    def __len__(self) -> int:
        return self._n

    @property
    def nbytes(self) -> int:
        """Memory reserved, in bytes."""
        columns = sum(column.nbytes for column in self._columns.values())
        return columns + (0 if self._values is None else self._values.nbytes)

    @property
    def oldest_ms(self) -> int:
        """Event time of the oldest event; later than every other time when there is none."""
        return self._oldest_ms

    @property
    def keys(self) -> Int64s:
        """(n,) key codes, in any order."""
        return self._columns["key"][: self._n]

    def add(
        self,
        keys: Int64s,
        event_time_ms: Int64s,
        sequence: Int64s,
        place: Int64s,
        columns: Mapping[str, NDArray[Any]],
        values: pa.BinaryArray | None = None,
    ) -> None:
        """Take in (m,) events, m > 0."""
        n, more = self._n, self._n + len(keys)
        fresh: dict[str, NDArray[Any]] = {
            "key": keys,
            "event_time_ms": event_time_ms,
            "sequence": sequence,
            "place": place,
            **{name: columns[name] for name in self._names},
        }
        if self._values is not None:
            fresh[_START], fresh[_END] = self._values.add(values)
        if more > len(self._columns["key"]):
            for name, column in self._columns.items():
                grown = np.empty((max(64, 2 * more), *column.shape[1:]), column.dtype)
                grown[:n] = column[:n]
                self._columns[name] = grown
        for name, column in fresh.items():
            self._columns[name][n:more] = column
        self._n = more
        self._oldest_ms = min(self._oldest_ms, int(event_time_ms.min()))

    def release(self, limit_ms: int) -> InOrder:
        """Hand over the events before `limit_ms`, in order."""
        event_time_ms = self._columns["event_time_ms"][: self._n]
        ordered = self._in_order(np.flatnonzero(event_time_ms < limit_ms))
        kept = np.flatnonzero(event_time_ms >= limit_ms)
        for column in self._columns.values():
            column[: len(kept)] = column[kept]
        self._n = len(kept)
        self._oldest_ms = self._find_oldest()
        if self._values is not None:
            self._values.keep(self._columns[_START][: self._n], self._columns[_END][: self._n])
        return ordered

    def peek(self) -> InOrder:
        """All events in order; they stay."""
        return self._in_order(np.arange(self._n))

    def snapshot(self, codes: NDArray[np.int64]) -> Mapping[str, bytes]:
        """An immutable copy; key k becomes `codes[k]`."""
        columns = {name: column[: self._n] for name, column in self._columns.items()}
        columns["key"] = codes[columns["key"]]
        if self._values is None:
            return {name: column.tobytes() for name, column in columns.items()}
        # Packed: the bytes of events that have left are no part of it.
        columns[_START], columns[_END], data = self._values.packed(columns[_START], columns[_END])
        return {name: column.tobytes() for name, column in columns.items()} | {_VALUES: data}

    def _in_order(self, at: NDArray[np.int64]) -> InOrder:
        columns = self._columns
        order = at[np.argsort(columns["event_time_ms"][at], kind="stable")]
        _settle_ties(order, columns["event_time_ms"], columns["sequence"], columns["place"])
        return InOrder(
            columns["key"][order],
            columns["event_time_ms"][order],
            {name: columns[name][order] for name in self._names},
            columns["place"][order],
            self._values and self._values.gather(columns[_START], columns[_END], order),
        )

    def _find_oldest(self) -> int:
        times = self._columns["event_time_ms"][: self._n]
        return int(times.min()) if self._n else NO_TIME
