"""Compiled reader and writer of device events in Avro's binary form, a batch at a time.

A value is the index of the event's kind in the union, the kind's fields, and the timestamp:
numbers are zigzag varints of at most 10 bytes, text is a length and UTF-8, a double is 8
bytes, little-endian. Source: the Avro specification, binary encoding. In the wire format of
the schema registry a zero byte and the schema's id, 4 bytes big-endian, stand before it.

Which index means which kind is the writer's schema; a batch may hold several. Contract: a
value is read if and only if it is one of its schema, to the last byte; text is checked.

Cost: about 30 ns an event, read or written.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numba import njit
from numpy.typing import NDArray

from schemas.binary import binary_views
from schemas.key_codes import DELETE, FIRST_PRINTABLE
from schemas.stream import Int64s
from schemas.utf8 import NOT_ASCII, is_utf8

__all__ = [
    "ALL_DATA_SENT",
    "DATA_RECEIVED",
    "DEVICE_WOKE_UP",
    "HEADER_BYTES",
    "INVALID_SENSOR",
    "KINDS",
    "NO_HEADER",
    "NO_SENSOR",
    "OK",
    "SENSOR_BYTES",
    "SENSOR_TYPE",
    "UNREADABLE",
    "DeviceEvents",
    "read_device_events",
    "read_schema_ids",
    "sensor_words",
    "write_device_events",
]

DEVICE_WOKE_UP, DATA_RECEIVED, ALL_DATA_SENT = range(3)
"""Kinds of events, in the order of `KINDS`."""

KINDS = ("DeviceWokeUp", "DataReceived", "AllDataSent")

SENSOR_BYTES = 64
"""Longest name of a sensor."""

SENSOR_TYPE = "(8,)u8"
"""A sensor's name as big-endian words, filled up with zeros: they order as its bytes do."""

HEADER_BYTES = 5
NO_HEADER = -1
"""Schema id of a value without the registry's header."""

# What is wrong with a value.
OK, UNREADABLE, NO_SENSOR, INVALID_SENSOR = range(4)

_WORDS = SENSOR_BYTES // 8
_ID_BYTES = 4
_DOUBLE_BYTES = 8
_LONGEST_VARINT = 10
_MORE = 0x80
_SEVEN_BITS = 0x7F
_TOP_SHIFT = 63  # of a tenth byte, of which one bit is left
_NONE, _NOWHERE = np.int64(0), np.int64(-1)
_ZERO = np.uint64(0)
_ONE = np.uint64(1)


class DeviceEvents(NamedTuple):
    """What n values hold; anything where `faults` is not `OK`.

    Attributes:
        kind: (n,) uint8.
        sensor: (n, 8) uint64, see `SENSOR_TYPE`; zeros but for data.
        value: (n,) float64; 0 but for data.
        time_ms: (n,) int64.
        faults: (n,) uint8.
    """

    kind: NDArray[np.uint8]
    sensor: NDArray[np.uint64]
    value: NDArray[np.float64]
    time_ms: Int64s
    faults: NDArray[np.uint8]


@njit(cache=True)
def _varint(data: NDArray[np.uint8], at: np.int64, end: np.int64) -> tuple[np.int64, np.int64]:
    """A number and the place behind it; place -1 when there is none that fits."""
    bits = _ZERO
    for k in range(_LONGEST_VARINT):
        if at + k >= end:
            return _NONE, _NOWHERE
        byte = data[at + k]
        shift = 7 * k
        if shift == _TOP_SHIFT and byte > 1:
            return _NONE, _NOWHERE
        bits |= np.uint64(byte & _SEVEN_BITS) << np.uint64(shift)
        if byte < _MORE:
            return np.int64(bits >> _ONE) ^ -np.int64(bits & _ONE), at + k + 1
    return _NONE, _NOWHERE


@njit(cache=True)
def _sensor(data: NDArray[np.uint8], at: np.int64, end: np.int64, words: NDArray[np.uint64]) -> int:
    """Put a sensor's name into words; what is wrong with it."""
    if end == at:
        return NO_SENSOR
    if end - at > SENSOR_BYTES:
        return INVALID_SENSOR
    plain = True
    ascii_only = True
    for k in range(end - at):
        byte = data[at + k]
        plain = plain and byte >= FIRST_PRINTABLE and byte != DELETE
        ascii_only = ascii_only and byte < NOT_ASCII
        words[k >> 3] |= np.uint64(byte) << np.uint64(56 - 8 * (k & 7))
    if not ascii_only and not is_utf8(data, at, end):
        return UNREADABLE
    return OK if plain else INVALID_SENSOR


@njit(cache=True)
def _read(
    offsets: NDArray[np.int32],
    data: NDArray[np.uint8],
    skip: int,
    kind_of: NDArray[np.int8],
    shape: NDArray[np.int32],
    kind: NDArray[np.uint8],
    sensor: NDArray[np.uint64],
    value: NDArray[np.uint64],
    time_ms: NDArray[np.int64],
    faults: NDArray[np.uint8],
) -> None:
    for i in range(len(shape)):
        if shape[i] < 0:
            continue
        end = np.int64(offsets[i + 1])
        branch, at = _varint(data, np.int64(offsets[i]) + skip, end)
        faults[i] = UNREADABLE
        if at < 0 or branch < 0 or branch >= kind_of.shape[1] or kind_of[shape[i], branch] < 0:
            continue
        kind[i] = kind_of[shape[i], branch]
        fault = OK
        if kind[i] == DATA_RECEIVED:
            length, at = _varint(data, at, end)
            if at < 0 or length < 0 or length > end - at - _DOUBLE_BYTES:
                continue
            fault = _sensor(data, at, at + length, sensor[i])
            at += length
            bits = _ZERO
            for k in range(_DOUBLE_BYTES):
                bits |= np.uint64(data[at + k]) << np.uint64(8 * k)
            value[i] = bits
            at += _DOUBLE_BYTES
        time_ms[i], at = _varint(data, at, end)
        if at == end:
            faults[i] = fault


