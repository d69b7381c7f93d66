"""Where each trade of the simulated market lies in the log: blocks, delays and offsets.

Event time is cut into blocks of `span_ms`. In each, every instrument has a fixed number of
trades, so block, rank and `trade_seq` follow from each other. The log of a partition is cut
into blocks of the same span by arrival, and a trade arrives after its own delay:

* ordinary: exponential, mean 200 ms, never above `ORDINARY_DELAY_MS`;
* slow, 2 in 1,000: 2.5 to 30 s, behind any sensible lateness, so that corrections happen;
* late, about 1 in 10,000 (none in partitions of fewer than 2,000 trades a block): 400 to
  700 s, and up to a block more, behind the default correction horizon.

A partition of N trades a block has N slots. Slot x carries one trade of every block, delayed
by `delay[x]`, into the log's block `lag[x]` further on. So each log block holds the same
slots, any offset is found by counting slots, and nothing is carried from block to block. A
delay that would pass the end of its log block is cut there.

A finite log is the beginning of the endless one, so a longer log goes on where a shorter one
ended. A sequence has no holes but the trades that are still under way at the end.

Cost: a block of 17,000 trades in 8 ms; finding an offset in less than 1 ms.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from ptars import HandlerPool

from schemas.market_pb2 import DESCRIPTOR, Trade
from schemas.stream import Int64s
from sources.market_instruments import Instrument
from sources.market_prices import event_times, prices, stream_seed

__all__ = [
    "LATE_DELAY_MS",
    "ORDINARY_DELAY_MS",
    "SLOW_DELAY_MS",
    "Block",
    "MarketShape",
    "PartitionBlocks",
]

ORDINARY_DELAY_MS = 1_500
SLOW_DELAY_MS = (2_500, 30_000)
LATE_DELAY_MS = (400_000, 700_000)

_MEAN_DELAY_MS = 200
_SLOW_SHARE = 0.0005
_LATE_SHARE = 0.00005
_LATE_FROM = 2_000
_BLOCK_TRADES = 32_768
_GOLDEN_RATIO = 0.6180339887498949


@dataclass(frozen=True, slots=True)
class Block:
    """The records of a partition that arrive within one span.

    Attributes:
        offset: offset of the first record.
        arrival_ms: (n,) int64 epoch ms, non-decreasing.
        values: (n,) Arrow binary, protobuf `Trade`.
    """

    offset: int
    arrival_ms: Int64s
    values: pa.BinaryArray


class MarketShape:
    """What all partitions share: the instruments and how often each trades.

    Popularity is Zipf's with exponent 1; every instrument trades at least once a block.

    Attributes:
        opened_at_ms: epoch ms where block 0 begins.
        span_ms: event time of a block.
        counts: (k,) int64, trades of each instrument in a block.
    """

    def __init__(
        self, instruments: Sequence[Instrument], seed: int, rate: float, opened_at_ms: int
    ) -> None:
        popularity = 1.0 / np.arange(1, len(instruments) + 1)
        shares = _BLOCK_TRADES * popularity / popularity.sum()
        self.opened_at_ms = opened_at_ms
        self.counts = np.maximum(np.rint(shares).astype(np.int64), 1)
        self.span_ms = max(1, round(int(self.counts.sum()) * 1000 / rate))
        self.names = pa.array([one.name for one in instruments], pa.string())
        self.price = np.array([one.price for one in instruments], np.int64)
        self.price_scale = np.array([one.price_scale for one in instruments], np.int32)
        self.quantity = np.array([one.quantity for one in instruments], np.int64)
        self.quantity_scale = np.array([one.quantity_scale for one in instruments], np.int32)
        self.market_seed = stream_seed(seed)
        self.seeds = np.array([stream_seed(seed, one.name) for one in instruments], np.uint64)


def _delays(slots: int, span_ms: int) -> tuple[Int64s, Int64s]:
    """Delay in ms and lag in blocks of each slot."""
    late = max(1, round(slots * _LATE_SHARE)) if slots >= _LATE_FROM else 0
    slow = round(slots * _SLOW_SHARE)
    ordinary = slots - slow - late

    def quantiles(n: int) -> NDArray[np.float64]:
        return (np.arange(n) + 0.5) / max(n, 1)

    cut = -np.expm1(-ORDINARY_DELAY_MS / _MEAN_DELAY_MS)
    spread = SLOW_DELAY_MS[1] / SLOW_DELAY_MS[0]
    soon = np.concatenate(
        [
            -_MEAN_DELAY_MS * np.log1p(-cut * quantiles(ordinary)),
            SLOW_DELAY_MS[0] * spread ** quantiles(slow),
        ]
    )
    after = LATE_DELAY_MS[0] + (LATE_DELAY_MS[1] - LATE_DELAY_MS[0]) * quantiles(late)
    # Rounding the lag down keeps an ordinary delay within its bound; up keeps a late one late.
    lag = np.concatenate([np.rint(soon) // span_ms, np.ceil(np.rint(after) / span_ms)])
    return np.rint(np.concatenate([soon, after])).astype(np.int64), lag.astype(np.int64)


def _coprime(near: int, number: int) -> int:
    while gcd(near, number) != 1:
        near += 1
    return near


class PartitionBlocks:
    """The log of one partition, block by block.

    Args:
        shape: the market.
        members: indices of the instruments that live in the partition; may be empty.
        trades: length of the partition's log; None: endless.

    Attributes:
        trades: as given; 0 for a partition without instruments.
    """

    def __init__(self, shape: MarketShape, members: Int64s, trades: int | None) -> None:
        counts = shape.counts[members]
        slots = int(counts.sum())
        self._shape = shape
        self._slots = slots
        self._instrument = np.repeat(members.astype(np.int32), counts)
        self._count = np.repeat(counts, counts)
        self._rank = np.arange(slots) - np.repeat(np.cumsum(counts) - counts, counts)
        self._delay_ms, self._lag = _delays(slots, shape.span_ms)
        self._last_lag = int(self._lag.max(initial=0))
        # Slot x of block b carries trade (x * step + b * turn) mod N: neighbours in the order
        # of delay are far apart in rank, and every block deals the delays out anew.
        self._step = _coprime(int(slots * _GOLDEN_RATIO), slots) if slots else 0
        self._turn = _coprime(slots // 3, slots) if slots else 0
        self._codec = HandlerPool([DESCRIPTOR]).get_for_message(Trade.DESCRIPTOR)
        self.trades = 0 if slots == 0 else trades

    def _index(self, slots: Int64s, block: Int64s) -> Int64s:
        return np.asarray((slots * self._step + block % self._slots * self._turn) % self._slots)

    def _times(self, index: Int64s, block: Int64s) -> Int64s:
        shape, times = self._shape, np.empty(len(index), np.int64)
        event_times(
            shape.market_seed,
            shape.seeds,
            shape.span_ms,
            self._instrument[index],
            block,
            self._rank[index],
            self._count[index],
            times,
        )
        return times

    def offset_of(self, block: int) -> int:
        """Offset of the first record that arrives in log block `block` (>= 0) or later."""
        return int(np.maximum(block - self._lag, 0).sum())

    def block_of(self, offset: int) -> int:
        """Number of the log block that holds `offset`; the partition is not empty."""
        first = offset // self._slots
        last = first + self._last_lag + 1
        return first + bisect_right(range(first, last + 1), offset, key=self.offset_of) - 1

    def opens_at_ms(self, block: int) -> int:
        """Epoch ms where a block begins, of event time and of arrival."""
        return self._shape.opened_at_ms + block * self._shape.span_ms

    def arrived(self, now_ms: int) -> int:
        """At most what `due` says, and at least that of the blocks before; makes no block."""
        number = (now_ms - self._shape.opened_at_ms) // self._shape.span_ms
        if number < 0 or self._slots == 0:
            return 0
        offset = self.offset_of(number)
        return offset if self.trades is None else min(offset, self.trades)

    def due(self, now_ms: int) -> int:
        """Offset after the last record that has arrived at epoch ms `now_ms`."""
        number = (now_ms - self._shape.opened_at_ms) // self._shape.span_ms
        if number < 0 or self._slots == 0:
            return 0
        block = self.generate(number)
        due = block.offset + int(np.searchsorted(block.arrival_ms, now_ms, side="right"))
        return due if self.trades is None else min(due, self.trades)

    def generate(self, number: int) -> Block:
        """The records of log block `number` (>= 0) of the endless log, in order of arrival."""
        shape = self._shape
        block = number - self._lag
        slots = np.flatnonzero(block >= 0)
        block = block[slots]
        index = self._index(slots, block)
        time_ms = self._times(index, block)
        opened = number * shape.span_ms
        arrival_ms = np.clip(time_ms + self._delay_ms[slots], opened, opened + shape.span_ms - 1)
        order = np.argsort(arrival_ms, kind="stable")
        return Block(
            self.offset_of(number),
            shape.opened_at_ms + arrival_ms[order],
            self._encode(index[order], block[order], time_ms[order]),
        )

    def _encode(self, index: Int64s, block: Int64s, time_ms: Int64s) -> pa.BinaryArray:
        shape, n = self._shape, len(index)
        instrument, rank = self._instrument[index], self._rank[index]
        price, quantity = np.empty(n, np.int64), np.empty(n, np.int64)
        side = np.empty(n, np.int32)
        prices(
            shape.seeds,
            shape.price,
            shape.quantity,
            shape.opened_at_ms,
            instrument,
            block,
            rank,
            time_ms,
            price,
            quantity,
            side,
        )
        trade_seq = block * self._count[index] + rank + 1
        # Unique in the market and the same in every run, as an exchange's own ids are.
        trade_id = trade_seq * len(shape.names) + instrument
        columns = {
            "instrument": shape.names.take(pa.array(instrument)),
            "timestamp_ms": pa.array(shape.opened_at_ms + time_ms),
            "price": _decimals(price, shape.price_scale[instrument]),
            "quantity": _decimals(quantity, shape.quantity_scale[instrument]),
            "side": pa.array(side),
            "trade_seq": pa.array(trade_seq),
            "trade_id": pc.cast(pa.array(trade_id), pa.string()),
        }
        return self._codec.record_batch_to_array(pa.RecordBatch.from_pydict(columns))


def _decimals(unscaled: Int64s, scale: NDArray[np.int32]) -> pa.StructArray:
    return pa.StructArray.from_arrays(
        [pa.array(unscaled), pa.array(scale)], names=["unscaled", "scale"]
    )
