"""What leaves a map side beside the shards: late and rejected records, counted.

Every record of the log ends in exactly one place: a shard, the late stream or the dead
letters (the conservation law). Late and rejected ones leave on lanes of their source
partition, by offset.
"""

from typing import TypeVar

import bytewax.operators as op
import numpy as np
import pyarrow as pa
from bytewax.dataflow import Stream
from bytewax.operators import KeyedStream
from numpy.typing import NDArray

from operators.metrics import AGGREGATED, LATE
from schemas.stream import Events, Output
from schemas.tables import LATE_SCHEMA, REJECTED_SCHEMA

__all__ = ["apart", "asides"]

_UTC_MS = pa.timestamp("ms", tz="UTC")

ForShard = TypeVar("ForShard")


def asides(
    flow: str, topic: str, events: Events, late: NDArray[np.int64]
) -> list[tuple[str, Output]]:
    """The late and the rejected records of a batch, by lane; counts all good ones.

    Args:
        flow: name, for both streams and metrics.
        topic: the log's name, for the late stream.
        events: the batch.
        late: indices of its late records, rising.
    """
    partition = str(events.partition)
    AGGREGATED.labels(flow, partition).inc(len(events.offsets) - len(late))
    LATE.labels(flow, partition).inc(len(late))  # shown as 0, so that the first one is a rise
    out = []
    if len(late):
        offsets = events.offsets[late]
        rows = _late_rows(flow, topic, events, late)
        aside = Output(
            "late", events.partition, offsets, int(offsets[-1]), rows, origin=events.origin
        )
        out.append((aside.lane, aside))
    if events.rejected is not None and events.rejected_offsets is not None:
        last = int(events.rejected_offsets[-1])
        # Several flows of one log each have their own dead letters.
        names = pa.array([flow] * events.rejected.num_rows, pa.string())
        rows = events.rejected.set_column(0, REJECTED_SCHEMA.field("flow"), names)
        aside = Output(
            "rejected",
            events.partition,
            events.rejected_offsets,
            last,
            rows,
            origin=events.origin,
        )
        out.append((aside.lane, aside))
    return out


def _late_rows(flow: str, topic: str, events: Events, at: NDArray[np.int64]) -> pa.RecordBatch:
    event_time_ms = events.event_time_ms[at]
    watermark_ms = events.watermark_ms[at]
    n = len(at)
    return pa.record_batch(
        [
            pa.array([flow] * n),
            pa.array([topic] * n),
            pa.array([events.partition] * n, pa.int32()),
            pa.array(events.offsets[at]),
            pa.array([events.key_names[c] for c in events.key_codes[at]], pa.string()),
            pa.array(event_time_ms).cast(_UTC_MS),
            pa.array(watermark_ms).cast(_UTC_MS),
            pa.array(watermark_ms - event_time_ms),
            events.values.take(pa.array(at)),
        ],
        schema=LATE_SCHEMA,
    )


def apart(
    step_id: str, items: Stream[tuple[str, ForShard | Output]], for_shard: type[ForShard]
) -> tuple[KeyedStream[ForShard], KeyedStream[Output]]:
    """What a map side makes: items for the shards by shard key, and asides by lane.

    Args:
        step_id: unique name of the map side's step.
        items: of both kinds.
        for_shard: type of those for the shards.
    """

    def shards_only(item: tuple[str, ForShard | Output]) -> tuple[str, ForShard] | None:
        key, value = item
        return (key, value) if isinstance(value, for_shard) else None

    return (
        op.filter_map(f"{step_id}_shards", items, shards_only),
        op.filter_map(f"{step_id}_asides", items, _asides_only),
    )


def _asides_only(item: tuple[str, ForShard | Output]) -> tuple[str, Output] | None:
    key, value = item
    return (key, value) if isinstance(value, Output) else None
