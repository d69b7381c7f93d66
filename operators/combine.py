"""Map side of a pane aggregate: batches of events to partials for the shards.

What it computes. Each batch becomes partials, one per (key, pane, effective tick), sent to
the shard of their key together with the partition's watermark; late and rejected records
leave beside them, on lanes of their own. Every record of the log ends in exactly one of
the three (the conservation law), and is counted there.

Contract. Stateless: what leaves is a function of the batch. A shard hears of a watermark
whenever it reaches a new tick, whether it gets rows or not.

Cost: two compiled passes over the events, then NumPy over the partials only.
"""

from dataclasses import dataclass
from typing import Any

import bytewax.operators as op
import numpy as np
import pyarrow as pa
from bytewax.dataflow import Stream
from bytewax.operators import KeyedStream
from numpy.typing import NDArray
from prometheus_client import Counter

from operators.aggregate import Aggregate, partial_dtype
from operators.panes import group
from operators.watermark import effective_ticks
from schemas.murmur2 import partition_of
from schemas.stream import Events, Output
from schemas.tables import LATE_SCHEMA

__all__ = ["Combine", "CombineRule", "PanePartials", "combine", "shard_key"]

_AGGREGATED = Counter("tidemark_aggregated_records", "Records aggregated.", ["flow", "partition"])
_LATE = Counter("tidemark_late_records", "Records too late to count.", ["flow", "partition"])

_UTC_MS = pa.timestamp("ms", tz="UTC")


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
    """

    shard: int
    partition: int
    watermark_ms: int
    names: list[str]
    partials: NDArray[Any]
    ended: bool


def shard_key(shard: int) -> str:
    """Bytewax key of a shard; zero-padded, because some orders are lexicographic."""
    return f"{shard:05d}"


class Combine:
    """The function of the step; remembers only what saves work.

    Args:
        aggregate: what to compute.
        rule: parameters.
    """

    def __init__(self, aggregate: Aggregate, rule: CombineRule) -> None:
        self._aggregate = aggregate
        self._rule = rule
        self._shard_of: dict[str, int] = {}
        self._told: dict[int, int] = {}  # watermark that all shards know, by partition

    def __call__(self, events: Events) -> list[tuple[str, PanePartials | Output]]:
        """Items for the shards (by shard key) and for the sinks (by lane)."""
        rule = self._rule
        ticks, late = effective_ticks(
            events.event_time_ms, events.watermark_ms, rule.pane_ms, rule.horizon_ms
        )
        groups = group(
            events.key_codes, len(events.key_names), events.event_time_ms, ticks, rule.pane_ms
        )
        out: list[tuple[str, PanePartials | Output]] = []
        partials = (
            self._aggregate.lift(events, groups)
            if len(events.offsets)
            else np.zeros(0, partial_dtype(self._aggregate))
        )
        out.extend(self._to_shards(events, partials))
        partition = str(events.partition)
        _AGGREGATED.labels(rule.flow, partition).inc(len(groups.slots) - late)
        if late:
            _LATE.labels(rule.flow, partition).inc(late)
            aside = self._late(events, np.flatnonzero(groups.slots < 0))
            out.append((aside.lane, aside))
        if events.rejected is not None and events.rejected_offsets is not None:
            last = int(events.rejected_offsets[-1])
            aside = Output(
                "rejected", events.partition, events.rejected_offsets, last, events.rejected
            )
            out.append((aside.lane, aside))
        return out

    def _to_shards(self, events: Events, partials: NDArray[Any]) -> list[tuple[str, PanePartials]]:
        """Cut the partials by shard; names and codes are laid out shard by shard."""
        shards = self._rule.shards
        names = events.key_names
        used = np.zeros(len(names), bool)
        used[partials["key"]] = True
        codes = np.flatnonzero(used)
        shard_of_code = np.fromiter((self._shard(names[c]) for c in codes), np.int64, len(codes))
        by_shard = np.argsort(shard_of_code, kind="stable")
        codes = codes[by_shard]
        name_bounds = np.searchsorted(shard_of_code[by_shard], np.arange(shards + 1))
        place = np.zeros(len(names), np.int64)
        place[codes] = np.arange(len(codes))
        places = place[partials["key"]]
        order = np.argsort(places, kind="stable")
        partials = partials[order]
        places = places[order]
        bounds = np.searchsorted(places, name_bounds)
        watermark_ms = events.watermark_after_ms // self._rule.pane_ms * self._rule.pane_ms
        news = events.ended or self._told.get(events.partition) != watermark_ms
        self._told[events.partition] = watermark_ms
        out = []
        for shard in range(shards):
            first, last = bounds[shard], bounds[shard + 1]
            if first == last and not news:
                continue
            first_name, last_name = name_bounds[shard], name_bounds[shard + 1]
            own = partials[first:last]
            own["key"] = places[first:last] - first_name
            own_names = [names[c] for c in codes[first_name:last_name]]
            item = PanePartials(shard, events.partition, watermark_ms, own_names, own, events.ended)
            out.append((shard_key(shard), item))
        return out

    def _shard(self, name: str) -> int:
        shard = self._shard_of.get(name)
        if shard is None:
            shard = self._shard_of[name] = partition_of(name.encode(), self._rule.shards)
        return shard

    def _late(self, events: Events, at: NDArray[np.int64]) -> Output:
        event_time_ms = events.event_time_ms[at]
        watermark_ms = events.watermark_ms[at]
        n = len(at)
        rows = pa.record_batch(
            [
                pa.array([self._rule.flow] * n),
                pa.array([self._rule.topic] * n),
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
        offsets = events.offsets[at]
        return Output("late", events.partition, offsets, int(offsets[-1]), rows)


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
    items = op.flat_map(step_id, up, Combine(aggregate, rule))
    partials = op.filter_map(f"{step_id}_partials", items, _partials_only)
    asides = op.filter_map(f"{step_id}_asides", items, _outputs_only)
    return partials, asides


def _partials_only(item: tuple[str, PanePartials | Output]) -> tuple[str, PanePartials] | None:
    key, value = item
    return (key, value) if isinstance(value, PanePartials) else None


def _outputs_only(item: tuple[str, PanePartials | Output]) -> tuple[str, Output] | None:
    key, value = item
    return (key, value) if isinstance(value, Output) else None
