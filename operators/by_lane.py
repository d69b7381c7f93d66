"""Cuts batches of a feed into items of one instrument each, whose lane is the instrument.

What of an instrument follows by sequence number has a lane of its own: its position is the
sequence, so that a repetition is dropped by the instrument's own progress, whatever the
others did. Its partition is where a Kafka Java client would put the instrument as a key.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

import bytewax.operators as op
import pyarrow as pa
import pyarrow.compute as pc
from bytewax.dataflow import Stream
from bytewax.operators import KeyedStream

from schemas import tracing
from schemas.murmur2 import partition_of
from schemas.origin import Origin
from schemas.stream import Output
from schemas.tracing import MOST_LANES, Attribute

__all__ = ["by_lane"]


def by_lane(
    step_id: str,
    batches: Stream[pa.RecordBatch],
    *,
    flow: str,
    key: str,
    position: str,
    at: str,
    partitions: int,
    clock: Callable[[], float] = time.time,
) -> KeyedStream[Output]:
    """Items `(lane, Output)` of kind `results`.

    Args:
        step_id: of the step.
        flow: name, for traces.
        batches: rows of one key lie together, in order of their position, which rises.
        key: text column, such as `instrument`.
        position: int64 column, such as `trade_seq`.
        at: timestamp column, ms: when the feed's own log has the row; for metrics.
        partitions: of the output topic.
        clock: seconds since the epoch, for metrics.
    """
    homes: dict[str, int] = {}

    def cut(batch: pa.RecordBatch) -> list[tuple[str, Output]]:
        runs = pc.run_end_encode(batch[key])
        positions = batch[position].to_numpy()
        origin = Origin(clock(), pc.max(batch[at]).cast(pa.int64()).as_py())
        span = tracing.batch(origin.read_s)
        ends = runs.run_ends.to_pylist()
        items = []
        for name, (first, end) in zip(runs.values.to_pylist(), pairwise([0, *ends]), strict=True):
            home = homes.get(name)
            if home is None:
                home = homes[name] = partition_of(name.encode(), partitions)
            own = positions[first:end]
            rows = batch[first:end]
            items.append(Output("results", home, own, int(own[-1]), rows, key=name, origin=origin))
        if span is not None:
            traced = origin._replace(spans=(span.end(_attributes(flow, items)),))
            items = [replace(item, origin=traced) for item in items]
        return [(item.lane, item) for item in items]

    return op.flat_map(step_id, batches, cut)


def _attributes(flow: str, items: Sequence[Output]) -> dict[str, Attribute]:
    """What a span says of a batch; positions are sequence numbers."""
    named = items[:MOST_LANES]
    return {
        "tidemark.flow": flow,
        "tidemark.records": sum(item.rows.num_rows for item in items),
        "tidemark.lane_count": len(items),
        "tidemark.lanes": [item.lane for item in named],
        "tidemark.first_positions": [int(item.positions[0]) for item in named],
        "tidemark.last_positions": [item.position for item in named],
    }
