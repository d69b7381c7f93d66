"""The Bytewax source of the exchange feed: one permanent partition per connection.

Emits record batches of `schemas.trade_rows.TRADE_SCHEMA`, sorted by instrument and
`trade_seq`. A snapshot is the last `trade_seq` emitted per instrument; after a crash the
feed asks history from there. Contract: per instrument `trade_seq` rises strictly within one
life; the next life may repeat what came after the snapshot, in the same order, and the
exactly-once sinks drop it.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from operator import itemgetter

import pyarrow as pa
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from typing_extensions import override

from schemas.stream import NEVER
from schemas.trade_rows import trade_rows
from sources import metrics, stopping
from sources.deribit_feed import Connect, Feed
from sources.deribit_protocol import channel_name
from sources.deribit_session import FeedRule

__all__ = ["DeribitPartition", "DeribitSource", "Subscription"]

Positions = tuple[tuple[str, int], ...]
"""Snapshot: the last `trade_seq` emitted per instrument."""

_POLL = timedelta(milliseconds=5)
_by_instrument = itemgetter(0)


@dataclass(frozen=True, slots=True)
class Subscription:
    """What to subscribe to.

    Attributes:
        instruments: names, each a channel of its own.
        groups: `kind.currency`, each a channel for all its instruments.
        interval: 100ms, agg2 or raw.
        start_seq: where an instrument without a position begins; None: with the first trade
            that comes of it.
    """

    instruments: Sequence[str] = ()
    groups: Sequence[str] = ()
    interval: str = "100ms"
    start_seq: int | None = None

    def share(self, number: int, connections: int) -> "Subscription":
        """The part of connection `number`: by name, so that it stays there for ever."""

        def ours(names: Sequence[str]) -> tuple[str, ...]:
            return tuple(n for n in names if zlib.crc32(n.encode()) % connections == number)

        return replace(self, instruments=ours(self.instruments), groups=ours(self.groups))

    @property
    def channels(self) -> list[str]:
        """Names of the channels."""
        return [channel_name(what, self.interval) for what in (*self.groups, *self.instruments)]

    def covers(self, instrument: str) -> bool:
        """Whether trades of an instrument may come; a group's members are not known."""
        return bool(self.groups) or instrument in self.instruments


class DeribitPartition(StatefulSourcePartition[pa.RecordBatch, Positions]):
    """One connection; see the module.

    Args:
        connect: opens it.
        rule: parameters; its channels are those of `subscription`.
        name: of the partition.
        subscription: this connection's share; without channels nothing is opened.
        resumed: snapshot to go on from.
    """

    def __init__(
        self,
        connect: Connect,
        rule: FeedRule,
        name: str,
        subscription: Subscription,
        resumed: Positions | None,
    ) -> None:
        self._emitted = dict(resumed or ())
        self._awake: datetime | None = None
        self._trades = metrics.READ.labels(rule.flow, name)
        self._newest_ms = NEVER
        self._feed = None
        if subscription.channels:
            covered = {n: seq for n, seq in self._emitted.items() if subscription.covers(n)}
            self._feed = Feed(
                connect,
                replace(rule, channels=subscription.channels),
                name,
                covered,
                start_seq=subscription.start_seq,
                instruments=tuple(subscription.instruments),
            )
            metrics.watch(self, rule.flow, name, DeribitPartition._standing)

    @override
    def next_batch(self) -> list[pa.RecordBatch]:
        if stopping.requested():
            raise StopIteration
        trades = self._feed.take() if self._feed else []
        self._awake = datetime.now(UTC) + _POLL
        if not trades:
            return []
        trades.sort(key=_by_instrument)  # stable: by sequence within an instrument
        self._emitted.update((trade.instrument, trade.trade_seq) for trade in trades)
        self._trades.inc(len(trades))
        self._newest_ms = max(self._newest_ms, *(trade.timestamp_ms for trade in trades))
        return [trade_rows(trades)]

    def _standing(self) -> metrics.Standing:
        return metrics.Standing(self._newest_ms)

    @override
    def next_awake(self) -> datetime | None:
        return self._awake

    @override
    def snapshot(self) -> Positions:
        return tuple(self._emitted.items())

    @override
    def close(self) -> None:
        metrics.forget(self)
        if self._feed:
            self._feed.close()


class DeribitSource(FixedPartitionedSource[pa.RecordBatch, Positions]):
    """Bytewax source.

    Args:
        connect: opens a connection.
        rule: parameters, but for the channels; its request rates are for all connections
            together.
        subscription: what to subscribe to.
        connections: number of connections; never changes for a flow version.
    """

    def __init__(
        self,
        connect: Connect,
        rule: FeedRule,
        subscription: Subscription,
        connections: int = 1,
    ) -> None:
        history = replace(
            rule.history,
            requests_per_s=rule.history.requests_per_s / connections,
            burst=max(1, rule.history.burst // connections),
        )
        self._connect = connect
        self._rule = replace(
            rule, history=history, subscribes_per_s=rule.subscribes_per_s / connections
        )
        self._subscription = subscription
        self._connections = connections

    @override
    def list_parts(self) -> list[str]:
        return [f"{number:05d}" for number in range(self._connections)]

    @override
    def build_part(
        self, step_id: str, for_part: str, resume_state: Positions | None
    ) -> DeribitPartition:
        share = self._subscription.share(int(for_part), self._connections)
        return DeribitPartition(self._connect, self._rule, for_part, share, resume_state)
