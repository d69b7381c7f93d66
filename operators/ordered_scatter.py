"""Map side of an ordered fold: the events of a batch, as columns, to the shards of their keys.

What it computes. Each shard gets its keys' records of the batch, in log order, with the
partition's watermark. A record behind its arrival watermark is late: everything before that
may have been folded already, so it cannot be put in order any more. Late and rejected
records leave on lanes of their own; every record of the log ends in exactly one of the
three (the conservation law), and is counted there.

Contract. Stateless: what leaves is a function of the batch. A shard hears of a watermark
whenever it reaches a new tick, whether it gets records or not.

Cost: a radix sort of shard numbers, then one NumPy pass per column.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import bytewax.operators as op
import numpy as np
import pyarrow as pa
from bytewax.dataflow import Stream
from bytewax.operators import KeyedStream
from numpy.typing import NDArray

from operators.asides import apart, asides
from operators.ordered_fold import EventShape
from operators.shards import Shards, shard_key
from schemas.origin import Origin
from schemas.stream import Events, Int64s, Output

__all__ = ["Scatter", "ScatterRule", "ShardEvents", "scatter"]


@dataclass(frozen=True, slots=True)
class ScatterRule:
    """Parameters of the map side.

    Attributes:
        flow: name, for the late stream and metrics.
        topic: the log's name, for the late stream.
        shards: number of shards; never changes for a flow version.
        tick_ms: shards hear of a watermark when it reaches a new tick.
        with_values: whether shards get the records' raw bytes too.
    """

    flow: str
    topic: str
    shards: int = 8
    tick_ms: int = 1_000
    with_values: bool = False


@dataclass(frozen=True, slots=True)
class ShardEvents:
    """What one batch of one source partition means to one shard.

    Attributes:
        shard: number of the shard.
        partition: the source partition.
        watermark_ms: its watermark, rounded down to a tick.
        names: keys.
        keys: (m,) int64, index into `names` of each record.
        event_time_ms: (m,) int64.
        offsets: (m,) int64, rising.
        columns: (m,) arrays of the codec, those that the fold reads.
        ended: the partition is finished.
        values: (m,) Arrow binary, the bytes as they came; None where nobody asked for them.
        origin: the batch, for metrics and traces.
    """

    shard: int
    partition: int
    watermark_ms: int
    names: list[str]
    keys: Int64s
    event_time_ms: Int64s
    offsets: Int64s
    columns: Mapping[str, NDArray[Any]]
    ended: bool
    values: pa.BinaryArray | None = None
    origin: Origin | None = field(default=None, compare=False, repr=False)


class Scatter:
    """The function of the step; remembers only what saves work.

    Args:
        fold: what the events are for.
        rule: parameters.
    """

    def __init__(self, fold: EventShape, rule: ScatterRule) -> None:
        self._rule = rule
        self._columns = (*fold.columns, *([fold.sequence] if fold.sequence else []))
        self._shards = Shards(rule.shards, rule.tick_ms)

    def __call__(self, events: Events) -> list[tuple[str, ShardEvents | Output]]:
        """Items for the shards (by shard key) and for the sinks (by lane)."""
        rule = self._rule
        late = events.event_time_ms < events.watermark_ms
        out: list[tuple[str, ShardEvents | Output]] = []
        out.extend(self._to_shards(events, late))
        out.extend(asides(rule.flow, rule.topic, events, np.flatnonzero(late)))
        return out

    def _to_shards(self, events: Events, late: NDArray[np.bool_]) -> list[tuple[str, ShardEvents]]:
        """Cut the records on time by shard, in log order within each."""
        count = self._shards.count
        used = np.zeros(len(events.key_names), bool)
        used[events.key_codes[~late]] = True
        names, name_bounds, place = self._shards.arrange(events.key_names, used)
        places = place[events.key_codes]
        shard_of_name = np.repeat(np.arange(count, dtype=np.uint16), np.diff(name_bounds))
        shard_of = np.full(len(late), count, np.uint16)  # late ones sort behind all shards
        shard_of[~late] = shard_of_name[places[~late]]
        order = np.argsort(shard_of, kind="stable")
        bounds = np.searchsorted(shard_of[order], np.arange(count + 1))
        places = places[order]
        event_time_ms = events.event_time_ms[order]
        offsets = events.offsets[order]
        needed = self._columns if len(order) else ()  # an empty batch has no columns
        columns = {name: events.columns[name][order] for name in needed}
        watermark_ms, news = self._shards.watermark(events)
        with_values = self._rule.with_values
        out = []
        for shard in range(count):
            first, last = bounds[shard], bounds[shard + 1]
            if first == last and not news:
                continue
            first_name, last_name = name_bounds[shard], name_bounds[shard + 1]
            item = ShardEvents(
                shard,
                events.partition,
                watermark_ms,
                names[first_name:last_name],
                places[first:last] - first_name,
                event_time_ms[first:last],
                offsets[first:last],
                {name: column[first:last] for name, column in columns.items()},
                events.ended,
                # Taken shard by shard: a slice would drag along all of the batch's bytes.
                events.values.take(pa.array(order[first:last])) if with_values else None,
                events.origin,
            )
            out.append((shard_key(shard), item))
        return out


def scatter(
    step_id: str, up: Stream[Events], fold: EventShape, rule: ScatterRule
) -> tuple[KeyedStream[ShardEvents], KeyedStream[Output]]:
    """Records by shard key; late and rejected rows by lane.

    Args:
        step_id: unique name; state and recovery do not depend on it.
        up: batches of a source.
        fold: what the events are for.
        rule: parameters.
    """
    return apart(step_id, op.flat_map(step_id, up, Scatter(fold, rule)), ShardEvents)
