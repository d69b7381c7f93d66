"""Column codec of device events: Avro bytes, under the device's id, to columns.

`DeviceEventCodec` reads a whole batch in compiled loops; see `schemas.device_wire`. A value
of a foreign schema, resolved by its id in the schema registry, goes alone to fastavro.
`decode_one` is the reference: one record with the library.

Columns: `kind` uint8 (see `schemas.device_wire.KINDS`), and for data `sensor` (n, 8) uint64,
the name as words (see `schemas.device_wire.SENSOR_TYPE`), and `value` float64, finite.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from fastavro.read import SchemaResolutionError
from numpy.typing import NDArray

from schemas.binary import binary_views
from schemas.device_schemas import (
    FOREIGN,
    INCOMPATIBLE,
    OURS,
    UNKNOWN,
    WriterSchemas,
    read_by_library,
)
from schemas.device_wire import (
    DATA_RECEIVED,
    HEADER_BYTES,
    INVALID_SENSOR,
    NO_HEADER,
    NO_SENSOR,
    OK,
    SENSOR_BYTES,
    UNREADABLE,
    DeviceEvents,
    read_device_events,
    read_schema_ids,
    sensor_words,
)
from schemas.key_codes import intern_keys, is_key
from schemas.stream import Decoded

__all__ = ["REASONS", "DeviceEvent", "DeviceEventCodec", "decode_one"]

REASONS = (
    "no_value",
    "no_wire_header",
    "unknown_schema",
    "incompatible_schema",
    "undecodable",
    "missing_device",
    "invalid_device",
    "missing_sensor",
    "invalid_sensor",
    "invalid_timestamp",
    "value_not_finite",
)
_REASON = {name: 1 + i for i, name in enumerate(REASONS)}

_YEAR_10000_MS = 253_402_300_800_000  # the last year that ISO-8601 writes with four digits


class DeviceEvent(NamedTuple):
    """One record as the reference decoder sees it; `reason` is empty for a good one."""

    reason: str
    device: str
    kind: int
    sensor: str
    value: float
    time_ms: int


class DeviceEventCodec:
    """Decodes device events; see `schemas.stream.KeyedCodec`.

    Args:
        writers: how to find the writer's schema of a value that carries the registry's header;
            None for values of `devices.avsc` without header.
    """

    def __init__(self, writers: WriterSchemas | None = None) -> None:
        self._is_framed = writers is not None
        self._writers = writers or WriterSchemas()

    @property
    def reasons(self) -> tuple[str, ...]:
        """Reject reasons, indexed by code - 1."""
        return REASONS

    def decode_keyed(self, keys: pa.BinaryArray, values: pa.BinaryArray) -> Decoded:
        """Decode (n,) records; see the module for the columns."""
        reasons = np.zeros(len(values), np.uint8)
        if values.null_count:
            reasons[_nulls(values)] = _REASON["no_value"]
            values = pc.fill_null(values, b"")
        events = self._read(values, reasons)

        def judge(reason: str, where: NDArray[np.bool_]) -> None:
            reasons[where & (reasons == 0)] = _REASON[reason]

        judge("undecodable", events.faults == UNREADABLE)
        devices, names = _devices(keys, judge)
        judge("missing_sensor", events.faults == NO_SENSOR)
        judge("invalid_sensor", events.faults == INVALID_SENSOR)
        judge("invalid_timestamp", (events.time_ms < 0) | (events.time_ms >= _YEAR_10000_MS))
        judge("value_not_finite", ~np.isfinite(events.value))
        columns: dict[str, NDArray[Any]] = {
            "kind": events.kind,
            "sensor": events.sensor,
            "value": events.value,
        }
        return Decoded(events.time_ms, devices, names, columns, reasons)

    def _read(self, values: pa.BinaryArray, reasons: NDArray[np.uint8]) -> DeviceEvents:
        """Read values without nulls; those that cannot be read at all get a reason."""
        writers = self._writers
        if not self._is_framed:
            shape = np.full(len(values), OURS, np.int32)
            return read_device_events(values, writers.kind_of, shape, 0)
        writers.start_batch()
        ids, of_id = np.unique(read_schema_ids(values), return_inverse=True)
        index_of = [UNKNOWN if i == NO_HEADER else writers.index(i) for i in ids.tolist()]
        shape = np.array(index_of, np.int32)[of_id]
        reasons[(ids[of_id] == NO_HEADER) & (reasons == 0)] = _REASON["no_wire_header"]
        reasons[(shape == UNKNOWN) & (reasons == 0)] = _REASON["unknown_schema"]
        reasons[(shape == INCOMPATIBLE) & (reasons == 0)] = _REASON["incompatible_schema"]
        events = read_device_events(values, writers.kind_of, shape, HEADER_BYTES)
        for i in np.flatnonzero(shape == FOREIGN).tolist():
            self._read_foreign(values[i].as_py(), int(ids[of_id[i]]), i, events, reasons)
        return events

    def _read_foreign(
        self, value: bytes, schema_id: int, i: int, events: DeviceEvents, reasons: NDArray[np.uint8]
    ) -> None:
        """Put in place what the library reads."""
        try:
            event = read_by_library(value[HEADER_BYTES:], self._writers.foreign(schema_id))
        except SchemaResolutionError:
            reasons[i] = _REASON["incompatible_schema"]
            return
        if event is None:
            events.faults[i] = UNREADABLE
            return
        events.kind[i], events.value[i], events.time_ms[i] = event.kind, event.value, event.time_ms
        if event.kind == DATA_RECEIVED:
            events.faults[i] = _sensor_fault(event.sensor)
            if not events.faults[i]:
                events.sensor[i] = sensor_words([event.sensor.encode()])[0]


def _nulls(column: pa.BinaryArray) -> NDArray[np.bool_]:
    flags: NDArray[np.bool_] = column.is_null().to_numpy(zero_copy_only=False)
    return flags


def _devices(
    keys: pa.BinaryArray, judge: Callable[[str, NDArray[np.bool_]], None]
) -> tuple[NDArray[np.int32], list[str]]:
    """Codes and names of (n,) devices."""
    if keys.null_count:
        judge("missing_device", _nulls(keys))
        keys = pc.fill_null(keys, b"")
    offsets, _ = binary_views(keys)
    ends = offsets.astype(np.int64)
    odd = np.zeros(len(keys), bool)
    codes, names = intern_keys(keys, ends[:-1], ends[1:], odd)
    judge("missing_device", np.diff(ends) == 0)
    judge("invalid_device", odd)
    return codes, names


def _sensor_fault(name: str) -> int:
    if not name:
        return NO_SENSOR
    return OK if is_key(name) and len(name.encode()) <= SENSOR_BYTES else INVALID_SENSOR


def decode_one(key: bytes | None, value: bytes | None) -> DeviceEvent:
    """The reference decoder: one record of `devices.avsc` without header, by the library."""

    def rejected(reason: str) -> DeviceEvent:
        return DeviceEvent(reason, "", 0, "", 0.0, 0)

    if value is None:
        return rejected("no_value")
    event = read_by_library(value)
    if event is None:
        return rejected("undecodable")
    if not key:
        return rejected("missing_device")
    try:
        device = key.decode()
    except UnicodeDecodeError:
        return rejected("invalid_device")
    fault = _sensor_fault(event.sensor) if event.kind == DATA_RECEIVED else OK
    checks = (
        ("invalid_device", not is_key(device)),
        ("missing_sensor", fault == NO_SENSOR),
        ("invalid_sensor", fault == INVALID_SENSOR),
        ("invalid_timestamp", not 0 <= event.time_ms < _YEAR_10000_MS),
        ("value_not_finite", not math.isfinite(event.value)),
    )
    for reason, applies in checks:
        if applies:
            return rejected(reason)
    return DeviceEvent("", device, *event)
