"""Where rows come from: which batch of a source, and when. For metrics and traces only.

An `Origin` travels with `Events`, with what they become on the way, and with the `Output`
whose rows they completed, so that a sink that commits them can tell how long it took, and
which trace they belong to.

Contract. It is no part of any result: not of rows, positions, comparisons or snapshots. Two
runs over one log have other origins and the same output.

Cost: one tuple per batch of a source and one per item of a shard, whatever they hold.
"""

from collections.abc import Iterable
from typing import NamedTuple

__all__ = ["MOST_SPANS", "Arrivals", "Origin", "newest_origin"]

MOST_SPANS: int = 8
"""Traced batches that one item names; further ones are left out."""


class Origin(NamedTuple):
    """A batch of a source; of rows, the batch that completed them.

    That is the one whose records or watermark let the rows leave: of a result, the batch by
    which the source partition that the shard waited for has reached the rows' tick; of a late
    or rejected record, the one that it came with.

    End to end is the time from `record_time_ms`, the log's own timestamp of that batch's
    newest record, to the moment at which the transaction with the rows is committed. What is
    in it is the way from the broker (or the exchange) through the flow into the store; what is
    not is how long the rows' own events have waited for the end of their window. `read_s` to
    that moment is the part of it that this process is to blame for.

    Attributes:
        read_s: when the batch was fetched, wall clock, seconds since the epoch.
        record_time_ms: the newest of its records' timestamps in the log, ms since the epoch;
            -1 when there is none (a batch without records) or it is not known.
        spans: W3C `traceparent` of each traced batch that these rows are the first to follow
            in their shard, oldest first, at most `MOST_SPANS`; of a batch, its own, or none.
    """

    read_s: float
    record_time_ms: int = -1
    spans: tuple[str, ...] = ()


def newest_origin(origins: Iterable[Origin | None]) -> Origin | None:
    """The newest of several, with the spans of all; None of none."""
    known = [origin for origin in origins if origin is not None]
    if not known:
        return None
    newest = max(known, key=_age)
    spans = dict.fromkeys(span for origin in known for span in origin.spans)
    return newest._replace(spans=tuple(spans)[:MOST_SPANS]) if spans else newest


def _age(origin: Origin) -> tuple[int, float]:
    return origin.record_time_ms, origin.read_s


class Arrivals:
    """The batches that a shard has taken in since its last rows; bounded, never in a snapshot."""

    def __init__(self) -> None:
        self._newest: dict[int, Origin] = {}
        self._spans: list[str] = []

    def take(self, partition: int, origin: Origin | None) -> None:
        """A batch of a source partition."""
        if origin is None:
            return
        self._newest[partition] = origin
        if origin.spans and len(self._spans) < MOST_SPANS:
            self._spans += origin.spans

    def complete(self, slowest: int) -> Origin | None:
        """The origin of rows that leave now; what leaves after them has others' spans.

        Args:
            slowest: the source partition that they waited for.
        """
        origin = self._newest.get(slowest) or newest_origin(self._newest.values())
        if origin is None:
            return None
        spans, self._spans = tuple(self._spans), []
        return origin._replace(spans=spans) if spans or origin.spans else origin
