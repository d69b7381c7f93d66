"""Distinct keys of a batch: text in the log's bytes to dense codes.

`intern_keys` numbers keys in the order in which they come first. It knows plain keys only:
1 to `KEY_BYTES` bytes of UTF-8 without the control characters of ASCII. Others are marked as
odd, for the caller to judge one by one.

Cost: about 30 ns a key that was seen before; a table of 8 to 16 bytes a key.
"""

import numpy as np
import pyarrow as pa
from numba import njit
from numpy.typing import NDArray

from schemas.binary import binary_views
from schemas.stream import Int64s
from schemas.utf8 import NOT_ASCII, is_utf8

__all__ = ["DELETE", "FIRST_PRINTABLE", "KEY_BYTES", "intern_keys", "is_key"]

KEY_BYTES = 255
FIRST_PRINTABLE, DELETE = 0x20, 0x7F

_NEWLINE = 0x0A  # parts the names, since no plain key holds one
_FNV_BEGIN = np.uint64(0xCBF29CE484222325)
_FNV_PRIME = np.uint64(0x100000001B3)
_HALF = np.uint64(32)
_ONE = np.uint64(1)
_NO_BITS = np.uint8(0)


@njit(cache=True)
def _intern(
    data: NDArray[np.uint8],
    starts: Int64s,
    ends: Int64s,
    odd: NDArray[np.bool_],
    table: NDArray[np.int32],
    first: NDArray[np.int32],
    codes: NDArray[np.int32],
    names: NDArray[np.uint8],
) -> int:
    """Look each key up in a table of codes, by FNV-1a and linear probing.

    `first` has the place of each code's first key. Returns the size of the names.
    """
    mask = np.uint64(len(table) - 1)
    distinct = 0
    size = 0
    for i in range(len(codes)):
        start = starts[i]
        length = ends[i] - start
        plain = not odd[i] and 0 < length <= KEY_BYTES
        value = _FNV_BEGIN
        bits = _NO_BITS
        for k in range(length if plain else 0):
            byte = data[start + k]
            bits |= byte
            plain = plain and byte >= FIRST_PRINTABLE and byte != DELETE
            value = (value ^ np.uint64(byte)) * _FNV_PRIME
        if bits >= NOT_ASCII:
            plain = plain and is_utf8(data, start, ends[i])
        odd[i] = not plain
        codes[i] = 0
        slot = (value ^ value >> _HALF) & mask
        found = not plain
        while not found:
            code = table[slot]
            if code < 0:
                code = distinct
                distinct += 1
                table[slot] = code
                first[code] = i
                for k in range(length):
                    names[size + k] = data[start + k]
                names[size + length] = _NEWLINE
                size += length + 1
            codes[i] = code
            other = starts[first[code]]
            found = ends[first[code]] - other == length
            for k in range(length if found else 0):
                found = found and data[start + k] == data[other + k]
            slot = (slot + _ONE) & mask
    return size


def intern_keys(
    values: pa.BinaryArray, starts: Int64s, ends: Int64s, odd: NDArray[np.bool_]
) -> tuple[NDArray[np.int32], list[str]]:
    """Number the keys of (n,) values.

    Args:
        values: n values without nulls.
        starts: (n,) where in the bytes of `values` each key begins.
        ends: (n,) where it ends.
        odd: (n,) those to pass over; set, too, where a key is not plain.

    Returns:
        (n,) codes, 0 where odd; the distinct keys by code.
    """
    _, data = binary_views(values)
    n = len(values)
    codes = np.empty(n, np.int32)
    table = np.full(1 << (2 * n).bit_length(), -1, np.int32)  # at most half full
    names = np.empty(int((ends - starts).sum()) + n, np.uint8)
    size = _intern(data, starts, ends, odd, table, np.empty(n, np.int32), codes, names)
    return codes, names[:size].tobytes().decode().split("\n")[:-1]


def is_key(name: str) -> bool:
    """Whether a key suits a Kafka key, a text column and a terminal."""
    return len(name.encode()) <= KEY_BYTES and all(
        FIRST_PRINTABLE <= ord(c) != DELETE for c in name
    )
