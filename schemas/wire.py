"""The schema registry's wire format around protobuf messages.

A framed value is a zero byte, the schema id (4 bytes, big-endian), the message's place in
its schema (a zigzag varint count and as many zigzag varints; a single zero for the first
message), and the message. Source: the Confluent wire format page of the Schema Registry
documentation. Ids are not resolved: protobuf finds fields by number, so any compatible
schema decodes alike.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numba import njit
from numpy.typing import NDArray

from schemas.binary import binary_views

__all__ = ["add_header", "header", "id_header", "strip_header"]

_MAGIC_AND_ID_BYTES = 5
_MORE = 0x80
_SEVEN_BITS = 0x7F
_MAX_SHIFT = 28


@njit(cache=True)
def _strip(
    offsets: NDArray[np.int32],
    data: NDArray[np.uint8],
    new_offsets: NDArray[np.int32],
    new_data: NDArray[np.uint8],
    framed: NDArray[np.bool_],
) -> int:
    size = 0
    new_offsets[0] = 0
    for i in range(len(framed)):
        at = int(offsets[i])
        end = int(offsets[i + 1])
        good = end - at > _MAGIC_AND_ID_BYTES and data[at] == 0
        at += _MAGIC_AND_ID_BYTES
        numbers = 1  # varints still to read: the count, then that many
        first = True
        while good and numbers > 0:
            value = 0
            shift = 0
            while True:
                if at >= end or shift > _MAX_SHIFT:
                    good = False
                    break
                byte = int(data[at])
                at += 1
                value |= (byte & _SEVEN_BITS) << shift
                shift += 7
                if byte & _MORE == 0:
                    break
            numbers -= 1
            if first:
                first = False
                numbers = value >> 1
                good = good and value & 1 == 0  # zigzag: an odd one is negative
        framed[i] = good
        if good:
            length = end - at
            new_data[size : size + length] = data[at:end]
            size += length
        new_offsets[i + 1] = size
    return size


def strip_header(values: pa.BinaryArray) -> tuple[pa.BinaryArray, NDArray[np.bool_]]:
    """Take the header off (n,) values without nulls.

    Returns:
        (n,) messages, empty where there was no header; (n,) bool, whether there was one.
    """
    n = len(values)
    offsets, data = binary_views(values)
    framed = np.empty(n, bool)
    new_offsets = np.empty(n + 1, np.int32)
    new_data = np.empty(int(offsets[-1] - offsets[0]), np.uint8)
    size = _strip(offsets, data, new_offsets, new_data, framed)
    stripped = pa.BinaryArray.from_buffers(
        pa.binary(), n, [None, pa.py_buffer(new_offsets), pa.py_buffer(new_data[:size])]
    )
    return stripped, framed


def header(schema_id: int, message_index: Sequence[int]) -> bytes:
    """The header of messages at `message_index` in the schema `schema_id`."""
    numbers = [0] if list(message_index) == [0] else [len(message_index), *message_index]
    places = bytearray()
    for number in numbers:
        rest = number << 1
        while rest > _SEVEN_BITS:
            places.append(rest & _SEVEN_BITS | _MORE)
            rest >>= 7
        places.append(rest)
    return id_header(schema_id) + bytes(places)


def id_header(schema_id: int) -> bytes:
    """What the header begins with; for Avro it is all of it."""
    return b"\x00" + schema_id.to_bytes(4, "big")


def add_header(messages: pa.BinaryArray, prefix: bytes) -> pa.BinaryArray:
    """Put `prefix` before each of (n,) messages."""
    return pc.binary_join_element_wise(pa.scalar(prefix, pa.binary()), messages, pa.scalar(b""))
