"""Operators without Bytewax: a log as batches, and a run of one shard that takes all keys.

`Run` is what the property tests of every flow hold against their oracle. A flow says which two
operators it is made of; cutting, interleaving, restoring and ending are the same for all.
"""

import pickle
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa

from schemas.candles import INTERVALS_MS
from schemas.stream import NEVER, Events, Output
from tests.oracle import T

__all__ = ["Run", "as_rows", "batch", "end_of", "events_of", "trade_columns", "watermark_ms"]

Columns = Callable[[list[Any]], dict[str, np.ndarray]]


def trade_columns(trades: Sequence[T]) -> dict[str, np.ndarray]:
    return {
        "price": np.array([t.price for t in trades], np.int64),
        "quantity": np.array([t.quantity for t in trades], np.int64),
        "side": np.array([t.side for t in trades], np.int8),
        "seq": np.array([t.seq for t in trades], np.int64),
    }


def batch(
    partition: int, log: list[Any], first: int, last: int, rule: Any, columns: Columns
) -> Events:
    """Records [first, last) of a partition, with what came before them in mind."""
    part = log[first:last]
    newest = max((r.time for r in log[:first]), default=NEVER)
    time = np.array([r.time for r in part], np.int64)
    running = np.maximum.accumulate(np.concatenate(([newest], time)))
    names = sorted({r.key for r in part})
    return Events(
        partition,
        np.arange(first, first + len(part), dtype=np.int64),
        time,
        np.maximum(running[:-1] - rule.lateness, NEVER),
        np.array([names.index(r.key) for r in part], np.int32),
        names,
        columns(part),
        pa.array([b"x"] * len(part), pa.binary()),
        max(NEVER, int(running[-1]) - rule.lateness),
        len(part),
    )


def events_of(
    partition: int, log: list[T], rule: Any, cuts: random.Random, first: int = 0
) -> list[Events]:
    """A partition's log from an offset on as batches, cut at random, but for one at least."""
    out: list[Events] = []
    at = first
    while at < len(log) or not out:
        last = at + cuts.choice([1, 1, 2, 5, 1000])
        out.append(batch(partition, log, at, last, rule, trade_columns))
        at = last
    return out


def end_of(partition: int, watermark_ms: int) -> Events:
    """What a partition says when a finite run has read it."""
    none = np.empty(0, np.int64)
    return Events(
        partition, none, none, none, np.empty(0, np.int32), [], {}, pa.array([], pa.binary()),
        watermark_ms, 0, ended=True,
    )  # fmt: skip


def watermark_ms(log: Sequence[Any], rule: Any) -> int:
    """The watermark behind a log."""
    return max(NEVER, max((r.time for r in log), default=NEVER) - rule.lateness)


def as_rows(output: Output) -> list[dict]:
    """The rows with their ticks; times and intervals in ms, as the oracles have them."""
    rows = output.rows.to_pylist()
    for row, tick in zip(rows, output.positions.tolist(), strict=True):
        row["tick"] = tick
        for name, value in row.items():
            if isinstance(value, datetime):
                row[name] = round(value.timestamp() * 1000)
            elif name == "interval":
                row[name] = INTERVALS_MS[value]
    return rows


class Run(ABC):
    """One run over the logs of all partitions.

    Args:
        logs: records by partition.
        rule: the oracle's parameters.
        seed: of all that is random: cuts, interleaving, restores.
        restore: whether the shard is now and then made anew from its pickled snapshot.

    Attributes:
        step: the map side.
        shard: what it feeds.
        rows: published so far, see `as_rows`.
        emitted: position of the last output.
        late_places: (partition, offset) of all that went to the late stream.
    """

    def __init__(self, logs: list[list[Any]], rule: Any, seed: int, *, restore: bool) -> None:
        self.random = random.Random(seed)
        self.logs, self.rule, self.restore = logs, rule, restore
        self.rows: list[dict] = []
        self.emitted = NEVER
        self.step = self.new_step()
        self.shard = self.new_shard(None)
        self.late_places: list[tuple[int, int]] = []

    @abstractmethod
    def new_step(self) -> Callable[[Events], list[tuple[str, Any]]]: ...

    @abstractmethod
    def new_shard(self, state: Any) -> Any: ...

    @property
    def late(self) -> int:
        """How many records went to the late stream."""
        return len(self.late_places)

    def restored(self) -> Any:
        return self.new_shard(pickle.loads(pickle.dumps(self.shard.snapshot())))

    def feed(self, events: Events) -> None:
        for_shard = []
        for _, item in self.step(events):
            if isinstance(item, Output):
                self.late_places += [(item.partition, at) for at in item.positions.tolist()]
            else:
                for_shard.append(item)
        if for_shard:
            self.take(self.shard.on_batch(for_shard)[0])
        if self.restore and self.random.random() < 0.3:
            self.shard = self.restored()

    def take(self, items: list[Any]) -> None:
        for output in items:
            assert output.position == output.positions[-1]
            assert output.positions[0] > self.emitted, "a tick was cut in two, or emitted again"
            self.emitted = output.position
            self.publish(output)

    def publish(self, output: Output) -> None:
        self.rows += as_rows(output)

    def all(self) -> list[dict]:
        """Read every partition to its end, in any pieces and order."""
        queues = [events_of(p, log, self.rule, self.random) for p, log in enumerate(self.logs)]
        while any(queues):
            self.feed(self.random.choice([q for q in queues if q]).pop(0))
        return self.rows

    def watermarks(self) -> list[int]:
        """Of each partition, behind what is to be read of it."""
        return [watermark_ms(log, self.rule) for log in self.logs]

    def finish(self, watermarks: Sequence[int] | None = None) -> list[dict]:
        """Every partition ends, at these watermarks or behind all that is to be read of it."""
        self.restore = False  # a partition says again that it has ended, a shard need not know
        for partition, watermark in enumerate(watermarks or self.watermarks()):
            self.feed(end_of(partition, watermark))
        return self.rows
