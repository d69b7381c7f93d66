"""The raw bytes of events that wait to be put in order, for folds that pass them on.

Bytes lie one after the other in one buffer; the owner keeps where each value starts and how
long it is, in columns of its own. Contract: each byte is copied once when it comes, once when
it leaves, and at most once in the mean to close holes: that is done when most of the buffer
is holes.
"""

import numpy as np
import pyarrow as pa
from numba import njit
from numpy.typing import NDArray

from schemas.binary import binary_views
from schemas.stream import Int64s

__all__ = ["HeldValues"]

_LEAST_BYTES = 4_096


@njit(cache=True)
def _gather(
    data: NDArray[np.uint8],
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    order: NDArray[np.int64],
    out: NDArray[np.uint8],
    out_ends: NDArray[np.int64],
) -> None:
    """Copy values in an order; `out_ends` has one more than they are."""
    at = 0
    out_ends[0] = 0
    for i in range(len(order)):
        for k in range(starts[order[i]], ends[order[i]]):
            out[at] = data[k]
            at += 1
        out_ends[i + 1] = at


class HeldValues:
    """A growing buffer of bytes."""

    def __init__(self) -> None:
        self._data = np.empty(0, np.uint8)
        self._used = 0

    @property
    def nbytes(self) -> int:
        """Memory reserved, in bytes."""
        return self._data.nbytes

    def add(self, values: pa.BinaryArray) -> tuple[Int64s, Int64s]:
        """Take in (m,) values without nulls; where each starts and ends."""
        offsets, data = binary_views(values)
        more = int(offsets[-1]) - int(offsets[0])
        self._grow(more)
        self._data[self._used : self._used + more] = data[offsets[0] : offsets[-1]]
        at = offsets.astype(np.int64) + (self._used - int(offsets[0]))
        self._used += more
        return at[:-1], at[1:]

    def gather(self, starts: Int64s, ends: Int64s, order: Int64s) -> pa.LargeBinaryArray:
        """Values `order` of those at `starts`, as an array of their own."""
        out_ends = np.empty(len(order) + 1, np.int64)
        out = np.empty(int((ends[order] - starts[order]).sum()), np.uint8)
        _gather(self._data, starts, ends, order, out, out_ends)
        return pa.LargeBinaryArray.from_buffers(
            pa.large_binary(), len(order), [None, pa.py_buffer(out_ends), pa.py_buffer(out)]
        )

    def keep(self, starts: Int64s, ends: Int64s) -> None:
        """Forget all values but these; may change where they are."""
        size = int((ends - starts).sum())
        if 2 * size > self._used:
            return
        starts[:], ends[:], self._data = self._packed(starts, ends)
        self._used = size

    def packed(self, starts: Int64s, ends: Int64s) -> tuple[Int64s, Int64s, bytes]:
        """Where these values start and end in a copy without holes, and the copy."""
        new_starts, new_ends, data = self._packed(starts, ends)
        return new_starts, new_ends, data.tobytes()

    def restore(self, data: bytes) -> None:
        """Begin with a copy that `packed` made."""
        self._data = np.frombuffer(data, np.uint8).copy()
        self._used = len(self._data)

    def _packed(self, starts: Int64s, ends: Int64s) -> tuple[Int64s, Int64s, NDArray[np.uint8]]:
        out_ends = np.empty(len(starts) + 1, np.int64)
        out = np.empty(int((ends - starts).sum()), np.uint8)
        _gather(self._data, starts, ends, np.arange(len(starts)), out, out_ends)
        return out_ends[:-1], out_ends[1:], out

    def _grow(self, more: int) -> None:
        if self._used + more > len(self._data):
            grown = np.empty(max(_LEAST_BYTES, 2 * (self._used + more)), np.uint8)
            grown[: self._used] = self._data[: self._used]
            self._data = grown
