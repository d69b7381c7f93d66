"""A rolling sum on Bytewax that keeps no window: killed, stopped and rescaled at random."""

import gc
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import bytewax.operators as op
import numpy as np
import pyarrow as pa
import pytest
from bytewax.dataflow import Dataflow
from bytewax.errors import BytewaxRuntimeError
from bytewax.operators import StatefulBatchLogic
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import cluster_main, run_main
from typing_extensions import override

from operators.watermark import effective_ticks
from schemas.stream import NEVER, Codec, Events, Output
from schemas.trades import TradeCodec
from sources import log_partition, stopping
from sources.emitted import Emitted
from sources.market import SimulatedMarket
from sources.partitioned import LogPartition, LogSource, SourceRule
from sources.timeline import SourceState

_OPENED_MS = 1_700_000_000_000
_PARTITIONS, _SHARDS, _TRADES = 3, 2, 6_000
_TICK_MS, _WINDOW_MS = 1_000, 10_000
_RULE = SourceRule("test", stop_at_end=True, replay_ms=_WINDOW_MS)
Row = tuple[int, int, int]
"""Shard, tick, and the sum over the window of what tells its records apart."""


class Killed(Exception):  # noqa: N818  # nothing went wrong
    pass


def was_killed(error: BaseException | None) -> bool:
    while error is not None and not isinstance(error, Killed):
        error = error.__cause__
    return error is not None


@dataclass
class World:
    """What outlives a process, and how many batches the next one is given."""

    rows: dict[tuple[int, int], int] = field(default_factory=dict)
    began: list[int] = field(default_factory=list)
    left: int = 1_000_000
    is_kill: bool = False

    def spend(self, events: Events) -> Events:
        self.left -= 1
        if self.left <= 0 and self.is_kill:
            raise Killed
        if self.left <= 0:
            stopping.request()
        return events

    def put(self, rows: list[Row]) -> None:
        for shard, tick, total in rows:
            assert self.rows.setdefault((shard, tick), total) == total, "as it was emitted before"


class Source(LogSource):
    world: World

    @override
    def build_part(
        self, step_id: str, for_part: str, resume_state: SourceState | None
    ) -> LogPartition:
        part = super().build_part(step_id, for_part, resume_state)
        self.world.began.append(part._timeline.offset)
        return part


class Rolling(StatefulBatchLogic):
    """Emits each tick of the least watermark once; remembers the last, and nothing else."""

    def __init__(self, tick: int | None) -> None:
        self._tick = tick or NEVER
        self._watermarks = [NEVER] * _PARTITIONS
        self._records = np.empty((3, 0), np.int64)  # tick, pane, figure

    @override
    def on_batch(self, values: list[tuple[int, int, int, np.ndarray]]) -> tuple[list, bool]:
        out = []
        shard = values[0][0]
        for _, partition, watermark, records in values:
            self._records = np.concatenate([self._records, records], axis=1)
            self._watermarks[partition] = watermark
        ticks, panes, figures = self._records
        low = min(self._watermarks)
        if low > NEVER:
            rows = []
            for tick in range(max(self._tick, _OPENED_MS) + _TICK_MS, low + 1, _TICK_MS):
                inside = (ticks <= tick) & (panes >= tick - _WINDOW_MS) & (panes < tick)
                rows.append((shard, tick, int(figures[inside].sum())))
                self._tick = tick
            if rows:
                positions = np.array([row[1] for row in rows])
                batch = pa.record_batch({"row": pa.array([list(row) for row in rows])})
                out.append(Output("results", shard, positions, self._tick, batch))
            self._records = self._records[:, panes >= low - 2 * _WINDOW_MS]
        return out, False

    @override
    def on_eof(self) -> tuple[list, bool]:
        return [], False

    @override
    def snapshot(self) -> int:
        return self._tick


def to_shards(events: Events) -> list[tuple[str, tuple[int, int, int, np.ndarray]]]:
    ticks, _ = effective_ticks(events.event_time_ms, events.watermark_ms, _TICK_MS, 10**12)
    panes = events.event_time_ms // _TICK_MS * _TICK_MS
    figures = (events.offsets * 7 + events.partition) ** 2 % 1_000_003
    records = np.stack([ticks, panes, figures])
    return [
        (
            f"{shard:05d}",
            (
                shard,
                events.partition,
                events.watermark_after_ms,
                records[:, events.offsets % _SHARDS == shard],
            ),
        )
        for shard in range(_SHARDS)
    ]


class Sink(DynamicSink):
    def __init__(self, world: World) -> None:
        self._world = world

    @override
    def build(self, step_id: str, worker_index: int, worker_count: int) -> StatelessSinkPartition:
        world = self._world

        class Part(StatelessSinkPartition):
            @override
            def write_batch(self, items: list) -> None:
                for _, output in items:
                    world.put([tuple(row) for row in output.rows["row"].to_pylist()])

        return Part()


def flow_of(world: World) -> Dataflow:
    market = SimulatedMarket(
        _OPENED_MS,
        partitions=_PARTITIONS,
        instruments=6,
        rate=100,
        trades=_TRADES,
        pace="fast",
    )
    emitted = Emitted()
    codec: Codec = TradeCodec()
    source = Source(market, codec, _RULE, emitted=emitted)
    source.world = world
    flow = Dataflow("replay")
    events = op.map("spend", op.input("trades", flow, source), world.spend)
    items = op.flat_map("to_shards", events, to_shards)
    results = op.stateful_batch("rolling", items, Rolling)
    op.inspect("emitted", results, emitted.hear)
    op.output("sink", results, Sink(world))
    return flow


@pytest.fixture(autouse=True)
def process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Small batches, for many moments to be killed at, however slow the machine; and the
    collector and the stop flag given back as they were."""
    for bound in ("_LEAST_BATCH", "_LARGEST_BATCH"):
        monkeypatch.setattr(log_partition, bound, 37)
    thresholds = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*thresholds)
    stopping._STOP.clear()


@pytest.fixture(scope="module")
def undisturbed() -> dict[tuple[int, int], int]:
    world = World()
    run_main(flow_of(world))
    assert len(world.rows) > 4 * _SHARDS * _WINDOW_MS // _TICK_MS
    return world.rows


@pytest.mark.parametrize("seed", range(3))
def test_restarts_on_one_or_two_workers_change_no_row(
    undisturbed: dict[tuple[int, int], int], tmp_path: Path, seed: int
) -> None:
    rng = random.Random(seed)
    world = World()
    init_db_dir(tmp_path, 1)
    recovery = RecoveryConfig(tmp_path)
    interval = timedelta(milliseconds=20)
    for life in range(8):
        stopping._STOP.clear()
        world.left = rng.randint(10, 100) if life < 7 else 10**9
        world.is_kill = rng.random() < 0.5
        if life == 0:  # far enough for the next one not to begin at the start
            world.left, world.is_kill = 100, False
        if world.is_kill or rng.random() < 0.5:
            try:
                run_main(flow_of(world), epoch_interval=interval, recovery_config=recovery)
            except BytewaxRuntimeError as error:
                if not was_killed(error):
                    raise
        else:
            cluster_main(
                flow_of(world),
                [],
                0,
                epoch_interval=interval,
                recovery_config=recovery,
                worker_count_per_proc=2,
            )
    assert world.rows == undisturbed
    assert max(world.began) > 0, "it began at other places than the start"
