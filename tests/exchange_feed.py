"""The exchange feed against the simulated exchange: a clock in hand, and a model of the sink."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from sources.deribit import DeribitPartition, DeribitSource, Positions, Subscription
from sources.deribit_history import HistoryRule
from sources.deribit_session import FeedRule
from sources.deribit_socket import TextSocket
from sources.exchange.faults import Faults
from sources.exchange.market import ExchangeMarket
from sources.exchange.protocol import Limits
from sources.exchange.server import ExchangeServer

OPENED_AT_MS = 1_700_000_000_000
RULE = FeedRule(
    channels=(),
    credentials=("simulated", "simulated"),
    heartbeat_s=0.5,
    stale_s=1.0,
    subscribes_per_s=100,
    history=HistoryRule(deadline_s=30, grace_s=0.01, answer_s=0.5, requests_per_s=500, burst=100),
    backoff_s=0.01,
    longest_backoff_s=0.1,
)
WAIT_S = 30.0


class Clock:
    """The exchange's clock; trades come as it is moved."""

    def __init__(self) -> None:
        self.now_ms = OPENED_AT_MS

    def __call__(self) -> int:
        return self.now_ms


class Exchange:
    """A running exchange of few instruments, whose trades are known."""

    def __init__(self, *, seed: int = 1, instruments: int = 3, rate: float = 200.0) -> None:
        self.clock = Clock()
        self.market = ExchangeMarket(OPENED_AT_MS, seed=seed, instruments=instruments, rate=rate)
        self.faults = Faults()
        self.server = ExchangeServer(
            self.market, self.faults, now_ms=self.clock, limits=Limits(least_heartbeat_s=0.01)
        ).start()

    @property
    def names(self) -> list[str]:
        """The instruments."""
        return [listed.name for listed in self.market.listed]

    def traded(self) -> dict[str, int]:
        """The last trade_seq of each instrument now."""
        return {
            name: self.market.count(k, self.clock.now_ms) for name, k in self.market.index.items()
        }


class Flow:
    """The source's only partition, and what an exactly-once sink makes of what it emits."""

    def __init__(
        self, exchange: Exchange, rule: FeedRule = RULE, subscription: Subscription | None = None
    ) -> None:
        self._exchange = exchange
        self._source = DeribitSource(
            lambda: TextSocket(exchange.server.url),
            rule,
            subscription or Subscription(exchange.names, interval="raw", start_seq=1),
        )
        self.written: dict[str, list[int]] = {}
        self._emitted: dict[str, int] = {}
        self.partition: DeribitPartition | None = None

    def start(self, state: Positions | None = None) -> None:
        """Begin or go on from a snapshot."""
        self._emitted = dict(state or ())
        self.partition = self._source.build_part("trades", "00000", state)

    def stop(self) -> None:
        """As a kill would: what was emitted stays, the rest is gone."""
        if self.partition:
            self.partition.close()
            self.partition = None

    def run(self, duration_s: float) -> None:
        """Emit for a while."""
        until_s = time.monotonic() + duration_s
        while time.monotonic() < until_s:
            self.step()
            time.sleep(0.002)

    def step(self) -> None:
        """Emit once, and check what no sink could mend."""
        assert self.partition
        for batch in self.partition.next_batch():
            pairs = zip(
                batch["instrument"].to_pylist(), batch["trade_seq"].to_pylist(), strict=True
            )
            for name, seq in pairs:
                assert seq > self._emitted.get(name, 0), "once and in order within a life"
                self._emitted[name] = seq
                lane = self.written.setdefault(name, [])
                if seq > (lane[-1] if lane else 0):
                    lane.append(seq)

    def wait_for(self, target: dict[str, int]) -> None:
        """Emit until each lane has reached its target."""
        until_s = time.monotonic() + WAIT_S
        while any(self.written.get(name, [0])[-1] < seq for name, seq in target.items() if seq):
            assert time.monotonic() < until_s, (self.written, target)
            self.run(0.01)


@contextmanager
def running(exchange: Exchange, **rule: object) -> Iterator[Flow]:
    """A flow that has started, with some parameters changed; exchange and flow end with it."""
    flow = Flow(exchange, replace(RULE, **rule))  # type: ignore[arg-type]
    flow.start()
    try:
        yield flow
    finally:
        flow.stop()
        exchange.server.stop()
