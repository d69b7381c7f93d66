"""What travels between the steps of a flow: columns, not objects.

`Fetched` leaves a fetcher, `Decoded` a codec, `Events` a source partition and `Output` an
operator for the sinks. All arrays of one item have the same length n, in log order.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from schemas.origin import Origin

__all__ = [
    "NEVER",
    "OFFSET_BITS",
    "Codec",
    "Decoded",
    "Events",
    "Fetched",
    "FlowIdentity",
    "Int64s",
    "KeyedCodec",
    "Output",
    "lane_name",
]

Int64s = NDArray[np.int64]

NEVER: int = -(2**62)
"""A position or watermark before every other; differences to event times do not overflow."""

OFFSET_BITS: int = 48
"""A place in the log is partition * 2**48 + offset, as one int64."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """Records as they lie in one partition of a log.

    Attributes:
        values: (n,) Arrow binary; null for a record without a value (tombstone).
        offsets: (n,) int64, rising, possibly with holes.
        timestamps_ms: (n,) int64, the log's own timestamp of each record; -1 when unknown.
        keys: (n,) Arrow binary, null for a record without a key; None from a log that was
            opened without its keys.
    """

    values: pa.BinaryArray
    offsets: Int64s
    timestamps_ms: Int64s
    keys: pa.BinaryArray | None = None

    def __getitem__(self, part: slice) -> "Fetched":
        """Some of the records."""
        keys = None if self.keys is None else self.keys[part]
        return Fetched(self.values[part], self.offsets[part], self.timestamps_ms[part], keys)


@dataclass(frozen=True, slots=True)
class Decoded:
    """What a codec made of `Fetched.values`.

    Attributes:
        event_time_ms: (n,) int64; anything where `reasons` is not 0.
        key_codes: (n,) int32, index into `key_names`; anything where `reasons` is not 0.
        key_names: the distinct keys of this batch.
        columns: (n,) arrays by name, for the operator.
        reasons: (n,) uint8: 0 for a good record, else 1 + index into the codec's `reasons`.
    """

    event_time_ms: Int64s
    key_codes: NDArray[np.int32]
    key_names: list[str]
    columns: Mapping[str, NDArray[Any]]
    reasons: NDArray[np.uint8]


class Codec(Protocol):
    """Decodes values to columns.

    Contract: never raises for bad data; a bad record gets a reason and does not disturb
    its neighbours.
    """

    @property
    def reasons(self) -> tuple[str, ...]:
        """The codec's reject reasons, snake_case."""
        ...

    def decode(self, values: pa.BinaryArray) -> Decoded:
        """Decode (n,) values, null for a missing one."""
        ...


@runtime_checkable
class KeyedCodec(Protocol):
    """Decodes values whose business key is the record's; otherwise as `Codec`."""

    @property
    def reasons(self) -> tuple[str, ...]:
        """The codec's reject reasons, snake_case."""
        ...

    def decode_keyed(self, keys: pa.BinaryArray, values: pa.BinaryArray) -> Decoded:
        """Decode (n,) records, null for a missing key or value."""
        ...


@dataclass(frozen=True, slots=True)
class Events:
    """A batch of one source partition: good records as columns, bad ones aside.

    Attributes:
        partition: number of the source partition.
        offsets: (n,) int64 of the good records.
        event_time_ms: (n,) int64.
        watermark_ms: (n,) int64, arrival watermark of each: the one just before it.
        key_codes: (n,) int32 into `key_names`.
        key_names: distinct keys.
        columns: (n,) arrays of the codec.
        values: (n,) Arrow binary, the bytes as they came (for the late stream).
        watermark_after_ms: the partition's watermark after this batch.
        read: records read for this batch, good and bad.
        rejected: rows for the dead letters, see `schemas.tables.REJECTED`; None without any.
        rejected_offsets: (m,) int64 of the rejected records.
        ended: the partition is finished (STOP_AT_END): no record will follow in this run.
        replayed: all of it was processed before a restart, and is read again for the sake of
            operators that keep no copy of it.
        origin: for metrics and traces, no part of what is computed.
    """

    partition: int
    offsets: Int64s
    event_time_ms: Int64s
    watermark_ms: Int64s
    key_codes: NDArray[np.int32]
    key_names: list[str]
    columns: Mapping[str, NDArray[Any]]
    values: pa.BinaryArray
    watermark_after_ms: int
    read: int
    rejected: pa.RecordBatch | None = None
    rejected_offsets: Int64s | None = None
    ended: bool = False
    replayed: bool = False
    origin: Origin | None = field(default=None, compare=False, repr=False)


def lane_name(kind: str, partition: int) -> str:
    """Name of a lane in the progress store, such as `results-03`."""
    return f"{kind}-{partition:02d}"


@dataclass(frozen=True, slots=True)
class Output:
    """Rows of one lane, in order, for the sinks.

    Contract: all rows of one position are in one item, and positions never fall along a
    lane, so a sink that drops rows at or below its stored position drops exactly what it
    has already written.

    Attributes:
        kind: which stream of the flow: `results`, `late`, `rejected`, or one that a flow has
            besides, such as `events`.
        partition: shard (results) or source partition (late, rejected); also the number of
            the Kafka partition the rows belong to.
        positions: (n,) int64, non-decreasing: the tick or offset of each row.
        position: the lane's position once this item is written, >= positions[-1].
        rows: n rows with the columns of the stream's table.
        key: what a lane of its own is named after, such as an instrument, without a slash;
            None for the lane of the partition.
        origin: the batch that completed these rows, for metrics and traces; no part of them.
    """

    kind: str
    partition: int
    positions: Int64s
    position: int
    rows: pa.RecordBatch
    key: str | None = None
    origin: Origin | None = field(default=None, compare=False, repr=False)

    @property
    def lane(self) -> str:
        """The lane this item belongs to."""
        if self.key is None:
            return lane_name(self.kind, self.partition)
        return f"{self.kind}-{self.key}"

    def after(self, position: int) -> "Output | None":
        """The part that lies after `position`; None when nothing does."""
        if position >= self.position:
            return None
        first = int(np.searchsorted(self.positions, position, side="right"))
        if first == 0:
            return self
        return replace(self, positions=self.positions[first:], rows=self.rows[first:])


@dataclass(frozen=True, slots=True)
class FlowIdentity:
    """Whose progress it is, and what defines the output.

    Attributes:
        name: flow, such as `candles`.
        version: `FLOW_VERSION`; another version has its own progress.
        fingerprint: JSON-able settings that define the output: inputs and their partition
            counts, shards, window parameters.
    """

    name: str
    version: str
    fingerprint: Mapping[str, Any] = field(default_factory=dict)

    @property
    def flow_id(self) -> str:
        """Name for recovery stores and transactional ids."""
        return f"{self.name}-v{self.version}"