def read_device_events(
    values: pa.BinaryArray, kind_of: NDArray[np.int8], shape: NDArray[np.int32], skip: int
) -> DeviceEvents:
    """Read (n,) values without nulls.

    Args:
        values: as they came.
        kind_of: (s, b) int8, kind by index in the union, for each of s writers' schemas; -1
            for an index that the schema does not have.
        shape: (n,) int32, which of them each value is of; -1 for those to pass over.
        skip: bytes before each value.
    """
    n = len(values)
    offsets, data = binary_views(values)
    events = DeviceEvents(
        np.zeros(n, np.uint8),
        np.zeros((n, _WORDS), np.uint64),
        np.zeros(n, np.float64),
        np.zeros(n, np.int64),
        np.zeros(n, np.uint8),
    )
    bits = events.value.view(np.uint64)
    _read(
        offsets, data, skip, kind_of, shape, events.kind, events.sensor, bits, events.time_ms,
        events.faults,
    )  # fmt: skip
    return events


@njit(cache=True)
def _ids(offsets: NDArray[np.int32], data: NDArray[np.uint8], ids: NDArray[np.int64]) -> None:
    for i in range(len(ids)):
        at = np.int64(offsets[i])
        ids[i] = NO_HEADER
        if offsets[i + 1] - at >= HEADER_BYTES and data[at] == 0:
            number = np.int64(0)
            for k in range(_ID_BYTES):
                number = number << 8 | np.int64(data[at + 1 + k])
            ids[i] = number


def read_schema_ids(values: pa.BinaryArray) -> Int64s:
    """(n,) ids in the headers of (n,) values without nulls; `NO_HEADER` where there is none."""
    ids = np.empty(len(values), np.int64)
    _ids(*binary_views(values), ids)
    return ids


def sensor_words(names: Sequence[bytes]) -> NDArray[np.uint64]:
    """(s, 8) uint64 of s names of at most `SENSOR_BYTES`."""
    text = b"".join(name.ljust(SENSOR_BYTES, b"\0") for name in names)
    return np.frombuffer(text, ">u8").astype(np.uint64).reshape(-1, _WORDS)


@njit(cache=True)
def _put(data: NDArray[np.uint8], at: np.int64, number: np.int64) -> np.int64:
    """Write a number; the place behind it."""
    bits = np.uint64((number << 1) ^ (number >> 63))
    while bits >= _MORE:
        data[at] = np.uint8(bits & np.uint64(_SEVEN_BITS)) | np.uint8(_MORE)
        bits >>= np.uint64(7)
        at += 1
    data[at] = np.uint8(bits)
    return at + 1


@njit(cache=True)
def _write(
    kind: NDArray[np.uint8],
    sensor: NDArray[np.int64],
    value: NDArray[np.uint64],
    time_ms: NDArray[np.int64],
    names: NDArray[np.uint8],
    name_ends: NDArray[np.int64],
    prefix: NDArray[np.uint8],
    offsets: NDArray[np.int32],
    data: NDArray[np.uint8],
) -> np.int64:
    at = _NONE
    offsets[0] = 0
    for i in range(len(kind)):
        for k in range(len(prefix)):
            data[at + k] = prefix[k]
        at = _put(data, at + len(prefix), np.int64(kind[i]))
        if kind[i] == DATA_RECEIVED:
            start = name_ends[sensor[i]]
            length = name_ends[sensor[i] + 1] - start
            at = _put(data, at, length)
            for k in range(length):
                data[at + k] = names[start + k]
            at += length
            for k in range(_DOUBLE_BYTES):
                data[at + k] = np.uint8(value[i] >> np.uint64(8 * k) & np.uint64(0xFF))
            at += _DOUBLE_BYTES
        at = _put(data, at, time_ms[i])
        offsets[i + 1] = at
    return at


def write_device_events(
    kind: NDArray[np.uint8],
    sensor: Int64s,
    value: NDArray[np.float64],
    time_ms: Int64s,
    sensors: Sequence[bytes],
    prefix: bytes = b"",
) -> pa.BinaryArray:
    """(n,) values of `devices.avsc`.

    Args:
        kind: (n,) uint8.
        sensor: (n,) int64, index into `sensors`; anything but for data.
        value: (n,) float64.
        time_ms: (n,) int64.
        sensors: names.
        prefix: stands before each value, such as the registry's header.
    """
    n = len(kind)
    name_ends = np.cumsum([0, *map(len, sensors)])
    longest = len(prefix) + 3 * _LONGEST_VARINT + _DOUBLE_BYTES + max(map(len, sensors), default=0)
    offsets = np.empty(n + 1, np.int32)
    data = np.empty(n * longest, np.uint8)
    size = _write(
        kind,
        sensor,
        value.view(np.uint64),
        time_ms,
        np.frombuffer(b"".join(sensors), np.uint8),
        name_ends,
        np.frombuffer(prefix, np.uint8),
        offsets,
        data,
    )
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(data[:size])]
    return pa.BinaryArray.from_buffers(pa.binary(), n, buffers)
