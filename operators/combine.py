"""Map side of a pane aggregate: batches of events to partials for the shards.

What it computes. Each batch becomes partials, one per (key, pane, effective tick), sent to
the shard of their key together with the partition's watermark; late and rejected records
leave beside them, on lanes of their own. Every record of the log ends in exactly one of
the three (the conservation law), and is counted there.

Contract. Stateless: what leaves is a function of the batch. A shard hears of a watermark
whenever it reaches a new tick, whether it gets rows or not.

Cost: two compiled passes over the events, then NumPy over the partials only.
"""

from dataclasses import dataclass, field
from typing import Any

import bytewax.operators as op
import numpy as np
from bytewax.dataflow import Stream
from bytewax.operators import KeyedStream
from numpy.typing import NDArray

from operators.aggregate import Aggregate, partial_dtype
from operators.asides import apart, asides
from operators.panes import group
from operators.shards import Shards, shard_key
from operators.watermark import effective_ticks
from schemas.origin import Origin
from schemas.stream import Events, Output

__all__ = ["Combine", "CombineRule", "PanePartials", "combine"]


@dataclass(frozen=True, slots=True)
class CombineRule:
    """Parameters of the map side.

    Attributes:
        flow: name, for the late stream and metrics.
        topic: the log's name, for the late stream.
        shards: number of shards; never changes for a flow version.
        pane_ms: length of pane and tick.
        horizon_ms: the correction horizon.
    """

    flow: str
    topic: str
    shards: int = 8
    pane_ms: int = 1_000
    horizon_ms: int = 300_000


@dataclass(frozen=True, slots=True)
class PanePartials:
    """What one batch of one source partition means to one shard.

    Attributes:
        shard: number of the shard.
        partition: the source partition.
        watermark_ms: its watermark, rounded down to a tick.
        names: keys.
        partials: (m,) partials whose `key` indexes `names`.
        ended: the partition is finished.
        origin: the batch, for metrics and traces.
    """

    shard: int
    partition: int
    watermark_ms: int
    names: list[str]
    partials: NDArray[Any]
    ended: bool
    origin: Origin | None = field(default=None, compare=False, repr=False)


class Combine:
    """The function of the step; remembers only what saves work.

    Args:
        aggregate: what to compute.
        rule: parameters.
    """

    def __init__(self, aggregate: Aggregate, rule: CombineRule) -> None:
        self._aggregate = aggregate
        self._rule = rule
        self._shards = Shards(rule.shards, rule.pane_ms)

    def __call__(self, events: Events) -> list[tuple[str, PanePartials | Output]]:
        """Items for the shards (by shard key) and for the sinks (by lane)."""
        rule = self._rule
        ticks, late = effective_ticks(
            events.event_time_ms, events.watermark_ms, rule.pane_ms, rule.horizon_ms
        )
        groups = group(
            events.key_codes, len(events.key_names), events.event_time_ms, ticks, rule.pane_ms
        )
        partials = (
            self._aggregate.lift(events, groups)
            if len(events.offsets)
            else np.zeros(0, partial_dtype(self._aggregate))
        )
        late_at = np.flatnonzero(groups.slots < 0) if late else np.empty(0, np.int64)
        out: list[tuple[str, PanePartials | Output]] = []
        out.extend(self._to_shards(events, partials))
        out.extend(asides(rule.flow, rule.topic, events, late_at))
        return out

    def _to_shards(self, events: Events, partials: NDArray[Any]) -> list[tuple[str, PanePartials]]:
        """Cut the partials by shard."""
        used = np.zeros(len(events.key_names), bool)
        used[partials["key"]] = True
        names, name_bounds, place = self._shards.arrange(events.key_names, used)
        places = place[partials["key"]]
        order = np.argsort(places, kind="stable")
        partials = partials[order]
        places = places[order]
        bounds = np.searchsorted(places, name_bounds)
        watermark_ms, news = self._shards.watermark(events)
        out = []
        for shard in range(self._shards.count):
            first, last = bounds[shard], bounds[shard + 1]
            if first == last and not news:
                continue
            first_name, last_name = name_bounds[shard], name_bounds[shard + 1]
            own = partials[first:last]
            own["key"] = places[first:last] - first_name
            own_names = names[first_name:last_name]
            item = PanePartials(
                shard,
                events.partition,
                watermark_ms,
                own_names,
                own,
                events.ended,
                events.origin,
            )
            out.append((shard_key(shard), item))
        return out


def combine(
    step_id: str, up: Stream[Events], aggregate: Aggregate, rule: CombineRule
) -> tuple[KeyedStream[PanePartials], KeyedStream[Output]]:
    """Partials by shard key; late and rejected rows by lane.

    Args:
        step_id: unique name; state and recovery do not depend on it.
        up: batches of a source.
        aggregate: what to compute.
        rule: parameters.
    """
    return apart(step_id, op.flat_map(step_id, up, Combine(aggregate, rule)), PanePartials)
