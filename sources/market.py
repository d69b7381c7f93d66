"""The simulated market: a log of trades that needs no broker.

Deterministic, seeded, replayable from any offset, in partitions; keys lie where a Kafka Java
client would put them. `sources.market_prices` says what is traded, `sources.market_blocks`
when it arrives; here is the log, at a human pace or as fast as it is read.
"""

import json
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import numpy as np

from schemas.errors import FlowError
from schemas.murmur2 import partition_of
from schemas.stream import Fetched, Int64s
from sources.market_blocks import Block, MarketShape, PartitionBlocks
from sources.market_instruments import MAX_INSTRUMENTS, list_instruments

__all__ = ["Pace", "SimulatedMarket", "compile_market", "opening"]

Pace = Literal["live", "fast"]

_FOREVER_MS = 2**62
_MAX_RATE = 10_000_000
_HEAD_START_MS = 120_000
_ALIGNED_MS = 300_000
_CLOCK_STEP_MS = 60_000
"""How far the wall clock may have been set back since a position was stored."""


def _wall_clock_ms() -> int:
    return time.time_ns() // 1_000_000


def opening(data_dir: Path, now_ms: int) -> int:
    """When the embedded market opened, in epoch ms: decided once and kept in `data_dir`.

    The first call takes the last whole five minutes at least two minutes before `now_ms`, so
    that the first candles are there at once. Later calls read it back, so that the log stays
    the same log and its offsets keep their meaning. Of several processes that start together
    one decides for all.

    Raises:
        FlowError: The file is there and cannot be used.
    """
    path = data_dir / "market.json"
    if not path.exists():
        data_dir.mkdir(parents=True, exist_ok=True)
        opened_at_ms = (now_ms - _HEAD_START_MS) // _ALIGNED_MS * _ALIGNED_MS
        with tempfile.NamedTemporaryFile("w", dir=data_dir, prefix=".market-") as file:
            json.dump({"opened_at_ms": opened_at_ms}, file)
            file.flush()
            os.fsync(file.fileno())
            # A link appears whole or not at all, and never replaces another's decision.
            with suppress(FileExistsError):
                os.link(file.name, path)
    try:
        opened_at_ms = json.loads(path.read_text(encoding="utf-8"))["opened_at_ms"]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise _unusable(path, error) from error
    if type(opened_at_ms) is not int or opened_at_ms < 0:
        raise _unusable(path, f"opened_at_ms is {opened_at_ms!r}")
    return opened_at_ms


def _unusable(path: Path, why: object) -> FlowError:
    return FlowError(
        f"The simulated market's opening time cannot be read from {path} ({why})",
        f"Remove the directory {path.parent} to begin with a new market and new results.",
    )


class SimulatedMarket:
    """A `Log` of simulated trades, protobuf `Trade` values.

    The same arguments give the same log, byte for byte; `trades` decides only where it ends
    and `pace` when a record can be fetched. A record's log timestamp is its arrival.
    Partitions may be empty when there are few instruments.

    Args:
        opened_at_ms: epoch ms where event time begins; best a multiple of a minute.
        seed: another seed is another market.
        partitions: number of partitions.
        instruments: number of instruments, up to 10,000; the first trades most.
        rate: trades per second of event time, all partitions together.
        trades: length of the log, all partitions together; None: endless.
        pace: `live`: a record is there once the clock has reached its arrival; `fast`: all
            are there at once.
        topic: name of the topic.
        clock_ms: the wall clock in epoch ms.

    Raises:
        FlowError: An argument is out of range.
    """

    def __init__(
        self,
        opened_at_ms: int,
        *,
        seed: int = 1,
        partitions: int = 4,
        instruments: int = 20,
        rate: float = 200.0,
        trades: int | None = None,
        pace: Pace = "live",
        topic: str = "trades",
        clock_ms: Callable[[], int] = _wall_clock_ms,
    ) -> None:
        _check("opening time in epoch ms", opened_at_ms, 0, 2**42)
        _check("partitions", partitions, 1, 1_000)
        _check("instruments", instruments, 1, MAX_INSTRUMENTS)
        _check("rate in trades per second", rate, 0.001, _MAX_RATE)
        _check("trades", 0 if trades is None else trades, 0, 2**53)
        self._topic = topic
        self._partitions = partitions
        self._pace = pace
        self._clock_ms = clock_ms
        self._definition = {
            "market": "simulated",
            "seed": seed,
            "partitions": partitions,
            "instruments": instruments,
            "rate": rate,
            "opened_at_ms": opened_at_ms,
        }
        listed = list_instruments(instruments)
        shape = MarketShape(listed, seed, rate, opened_at_ms)
        home = np.array([partition_of(one.name.encode(), partitions) for one in listed])
        lengths = _shares(trades, np.bincount(home, shape.counts, partitions).astype(np.int64))
        self._blocks = [
            PartitionBlocks(shape, np.flatnonzero(home == partition), length)
            for partition, length in enumerate(lengths)
        ]

    @property
    def topic(self) -> str:
        """Name of the topic."""
        return self._topic

    @property
    def partitions(self) -> int:
        """Number of partitions."""
        return self._partitions

    @property
    def definition(self) -> Mapping[str, Any]:
        """What the records depend on, JSON-able: with other values, offsets mean others."""
        return self._definition

    def open(self, partition: int, offset: int | None) -> "_MarketFetcher":
        """Read `partition` from `offset`, from the start when None.

        Raises:
            FlowError: The log does not reach to `offset`.
        """
        blocks = self._blocks[partition]
        start = 0 if offset is None else offset
        end = blocks.trades
        if start > 0 and self._pace == "live":
            end = blocks.due(self._clock_ms() + _CLOCK_STEP_MS)
        if start < 0 or (end is not None and start > end):
            raise FlowError(
                f"Offset {start} of partition {partition} is not in the simulated market, "
                f"which reaches to {end}",
                "The market was made anew, or the clock was set back, since that position was "
                "stored: set the clock, or remove the data directory to begin anew.",
            )
        return _MarketFetcher(blocks, start, self._now_ms)

    def end(self, partition: int) -> int:
        """Offset after the last record that can be fetched now.

        Raises:
            FlowError: At pace `fast` an endless market has no end.
        """
        blocks = self._blocks[partition]
        if self._pace == "live":
            return blocks.due(self._clock_ms())
        if blocks.trades is None:
            raise FlowError(
                "The simulated market is endless and at full pace, so a run cannot stop at its end",
                "Give it a number of trades, or the live pace.",
            )
        return blocks.trades

    def _now_ms(self) -> int:
        return self._clock_ms() if self._pace == "live" else _FOREVER_MS


