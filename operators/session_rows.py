"""Sessions and re-keyed events of a shard as rows of their streams.

A session is named by its first event: `<event time, epoch ms>-<partition>-<offset>`, unique
within the device and the same in every run. The key of a re-keyed event is
`<device>/<session id>`; no id holds a slash, so the last one parts them.
"""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from operators.ordered_buffer import InOrder
from operators.sessions import REASONS, UP, Folded
from schemas.device_wire import SENSOR_BYTES
from schemas.sessions import SENSOR, SESSION_EVENT_SCHEMA, SESSION_SCHEMA
from schemas.stream import OFFSET_BITS, Int64s

__all__ = ["lower_events", "lower_sessions"]

_UTC_MS = pa.timestamp("ms", tz="UTC")
_OFFSETS = 2**OFFSET_BITS - 1


def _joined(parts: list[pa.Array], by: str) -> pa.StringArray:
    return pc.binary_join_element_wise(*(part.cast(pa.string()) for part in parts), by)


def _ids(starts: Int64s, places: Int64s) -> pa.StringArray:
    """(n,) session ids."""
    numbers = (starts, places >> OFFSET_BITS, places & _OFFSETS)
    return _joined([pa.array(number) for number in numbers], "-")


def lower_sessions(folded: Folded, names: pa.StringArray) -> pa.RecordBatch:
    """(r,) rows of `SESSION_SCHEMA`.

    Args:
        folded: its rows, each with its sensors.
        names: devices by key code.
    """
    rows = folded.rows
    counts = rows["sensor_count"]
    ends = np.cumsum(counts)
    at = np.arange(ends[-1]) + np.repeat(rows["sensors"] - (ends - counts), counts)
    columns = [
        names.take(pa.array(rows["key"])),
        _ids(rows["start"], rows["place"]),
        pa.array(rows["start"]).cast(_UTC_MS),
        pa.array(rows["ended"]).cast(_UTC_MS),
        pa.array(REASONS).take(pa.array(rows["reason"])),
        pa.array(rows["count"]),
        _sensors(folded.sensors[at], ends),
        pa.array(rows["revision"]),
    ]
    return pa.record_batch(columns, schema=SESSION_SCHEMA)


def _sensors(cells: NDArray[Any], ends: Int64s) -> pa.MapArray:
    """Maps from name to figures; session i has the cells before `ends[i]`."""
    # Rounding must not bring a mean out of what it is the mean of.
    mean = np.clip(cells["total"] / cells["count"] * UP, cells["min"], cells["max"])
    figures = [cells["count"], cells["min"], cells["max"], mean, cells["last"]]
    offsets = np.concatenate(([0], ends)).astype(np.int32)
    return pa.MapArray.from_arrays(
        pa.array(offsets),
        _texts(cells["name"]),
        pa.StructArray.from_arrays([pa.array(figure) for figure in figures], fields=list(SENSOR)),
    )


def _texts(words: NDArray[np.uint64]) -> pa.StringArray:
    """(s,) names of (s, 8) words; few are distinct."""
    data = pa.py_buffer(words.astype(">u8"))
    packed = pa.Array.from_buffers(pa.binary(SENSOR_BYTES), len(words), [None, data])
    encoded = packed.dictionary_encode()
    names = [name.rstrip(b"\0").decode() for name in encoded.dictionary.to_pylist()]
    return pa.array(names, pa.string()).take(encoded.indices)


def lower_events(events: InOrder, folded: Folded, names: pa.StringArray) -> pa.RecordBatch:
    """(n,) rows of `SESSION_EVENT_SCHEMA`.

    Args:
        events: with their bytes.
        folded: says which session each belongs to.
        names: devices by key code.
    """
    devices = names.take(pa.array(events.keys))
    keys = _joined([devices, _ids(folded.starts, folded.places)], "/")
    columns = [keys, pa.array(events.event_time_ms).cast(_UTC_MS), events.values]
    return pa.record_batch(columns, schema=SESSION_EVENT_SCHEMA)
