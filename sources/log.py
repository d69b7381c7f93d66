"""The seam between a log and the source that reads it.

A log is a topic of numbered partitions; a fetcher reads one partition from an offset
onwards. Everything above (watermarks, rejects, snapshots, end of run) is the same for
every log, and a faster fetcher takes another's place by having these four methods.
"""

from typing import Protocol

from schemas.stream import Fetched

__all__ = ["Fetcher", "Log"]


class Fetcher(Protocol):
    """Reads one partition of a log in offset order.

    Contract: used by one thread, but for `position` and `known_end`; no method but `close`
    may block for longer than it takes to hand over what is already there.
    """

    def poll(self, limit: int) -> Fetched | None:
        """The next records, at most `limit` (>= 1); None when none is at hand."""
        ...

    @property
    def position(self) -> int:
        """Offset of the next record to read; moves past holes at the end of the log."""
        ...

    @property
    def at_end(self) -> bool:
        """Whether everything in the log was read when it was last asked for more."""
        ...

    def known_end(self) -> int | None:
        """Offset after the last record, as far as is known without asking; any thread may ask.

        None when nothing is known, or the fetcher is closed.
        """
        ...

    def commit(self, offset: int) -> None:
        """Tell ordinary lag tools that everything before `offset` was read."""
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...


class Log(Protocol):
    """A topic."""

    @property
    def topic(self) -> str:
        """Name of the topic, for dead letters and messages."""
        ...

    @property
    def partitions(self) -> int:
        """Number of partitions; never changes for a flow version."""
        ...

    def open(self, partition: int, offset: int | None) -> Fetcher:
        """Read `partition` from `offset`; from the log's start when None.

        Raises:
            FlowError: The offset is no longer in the log.
        """
        ...

    def end(self, partition: int) -> int:
        """Offset after the last readable record now; where a finite run ends."""
        ...
