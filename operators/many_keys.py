"""The keys of a shard that has very many: text outside, codes inside.

As `operators.keys`, with a table of hashes over one buffer of text in place of Python's
strings, whose lookup takes as long as all that is then done with an event.

Cost: about 60 ns a key that is looked up; its text and 25 bytes in memory.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa
from numba import njit
from numpy.typing import NDArray

from schemas.binary import binary_views

__all__ = ["ManyKeys"]

_FNV_BEGIN = np.uint64(0xCBF29CE484222325)
_FNV_PRIME = np.uint64(0x100000001B3)
_HALF = np.uint64(32)
_ONE = np.uint64(1)
_LEAST = 64


@njit(cache=True)
def _slot(
    data: NDArray[np.uint8],
    start: int,
    end: int,
    table: NDArray[np.int32],
    text: NDArray[np.uint8],
    ends: NDArray[np.int32],
) -> int:
    """Where in the table a key is, or is to be: FNV-1a and linear probing."""
    value = _FNV_BEGIN
    for at in range(start, end):
        value = (value ^ np.uint64(data[at])) * _FNV_PRIME
    mask = np.uint64(len(table) - 1)
    slot = (value ^ value >> _HALF) & mask
    while table[slot] >= 0:
        code = table[slot]
        first = ends[code]
        same = ends[code + 1] - first == end - start
        for k in range(end - start if same else 0):
            same = same and text[first + k] == data[start + k]
        if same:
            break
        slot = (slot + _ONE) & mask
    return slot  # type: ignore[return-value]


@njit(cache=True)
def _codes(
    offsets: NDArray[np.int32],
    data: NDArray[np.uint8],
    table: NDArray[np.int32],
    text: NDArray[np.uint8],
    ends: NDArray[np.int32],
    n: int,
    codes: NDArray[np.int64],
) -> int:
    """Look keys up, and put in those that are new; how many there are then."""
    for i in range(len(codes)):
        slot = _slot(data, offsets[i], offsets[i + 1], table, text, ends)
        if table[slot] < 0:
            table[slot] = n
            end = ends[n]
            for at in range(offsets[i], offsets[i + 1]):
                text[end] = data[at]
                end += 1
            n += 1
            ends[n] = end
        codes[i] = table[slot]
    return n


@njit(cache=True)
def _fill(
    table: NDArray[np.int32], text: NDArray[np.uint8], ends: NDArray[np.int32], n: int
) -> None:
    """Put all keys into an empty table."""
    for code in range(n):
        slot = _slot(text, ends[code], ends[code + 1], table, text, ends)
        table[slot] = code


class ManyKeys:
    """Keys by code.

    Args:
        names: keys of the codes 0, 1, ...
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._n = 0
        self._table = np.full(_LEAST, -1, np.int32)
        self._text = np.empty(0, np.uint8)
        self._ends = np.zeros(1, np.int32)  # text of code c: from its own to the next
        self._names = pa.array([], pa.string())
        self.codes(list(names))

    def __len__(self) -> int:
        return self._n

    @property
    def names(self) -> pa.StringArray:
        """(k,) keys by code."""
        if len(self._names) != self._n:
            size = int(self._ends[self._n])
            buffers = [
                pa.py_buffer(self._ends[: self._n + 1].copy()),
                pa.py_buffer(self._text[:size].copy()),
            ]
            self._names = pa.StringArray.from_buffers(self._n, *buffers)
        return self._names

    def codes(self, names: Sequence[str]) -> NDArray[np.int64]:
        """(n,) codes of (n,) keys; new ones for those not seen before."""
        offsets, data = binary_views(pa.array(names, pa.string()))
        self._make_room(len(names), len(data))
        codes = np.empty(len(names), np.int64)
        table, text, ends = self._table, self._text, self._ends
        self._n = _codes(offsets, data, table, text, ends, self._n, codes)
        return codes

    def _make_room(self, keys: int, size: int) -> None:
        """For so many keys of so many bytes."""
        wanted = self._n + keys
        if wanted >= len(self._ends):
            ends = np.empty(2 * wanted + 1, np.int32)
            ends[: self._n + 1] = self._ends[: self._n + 1]
            self._ends = ends
        used = int(self._ends[self._n])
        if used + size > len(self._text):
            text = np.empty(2 * (used + size), np.uint8)
            text[:used] = self._text[:used]
            self._text = text
        if 2 * wanted > len(self._table):
            self._table = np.full(1 << (2 * wanted).bit_length(), -1, np.int32)
            _fill(self._table, self._text, self._ends, self._n)
