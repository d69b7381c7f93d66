"""A simulated log that needs no broker: records computed from their place.

Deterministic, seeded, replayable from any offset, in partitions, at a human pace or as fast as
it is read. Record i of a partition is written at `opened_at_ms` + i intervals; its event time
lies up to a second and a half before that, so that there is disorder, but nothing is late at
the usual lateness of 2 s. What it says is up to the maker. For trades, with a market behind
them, there is `sources.market`.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
import pyarrow as pa

from schemas.errors import FlowError
from schemas.stream import Fetched, Int64s

__all__ = ["Made", "Maker", "SimulatedLog", "shuffled"]

_DELAYS_MS = np.array([0, 0, 0, 0, 0, 0, 3, 40, 300, 1_500])
_CLOCK_STEP_MS = 60_000
"""How far the wall clock may have been set back since a position was stored."""


def shuffled(seed: int, numbers: Int64s) -> Int64s:
    """(n,) int64 from 0 that look random, a function of seed and number (SplitMix64)."""
    step = (seed * 0x9E3779B97F4A7C15 + 0x9E3779B97F4A7C15) % 2**64
    z = numbers.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(step)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((z ^ (z >> np.uint64(31))) >> np.uint64(1)).astype(np.int64)


class Made(NamedTuple):
    """What a maker makes: (n,) values, and (n,) keys if the log has some."""

    values: pa.BinaryArray
    keys: pa.BinaryArray | None = None


class Maker(Protocol):
    """What the records say."""

    def __call__(self, partition: int, numbers: Int64s, event_ms: Int64s) -> Made:
        """Records of a partition, a function of the arguments alone.

        Args:
            partition: number of the partition.
            numbers: (n,) unlike for any two records of the log.
            event_ms: (n,) event times.
        """
        ...


class SimulatedLog:
    """See the module; a `sources.log.Log`.

    Args:
        topic: name.
        make: what the records say.
        opened_at_ms: when the first record is written, epoch ms.
        seed: of the disorder.
        partitions: number of partitions.
        rate: records per second, of all partitions together.
        records: length of a log that is there all at once; None for one that grows with
            the clock, for ever.
        definition: what the records depend on besides, JSON-able.
        clock_ms: wall clock.
    """

    def __init__(
        self,
        topic: str,
        make: Maker,
        opened_at_ms: int,
        *,
        seed: int = 1,
        partitions: int = 4,
        rate: float = 200.0,
        records: int | None = None,
        definition: Mapping[str, Any] | None = None,
        clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._topic = topic
        self._make = make
        self._opened_at_ms = opened_at_ms
        self._seed = seed
        self._partitions = partitions
        self._interval_ms = 1000 * partitions / rate
        self._records = records
        self._clock_ms = clock_ms
        self._definition = {
            "seed": seed,
            "partitions": partitions,
            "rate": rate,
            "opened_at_ms": opened_at_ms,
            **(definition or {}),
        }

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

    def open(self, partition: int, offset: int | None) -> "_Fetcher":
        """Read `partition` from `offset`, from the start when None.

        Raises:
            FlowError: The log does not reach to `offset`.
        """
        start = offset or 0
        end = self._end(partition, self._clock_ms() + _CLOCK_STEP_MS)
        if start > end:
            raise FlowError(
                f"Offset {start} of partition {partition} is not in the simulated log "
                f"{self._topic}, which reaches to {end}",
                "It was made anew, or the clock was set back, since that position was stored: "
                "set the clock, or remove the data directory to begin anew.",
            )
        return _Fetcher(self, partition, start)

    def end(self, partition: int) -> int:
        """Offset after the last record that can be fetched now."""
        return self._end(partition, self._clock_ms())

    def _end(self, partition: int, now_ms: int) -> int:
        if self._records is None:
            return max(0, int((now_ms - self._opened_at_ms) // self._interval_ms))
        return (self._records + self._partitions - 1 - partition) // self._partitions

    def fetch(self, partition: int, first: int, last: int) -> Fetched:
        """Records from offset `first` to before `last`."""
        offsets = np.arange(first, last, dtype=np.int64)
        numbers = offsets * self._partitions + partition
        written_ms = self._opened_at_ms + np.ceil((offsets + 1) * self._interval_ms).astype(
            np.int64
        )
        delays = shuffled(self._seed, numbers) % len(_DELAYS_MS)
        made = self._make(partition, numbers, written_ms - _DELAYS_MS[delays])
        return Fetched(made.values, offsets, written_ms, made.keys)


class _Fetcher:
    """Reads one partition; see `sources.log.Fetcher`."""

    def __init__(self, log: SimulatedLog, partition: int, offset: int) -> None:
        self._log = log
        self._partition = partition
        self._position = offset
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
        """The next records that are due, at most `limit`."""
        first, end = self._position, self._log.end(self._partition)
        last = min(end, first + limit)
        self._at_end = last >= end
        if last <= first:
            return None
        self._position = last
        return self._log.fetch(self._partition, first, last)

    def known_end(self) -> int | None:
        """Offset after the last record that can be fetched now."""
        return self._log.end(self._partition)

    def commit(self, offset: int) -> None:
        """Do nothing: nobody watches the lag of a simulated log."""

    def close(self) -> None:
        """There is nothing to let go of."""
