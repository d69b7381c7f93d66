"""What the partitions of a log in one process know of each other.

Contract: only the pace and the moment of an idle decision depend on it, never a record's
arrival watermark.
"""

from schemas.stream import NEVER

__all__ = ["Siblings"]

_FAR_AHEAD_MS = 10_000


class Siblings:
    """How far each partition is.

    Two things follow, neither of which touches the results: whether the log is live, and
    that a partition far ahead in event time waits for those that have more to read, since
    what it brings could only be kept until they catch up.
    """

    def __init__(self) -> None:
        self.newest_ms = NEVER
        self._reading: dict[int, int] = {}

    def see(self, partition: int, newest_ms: int, *, has_more: bool) -> None:
        """Note how far a partition is, and whether it had records at hand."""
        self.newest_ms = max(self.newest_ms, newest_ms)
        if has_more:
            self._reading[partition] = newest_ms
        else:
            self._reading.pop(partition, None)

    def is_far_ahead(self, newest_ms: int) -> bool:
        """Whether a partition that is as far as this should let the others go first."""
        slowest_ms = min(tuple(self._reading.values()), default=newest_ms)
        return newest_ms - slowest_ms > _FAR_AHEAD_MS