def compile_market() -> None:
    """Have the loops compiled, by a small market."""
    SimulatedMarket(0, partitions=1, trades=10, pace="fast").open(0, None).poll(10)


class _MarketFetcher:
    """Hands out slices of the block at hand; makes the next one when it is due."""

    def __init__(self, blocks: PartitionBlocks, offset: int, now_ms: Callable[[], int]) -> None:
        self._blocks = blocks
        self._block: Block | None = None
        self._position = offset
        self._now_ms = now_ms
        self._at_end = False

    @property
    def position(self) -> int:
        """Offset of the next record to read."""
        return self._position

    @property
    def at_end(self) -> bool:
        """Whether nothing more was due at the last poll."""
        return self._at_end

    def poll(self, limit: int) -> Fetched | None:
        """The next records that are due, at most `limit` and of one block."""
        now_ms = self._now_ms()
        start = self._position
        stop = min(self._due(now_ms), start + limit)
        block = self._block
        if block is None or stop <= start:
            self._at_end = True
            return None
        rows = slice(start - block.offset, stop - block.offset)
        fetched = Fetched(
            block.values[rows], np.arange(start, stop, dtype=np.int64), block.arrival_ms[rows]
        )
        self._position = stop
        self._at_end = self._due(now_ms) <= stop
        return fetched

    def known_end(self) -> int | None:
        """Where the block begins that records arrive in now, or further on; None without an end."""
        now_ms, trades = self._now_ms(), self._blocks.trades
        if now_ms == _FOREVER_MS:
            return trades
        return max(self._position, self._blocks.arrived(now_ms))

    def commit(self, offset: int) -> None:
        """Do nothing: nobody watches the lag of a simulated market."""

    def close(self) -> None:
        """Let go of the block."""
        self._block = None

    def _due(self, now_ms: int) -> int:
        """Offset after the last record of the current block that is due."""
        position, block = self._position, self._block
        if position == self._blocks.trades:
            return position
        if block is None or position >= block.offset + len(block.arrival_ms):
            number = self._blocks.block_of(position)
            if self._blocks.opens_at_ms(number) > now_ms:
                return position
            block = self._block = self._blocks.generate(number)
        arrived = len(block.arrival_ms)
        if block.arrival_ms[-1] > now_ms:
            arrived = int(np.searchsorted(block.arrival_ms, now_ms, side="right"))
        due, end = block.offset + arrived, self._blocks.trades
        return due if end is None else min(due, end)


def _check(what: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise FlowError(
            f"The simulated market cannot have {value} as its {what}",
            f"Give a value from {low:,} to {high:,}.",
        )


def _shares(trades: int | None, weights: Int64s) -> list[int | None]:
    """Each partition's part of `trades` by weight, the largest remainders rounded up."""
    if trades is None:
        return [None] * len(weights)
    total = int(weights.sum())
    parts = [divmod(trades * int(weight), total) for weight in weights]
    missing = trades - sum(whole for whole, _ in parts)
    by_remainder = sorted(range(len(parts)), key=lambda p: -parts[p][1])
    extra = set(by_remainder[:missing])
    return [whole + (p in extra) for p, (whole, _) in enumerate(parts)]
