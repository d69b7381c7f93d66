"""Reduce side of a pane aggregate: the shard that closes windows by watermark.

What it computes. A shard merges the partials of its keys and processes ticks up to the
least watermark of all source partitions; see `operators.windows` for the rows. Beside the
results it shows previews: the windows still forming of keys that changed, at most once in
each span of `preview_s` of wall time (a second while the shard is catching up), pending
partials included.

Contract. Results are a function of the source logs: (lane, position, rows), one item per
advance, rows in (tick, interval, key, start) order and all rows of a tick in one item.
Previews depend on the clock and are no part of them. When every partition has ended (a
finite run), all windows that hold data are emitted; being stopped emits nothing.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

import bytewax.operators as op
import numpy as np
import pyarrow as pa
from bytewax.dataflow import Stream
from bytewax.operators import KeyedStream, StatefulBatchLogic
from numpy.typing import NDArray
from typing_extensions import override

from operators.aggregate import Aggregate
from operators.combine import PanePartials
from operators.metrics import StateSize, watched
from operators.window_table import TableSnapshot, WindowRule, WindowTable
from schemas.origin import Arrivals
from schemas.stream import NEVER, Output

__all__ = ["Preview", "ShardState", "TumblingShard", "preview_rows", "tumbling"]


_BEHIND_MS = 60_000
_CATCHING_UP_S = 1.0


class ShardState(NamedTuple):
    """Snapshot of a shard: its windows and the partitions' watermarks as it knows them."""

    shard: int
    table: TableSnapshot
    watermarks_ms: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Preview:
    """Windows still forming.

    Attributes:
        cells: (n,) cells.
        names: of the keys, by the cells' `key`.
    """

    cells: NDArray[Any]
    names: Sequence[str]


class TumblingShard(StatefulBatchLogic[PanePartials, Output | Preview, ShardState]):
    """One shard; see the module.

    Args:
        aggregate: what a window holds.
        rule: the windows' parameters.
        partitions: number of source partitions.
        preview_s: spans of wall time with a preview each; 0 for one per batch, None for none.
        state: where to go on.
        clock: wall clock, seconds since the epoch.
    """

    def __init__(
        self,
        aggregate: Aggregate,
        rule: WindowRule,
        partitions: int,
        preview_s: float | None,
        state: ShardState | None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._shard = state.shard if state else -1  # known with the first item
        self._aggregate = aggregate
        self._rule = rule
        self._table = WindowTable(aggregate, rule, state.table if state else None)
        self._watermarks_ms = list(state.watermarks_ms if state else [NEVER] * partitions)
        self._ended = [False] * partitions
        self._arrivals = Arrivals()
        self._preview_s = preview_s
        self._previewed_s = 0.0
        self._clock = clock

    @override
    def on_batch(self, values: list[PanePartials]) -> tuple[list[Output | Preview], bool]:
        before = self._watermark_ms
        slowest = self._watermarks_ms.index(before)
        self._shard = values[0].shard
        for item in values:
            self._table.add(item.names, item.partials)
            self._watermarks_ms[item.partition] = item.watermark_ms
            self._ended[item.partition] |= item.ended
            self._arrivals.take(item.partition, item.origin)
        out: list[Output | Preview] = []
        if all(self._ended):
            self._put(out, self._table.flush(self._watermark_ms), slowest)
        elif self._watermark_ms != before:
            self._put(out, self._table.advance(self._watermark_ms), slowest)
        if not out:  # what is final leaves at once, and what is forming a moment later
            self._preview(out)
        return out, False

    @property
    def _watermark_ms(self) -> int:
        return min(self._watermarks_ms)

    def _put(self, out: list[Output | Preview], cells: NDArray[Any], slowest: int) -> None:
        if len(cells):
            positions = np.ascontiguousarray(cells["tick"])
            rows = self._aggregate.lower(cells, self._table.names, self._rule.intervals_ms, True)
            last, origin = int(positions[-1]), self._arrivals.complete(slowest)
            out.append(Output("results", self._shard, positions, last, rows, origin=origin))

    def _preview(self, out: list[Output | Preview]) -> None:
        if self._preview_s is None or not self._table.changed:
            return
        now = self._clock()
        if now >= self._next_preview_s(now):
            self._previewed_s = now
            cells = self._table.forming()
            if len(cells):
                out.append(Preview(cells, self._table.names))

    def _next_preview_s(self, now: float) -> float:
        """When the next preview may leave: with those of the other shards, in one go.

        A shard that catches up shows less: nobody watches a candle of long ago form.
        """
        assert self._preview_s is not None  # noqa: S101  # the callers have asked
        is_behind = now * 1000 - self._watermark_ms > _BEHIND_MS
        wait_s = max(self._preview_s, _CATCHING_UP_S) if is_behind else self._preview_s
        return (self._previewed_s // wait_s + 1) * wait_s if wait_s else now

    @override
    def on_notify(self) -> tuple[list[Output | Preview], bool]:
        out: list[Output | Preview] = []
        self._preview(out)
        return out, False

    @override
    def notify_at(self) -> datetime | None:
        if self._preview_s is None or not self._table.changed:
            return None
        return datetime.fromtimestamp(self._next_preview_s(self._clock()), UTC)

    def state_size(self) -> tuple[int, StateSize]:
        """See `operators.metrics.Stateful`."""
        return self._shard, self._table.size()

    @override
    def on_eof(self) -> tuple[list[Output | Preview], bool]:
        return [], False  # the end of a run is not the end of the log

    @override
    def snapshot(self) -> ShardState:
        return ShardState(self._shard, self._table.snapshot(), tuple(self._watermarks_ms))


def tumbling(
    step_id: str,
    up: KeyedStream[PanePartials],
    aggregate: Aggregate,
    rule: WindowRule,
    *,
    flow: str,
    partitions: int,
    preview_s: float | None = None,
) -> tuple[KeyedStream[Output], Stream[pa.RecordBatch]]:
    """Results by lane, and previews.

    Args:
        step_id: unique and permanent name; recovery finds the state by it.
        up: partials by shard key, see `operators.combine`.
        aggregate: what a window holds.
        rule: the windows' parameters.
        flow: name, for metrics.
        partitions: number of source partitions.
        preview_s: spans of wall time with a preview each; 0 for one per batch, None for none.
    """

    def shard(state: ShardState | None) -> TumblingShard:
        made = TumblingShard(aggregate, rule, partitions, preview_s, state)
        return watched(made, flow, step_id)

    items = op.stateful_batch(step_id, up, shard)
    results = op.filter_map(f"{step_id}_results", items, _results_only)

    def lower(items: list[tuple[str, Output | Preview]]) -> list[pa.RecordBatch]:
        previews = [value for _, value in items if isinstance(value, Preview)]
        return [preview_rows(previews, aggregate, rule)] if previews else []

    return results, op.flat_map_batch(f"{step_id}_previews", items, lower)


def _results_only(item: tuple[str, Output | Preview]) -> tuple[str, Output] | None:
    value = item[1]
    return (value.lane, value) if isinstance(value, Output) else None


def preview_rows(
    previews: Sequence[Preview], aggregate: Aggregate, rule: WindowRule
) -> pa.RecordBatch:
    """Rows of all shards that have something to show, at once: each call has its price."""
    cells = np.concatenate([preview.cells for preview in previews])
    names: list[str] = []
    at = 0
    for preview in previews:
        cells["key"][at : at + len(preview.cells)] += len(names)
        at += len(preview.cells)
        names += preview.names
    return aggregate.lower(cells, names, rule.intervals_ms, False)
