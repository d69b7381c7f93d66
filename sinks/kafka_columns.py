"""Rows handed to the Kafka producer as columns: one compiled loop, no object per record.

The records of a route that can give them as columns go to librdkafka by
`rd_kafka_produceva`, with the interpreter's lock let go; all else of a transaction is the
stock client's. Contract: what is written is what `KafkaRoute.records` would bring, record by
record. Layouts and calls: rdkafka.h of librdkafka 2.x; where the producer keeps its handle:
`Handle` in confluent_kafka.h, whose first member it is.
"""

import ctypes
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import pyarrow as pa
from confluent_kafka import KafkaError, KafkaException, Producer
from numba import njit
from numpy.typing import NDArray

from schemas.librdkafka import address_of, call_3, load
from schemas.stream import Int64s, Output
from sinks.kafka_records import KafkaRoute

__all__ = ["ColumnRecords", "ColumnRoute", "compile_produce", "produce_columns"]

_POINTER, _NUMBER = ctypes.c_void_p, ctypes.c_int
_LIBRARY = load(
    {
        "rd_kafka_produceva": (_POINTER, [_POINTER, _POINTER, ctypes.c_size_t]),
        "rd_kafka_error_code": (_NUMBER, [_POINTER]),
        "rd_kafka_error_string": (ctypes.c_char_p, [_POINTER]),
        "rd_kafka_error_destroy": (None, [_POINTER]),
    }
)
_HANDLE_BYTES = object.__basicsize__  # what a Python object begins with

# rd_kafka_vu_t: a tag and what it is of, 9 words in all. The tags that are used here:
_TOPIC, _PARTITION, _VALUE, _KEY, _FLAGS, _TIMESTAMP = 1, 3, 4, 5, 7, 8
_TAGS = (_TOPIC, _PARTITION, _FLAGS, _TIMESTAMP, _VALUE, _KEY)
_WORDS = 9
_COPY = 2  # RD_KAFKA_MSG_F_COPY
_POLL_S = 0.05


class ColumnRecords(NamedTuple):
    """n records of one topic, without headers; see `sinks.kafka_records.KafkaRecord`.

    Attributes:
        topic: one of the route's topics.
        keys: (n,) text or bytes without nulls.
        values: (n,) bytes without nulls.
        timestamps_ms: (n,) int64.
    """

    topic: str
    keys: pa.Array
    values: pa.Array
    timestamps_ms: Int64s


@runtime_checkable
class ColumnRoute(KafkaRoute, Protocol):
    """A route that can give its records as columns."""

    @property
    def has_columns(self) -> bool:
        """Whether it can."""
        ...

    def columns(self, rows: pa.RecordBatch) -> ColumnRecords:
        """What `records` would give."""
        ...


@njit(cache=True, nogil=True)
def _produce(
    function: int,
    handle: int,
    units: NDArray[np.int64],
    partitions: NDArray[np.int64],
    timestamps_ms: NDArray[np.int64],
    values: int,
    value_ends: NDArray[np.int64],
    keys: int,
    key_ends: NDArray[np.int64],
    first: int,
) -> tuple[int, int]:
    """Produce records from `first` on; the first that was refused, and the error's address."""
    for i in range(first, len(partitions)):
        units[1, 1] = partitions[i]
        units[3, 1] = timestamps_ms[i]
        units[4, 1] = values + value_ends[i]
        units[4, 2] = value_ends[i + 1] - value_ends[i]
        units[5, 1] = keys + key_ends[i]
        units[5, 2] = key_ends[i + 1] - key_ends[i]
        error = call_3(function, handle, units.ctypes.data, len(units))
        if error != 0:
            return i, error
    return len(partitions), 0


def compile_produce() -> None:
    """Have the loop compiled, by a call with no records."""
    none, ends = np.zeros(0, np.int64), np.zeros(1, np.int64)
    units = np.zeros((len(_TAGS), _WORDS), np.int64)
    _produce(0, 0, units, none, none, 0, ends, 0, ends, 0)


def produce_columns(
    producer: Producer, outputs: Sequence[Output], routes: Mapping[str, KafkaRoute]
) -> list[Output]:
    """Produce the outputs whose routes can give columns; returns the others.

    Args:
        producer: of the stock client.
        outputs: those of one kind have one schema.
        routes: by kind.

    Raises:
        KafkaException: The client refuses a record.
    """
    kinds: defaultdict[str, list[Output]] = defaultdict(list)
    for output in outputs:
        kinds[output.kind].append(output)
    left = []
    for kind, items in kinds.items():
        route = routes[kind]
        if _LIBRARY is None or not isinstance(route, ColumnRoute) or not route.has_columns:
            left += items
            continue
        counts = [item.rows.num_rows for item in items]
        partitions = np.repeat([item.partition for item in items], counts)
        rows = pa.Table.from_batches([item.rows for item in items]).combine_chunks()
        # One batch, but for values beyond what one array can hold.
        for batch in rows.to_batches():
            here, partitions = np.split(partitions, [batch.num_rows])
            _produce_all(producer, route.columns(batch), here)
    return left


def _produce_all(producer: Producer, records: ColumnRecords, partitions: Int64s) -> None:
    assert _LIBRARY is not None  # noqa: S101  # as the caller has seen
    topic = ctypes.create_string_buffer(records.topic.encode())
    units = np.zeros((len(_TAGS), _WORDS), np.int64)
    units[:, 0] = _TAGS
    units[0, 1] = ctypes.addressof(topic)
    units[2, 1] = _COPY
    value_ends, values = _bytes(records.values)
    key_ends, keys = _bytes(records.keys)
    n, done = len(records.keys), 0
    handle = ctypes.c_int64.from_address(id(producer) + _HANDLE_BYTES).value
    while done < n:
        done, error = _produce(
            address_of(_LIBRARY.rd_kafka_produceva),
            handle,
            units,
            partitions,
            np.maximum(records.timestamps_ms, 1),
            values.ctypes.data,
            value_ends,
            keys.ctypes.data,
            key_ends,
            done,
        )
        if error:
            code = _LIBRARY.rd_kafka_error_code(error)
            text = _LIBRARY.rd_kafka_error_string(error).decode()
            _LIBRARY.rd_kafka_error_destroy(error)
            if code != KafkaError._QUEUE_FULL:  # noqa: SLF001  # its public name
                raise KafkaException(KafkaError(code, text))
            producer.poll(_POLL_S)  # let it send


def _bytes(column: pa.Array) -> tuple[Int64s, NDArray[np.uint8]]:
    """(n + 1,) where each text of a column starts and ends, and the bytes they lie in."""
    is_large = pa.types.is_large_binary(column.type) or pa.types.is_large_string(column.type)
    _, ends, data = column.buffers()
    places = np.frombuffer(ends, np.int64 if is_large else np.int32)
    places = places[column.offset : column.offset + len(column) + 1]
    # A text of no bytes is not the same as none: there must be an address for it.
    return places.astype(np.int64), np.frombuffer(data or b"\0", np.uint8)
