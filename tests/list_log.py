"""A log held in a list, and a clock in the test's hand, for tests of sources."""

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from schemas.market_pb2 import Decimal, Trade
from schemas.stream import Fetched

NOW_S = 1_700_000_000.0
NOW_MS = 1_700_000_000_000


def trade(time_ms: int, key: str = "BTC-USD", seq: int = 1) -> bytes:
    one = Decimal(unscaled=1)
    message = Trade(instrument=key, timestamp_ms=time_ms, price=one, quantity=one, trade_seq=seq)
    return message.SerializeToString()


class Clock:
    def __init__(self) -> None:
        self.now_s = NOW_S

    def __call__(self) -> float:
        return self.now_s


@dataclass
class ListLog:
    """A log of one partition held in a list, which a test extends: the records, their
    offsets (with holes, if it likes), the log's own timestamps, and where the log ends."""

    values: list[bytes | None] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    stamps: list[int] = field(default_factory=list)
    markers: int = 0  # offsets at the end of the log that hold no record
    topic: str = "trades"
    partitions: int = 1
    committed: list[int] = field(default_factory=list)
    limits: list[int] = field(default_factory=list)
    batch: int = 1_000_000  # hands out at most so many records at once

    def append(self, value: bytes | None, stamp: int = -1, offset: int | None = None) -> None:
        self.offsets.append(self.end(0) if offset is None else offset)
        self.values.append(value)
        self.stamps.append(stamp)
        self.markers = 0

    def end(self, partition: int) -> int:
        return (self.offsets[-1] + 1 if self.offsets else 0) + self.markers

    def open(self, partition: int, offset: int | None) -> "ListFetcher":
        return ListFetcher(self, offset or 0)


class ListFetcher:
    def __init__(self, log: ListLog, offset: int) -> None:
        self.log, self.position, self.at_end = log, offset, False
        self.closed = False

    def poll(self, limit: int) -> Fetched | None:
        log = self.log
        log.limits.append(limit)
        first = int(np.searchsorted(log.offsets, self.position))
        part = slice(first, first + min(limit, log.batch))
        offsets = np.array(log.offsets[part], np.int64)
        self.at_end = not len(offsets)
        self.position = log.end(0) if self.at_end else int(offsets[-1]) + 1
        if self.at_end:
            return None
        stamps = np.array(log.stamps[part], np.int64)
        return Fetched(pa.array(log.values[part], pa.binary()), offsets, stamps)

    def known_end(self) -> int | None:
        return None if self.closed else self.log.end(0)

    def commit(self, offset: int) -> None:
        self.log.committed.append(offset)

    def close(self) -> None:
        self.closed = True
