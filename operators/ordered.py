"""Reduce side of an ordered fold: the shard that folds events in order, by watermark.

What it computes. A shard keeps its keys' events until the least watermark of all source
partitions has passed them, folds them in (event time, sequence, place in the log) order,
and emits the rows that are due; see `operators.ordered_fold` for what a fold is and
`operators.ordered_table` for the rows.

Contract. Results are a function of the source logs: (lane, position, rows), one item per
advance and kind, rows in (tick, key, start) order and all rows of a tick in one item. When
every partition has ended (a finite run), the rows of all keys are emitted as they are then;
being stopped emits nothing.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import bytewax.operators as op
from bytewax.operators import KeyedStream, StatefulBatchLogic
from typing_extensions import override

from operators.metrics import StateSize, watched
from operators.ordered_fold import EventShape
from operators.ordered_scatter import ShardEvents
from operators.ordered_table import FoldTable, OrderedTable
from schemas.origin import Arrivals
from schemas.stream import NEVER, Output

__all__ = ["OrderedShard", "OrderedState", "ordered"]


class OrderedState(NamedTuple):
    """Snapshot of a shard: its fold and the partitions' watermarks as it knows them."""

    shard: int
    table: Any
    watermarks_ms: tuple[int, ...]


class OrderedShard(StatefulBatchLogic[ShardEvents, Output, OrderedState]):
    """One shard; see the module.

    Args:
        fold: what to compute.
        partitions: number of source partitions.
        tick_ms: length of a tick.
        state: where to go on.
        table: how, from the fold, the tick and the table's snapshot.
    """

    def __init__(
        self,
        fold: EventShape,
        partitions: int,
        tick_ms: int,
        state: OrderedState | None,
        table: Callable[[Any, int, Any], OrderedTable] = FoldTable,
    ) -> None:
        self._shard = state.shard if state else -1  # known with the first item
        self._table = table(fold, tick_ms, state.table if state else None)
        self._watermarks_ms = list(state.watermarks_ms if state else [NEVER] * partitions)
        self._ended = [False] * partitions
        self._arrivals = Arrivals()

    @override
    def on_batch(self, values: list[ShardEvents]) -> tuple[list[Output], bool]:
        slowest = self._watermarks_ms.index(min(self._watermarks_ms))
        self._shard = values[0].shard
        for item in values:
            self._table.add(item)
            self._watermarks_ms[item.partition] = item.watermark_ms
            self._ended[item.partition] |= item.ended
            self._arrivals.take(item.partition, item.origin)
        watermark_ms = min(self._watermarks_ms)
        rows = list(self._table.advance(watermark_ms))
        if all(self._ended):
            rows += self._table.flush(watermark_ms)
        origin = self._arrivals.complete(slowest) if rows else None
        return [
            Output(kind, self._shard, ticks, int(ticks[-1]), lowered, origin=origin)
            for kind, ticks, lowered in rows
        ], False

    def state_size(self) -> tuple[int, StateSize]:
        """See `operators.metrics.Stateful`."""
        return self._shard, self._table.size()

    @override
    def on_eof(self) -> tuple[list[Output], bool]:
        return [], False  # the end of a run is not the end of the log

    @override
    def snapshot(self) -> OrderedState:
        return OrderedState(self._shard, self._table.snapshot(), tuple(self._watermarks_ms))


def ordered(
    step_id: str,
    up: KeyedStream[ShardEvents],
    fold: EventShape,
    *,
    flow: str,
    partitions: int,
    tick_ms: int = 1_000,
    table: Callable[[Any, int, Any], OrderedTable] = FoldTable,
) -> KeyedStream[Output]:
    """Results by lane.

    Args:
        step_id: unique and permanent name; recovery finds the state by it.
        up: events by shard key, see `operators.ordered_scatter`.
        fold: what to compute.
        flow: name, for metrics.
        partitions: number of source partitions.
        tick_ms: length of a tick, the same as in `up`.
        table: how a shard computes it.
    """

    def shard(state: OrderedState | None) -> OrderedShard:
        return watched(OrderedShard(fold, partitions, tick_ms, state, table), flow, step_id)

    items = op.stateful_batch(step_id, up, shard)
    return op.map(f"{step_id}_lanes", items, _by_lane)


def _by_lane(item: tuple[str, Output]) -> tuple[str, Output]:
    return item[1].lane, item[1]
