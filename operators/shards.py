"""Which shard gets what: the part that every map side has in common.

A map side is stateless for the results; a `Shards` remembers only what saves work: the
watermark that all shards have heard of.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from schemas.murmur2 import partitions_of
from schemas.stream import Events, Int64s

__all__ = ["ArrangedNames", "Shards", "shard_key"]


def shard_key(shard: int) -> str:
    """Bytewax key of a shard; zero-padded, because some orders are lexicographic."""
    return f"{shard:05d}"


class ArrangedNames(NamedTuple):
    """The keys of a batch, those in use laid out shard by shard.

    Attributes:
        names: the u keys in use, those of shard 0 first.
        bounds: (shards + 1,) int64: shard s has `names[bounds[s]:bounds[s + 1]]`.
        place: (k,) int64, where in `names` each key of the batch is; anything for a key
            that is not in use.
    """

    names: list[str]
    bounds: Int64s
    place: Int64s


class Shards:
    """Keys to shards, by Kafka's murmur2; and whether a batch is news to all of them.

    Args:
        count: number of shards; never changes for a flow version.
        tick_ms: shards hear of a watermark when it reaches a new tick.
    """

    def __init__(self, count: int, tick_ms: int) -> None:
        self.count = count
        self._tick_ms = tick_ms
        self._told: dict[int, int] = {}  # watermark that all shards know, by partition

    def arrange(self, names: Sequence[str], used: NDArray[np.bool_]) -> ArrangedNames:
        """Lay out those of (k,) names that are `used`."""
        codes = np.flatnonzero(used)
        used_names = [names[c] for c in codes.tolist()]
        shard_of_code = partitions_of(pa.array(used_names, pa.string()), self.count)
        by_shard = np.argsort(shard_of_code, kind="stable")
        codes = codes[by_shard]
        bounds = np.searchsorted(shard_of_code[by_shard], np.arange(self.count + 1))
        place = np.zeros(len(names), np.int64)
        place[codes] = np.arange(len(codes))
        return ArrangedNames([names[c] for c in codes.tolist()], bounds, place)

    def watermark(self, events: Events) -> tuple[int, bool]:
        """The watermark after a batch, rounded down to a tick; whether shards must hear of it."""
        watermark_ms = events.watermark_after_ms // self._tick_ms * self._tick_ms
        news = events.ended or self._told.get(events.partition) != watermark_ms
        self._told[events.partition] = watermark_ms
        return watermark_ms, news
