"""A mapping whose snapshot costs what changed since the last one, not what it holds.

Keys are spread over a fixed number of buckets. A snapshot is one block of bytes per bucket, and
only buckets that were touched since the last snapshot are encoded anew. Blocks are immutable,
so a snapshot stays as it was taken while the mapping goes on.

Cost: about 2 us to encode an entry of a touched bucket; with 256 buckets and changes all over,
a mapping of 100,000 entries takes 0.2 s per snapshot.
"""

import pickle
from collections.abc import Iterator
from typing import Generic, TypeVar
from zlib import crc32

__all__ = ["Blocks", "Buckets"]

Blocks = tuple[bytes, ...]
"""Snapshot: one block per bucket; an empty one for an empty bucket."""

Value = TypeVar("Value")

_BUCKETS = 256


class Buckets(Generic[Value]):
    """Values by key; a value must be immutable and must survive pickling.

    Args:
        blocks: where to go on; None for an empty mapping.
    """

    def __init__(self, blocks: Blocks | None = None) -> None:
        self._blocks = list(blocks or [b""] * _BUCKETS)
        # What a recovery store holds was written by this flow.
        self._buckets: list[dict[str, Value]] = [
            pickle.loads(block) if block else {}  # noqa: S301
            for block in self._blocks
        ]
        self._touched: set[int] = set()

    def get(self, key: str) -> Value | None:
        """The value of a key; None without one."""
        return self._buckets[crc32(key.encode()) % _BUCKETS].get(key)

    def put(self, key: str, value: Value | None) -> None:
        """Set the value of a key, or forget it with None."""
        number = crc32(key.encode()) % _BUCKETS
        if value is None:
            self._buckets[number].pop(key, None)
        else:
            self._buckets[number][key] = value
        self._touched.add(number)

    def __iter__(self) -> Iterator[tuple[str, Value]]:
        """All keys with their values."""
        for bucket in self._buckets:
            yield from bucket.items()

    def __len__(self) -> int:
        return sum(map(len, self._buckets))

    @property
    def stored_bytes(self) -> int:
        """Size of the last snapshot."""
        return sum(map(len, self._blocks))

    def snapshot(self) -> Blocks:
        """All of it, immutable."""
        for number in self._touched:
            bucket = self._buckets[number]
            self._blocks[number] = pickle.dumps(bucket, pickle.HIGHEST_PROTOCOL) if bucket else b""
        self._touched.clear()
        return tuple(self._blocks)
