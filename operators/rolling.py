"""Reduce side of rolling statistics: the shard that slides windows by watermark.

What it computes. A shard takes the candle partials of its keys and processes ticks up to the
least watermark of all source partitions; see `operators.rolling_ticks` for the rows.

Contract. Results are a function of the source logs: (lane, position, rows), rows in (tick,
key) order and all rows of a tick in one item. When every partition has ended (a finite run),
ticks go on to the first one after the shard's newest event; being stopped emits nothing.

The windows are not stored: the log is their store. A snapshot is the last tick emitted, L.
After a resume the source must read again every event from M - window on, where M is at or
before the least watermark of all partitions at the snapshot; `SourceRule.replay_ms`, the
window's length, does that. The shard fills its windows in silence and emits what comes after
L. What a later run brings for a tick that a finite run has passed counts from the key's next
row on.
"""

from typing import NamedTuple

import bytewax.operators as op
import numpy as np
from bytewax.operators import KeyedStream, StatefulBatchLogic
from typing_extensions import override

from operators.combine import PanePartials
from operators.metrics import StateSize, watched
from operators.rolling_rows import rolling_rows
from operators.rolling_table import RollingRule, RollingTable
from schemas.origin import Arrivals
from schemas.stream import NEVER, Output

__all__ = ["RollingRule", "RollingShard", "RollingState", "rolling"]


class RollingState(NamedTuple):
    """Snapshot of a shard: its number and the last tick it has emitted."""

    shard: int
    emitted_ms: int


class RollingShard(StatefulBatchLogic[PanePartials, Output, RollingState]):
    """One shard; see the module.

    Args:
        rule: the windows' parameters.
        partitions: number of source partitions.
        state: where to go on.
    """

    def __init__(self, rule: RollingRule, partitions: int, state: RollingState | None) -> None:
        self._rule = rule
        self._shard = state.shard if state else -1  # known with the first item
        self._emitted_ms = state.emitted_ms if state else NEVER
        self._table = RollingTable(rule, self._emitted_ms)
        self._watermarks_ms = [NEVER] * partitions
        self._ended = [False] * partitions
        self._arrivals = Arrivals()

    @override
    def on_batch(self, values: list[PanePartials]) -> tuple[list[Output], bool]:
        before_ms = min(self._watermarks_ms)
        slowest = self._watermarks_ms.index(before_ms)
        self._shard = values[0].shard
        for item in values:
            self._table.add(item.names, item.partials)
            self._watermarks_ms[item.partition] = item.watermark_ms
            self._ended[item.partition] |= item.ended
            self._arrivals.take(item.partition, item.origin)
        limit_ms = min(self._watermarks_ms)
        if all(self._ended):
            tick_ms = self._rule.tick_ms
            limit_ms = max(limit_ms, -(-self._table.last_tick_ms // tick_ms) * tick_ms)
        elif limit_ms == before_ms:
            return [], False
        return self._advance(limit_ms, slowest), False

    def _advance(self, limit_ms: int, slowest: int) -> list[Output]:
        out = []
        origin = None
        for rows in self._table.advance(limit_ms):
            ticks = np.ascontiguousarray(rows["tick"])
            self._emitted_ms = int(ticks[-1])
            batch = rolling_rows(rows, self._table.names, self._rule)
            origin = origin or self._arrivals.complete(slowest)
            out.append(
                Output("results", self._shard, ticks, self._emitted_ms, batch, origin=origin)
            )
        return out

    def state_size(self) -> tuple[int, StateSize]:
        """See `operators.metrics.Stateful`."""
        return self._shard, self._table.size()

    @override
    def on_eof(self) -> tuple[list[Output], bool]:
        return [], False  # the end of a run is not the end of the log

    @override
    def snapshot(self) -> RollingState:
        return RollingState(self._shard, self._emitted_ms)


def rolling(
    step_id: str, up: KeyedStream[PanePartials], rule: RollingRule, *, flow: str, partitions: int
) -> KeyedStream[Output]:
    """Results by lane.

    Args:
        step_id: unique and permanent name; recovery finds the state by it.
        up: candle partials by shard key, see `operators.combine`; the panes of the rule.
        rule: the windows' parameters.
        flow: name, for metrics.
        partitions: number of source partitions.
    """
    items = op.stateful_batch(
        step_id, up, lambda state: watched(RollingShard(rule, partitions, state), flow, step_id)
    )
    return op.map(f"{step_id}_results", items, _by_lane)


def _by_lane(item: tuple[str, Output]) -> tuple[str, Output]:
    return item[1].lane, item[1]
