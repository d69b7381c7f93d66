"""Any sequence of faults: each (instrument, trade_seq) leaves once, holes are healed or told.

The feed runs against the real simulated exchange over a real socket; only times are shorter.
"""

import logging
from dataclasses import replace
from itertools import pairwise
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from sources.deribit import Positions
from tests.exchange_feed import RULE, Exchange, Flow

_NOTIFICATION = st.sampled_from(["gap", "duplicate", "reorder", "unknown"])
_HISTORY = st.sampled_from(["history_error", "history_empty", "history_late", "too_many_requests"])


class GivenUp(logging.Handler):
    """Collects the holes that the feed reports."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.missing: set[tuple[str, int]] = set()

    def emit(self, record: logging.LogRecord) -> None:
        args: Any = record.args
        _, first, last, name = args
        self.missing.update((name, seq) for seq in range(first, last + 1))


class FeedMachine(RuleBasedStateMachine):
    exchange: Exchange
    flow: Flow

    @initialize(seed=st.integers(0, 1_000), patient=st.booleans())
    def begin(self, seed: int, patient: bool) -> None:
        self.exchange = Exchange(seed=seed)
        self.patient = patient
        history = RULE.history if patient else replace(RULE.history, deadline_s=0.1)
        self.flow = Flow(self.exchange, replace(RULE, stale_s=0.2, history=history))
        self.snapshots: list[Positions | None] = [None]
        self.given_up = GivenUp()
        logging.getLogger("sources.deribit_session").addHandler(self.given_up)
        self.flow.start()

    @rule(ms=st.integers(1, 1_000))
    def trade(self, ms: int) -> None:
        self.exchange.clock.now_ms += ms
        self.flow.run(0.03)

    @rule(fault=_NOTIFICATION, times=st.integers(1, 3))
    def disturb(self, fault: Any, times: int) -> None:
        self.exchange.faults.request(fault, times)

    @rule(in_mid_message=st.booleans())
    def disconnect(self, in_mid_message: bool) -> None:
        if in_mid_message:
            self.exchange.faults.request("disconnect")
        else:
            self.exchange.server.disconnect()

    @rule()
    def fall_silent(self) -> None:
        self.exchange.faults.request("silent")

    @rule(fault=_HISTORY, times=st.integers(1, 10))
    def fail_history(self, fault: Any, times: int) -> None:
        self.exchange.faults.request(fault, times)

    @rule()
    def wait(self) -> None:
        self.flow.run(0.2)

    @rule(slow_s=st.sampled_from([0.0, 0.02]))
    def slow_down(self, slow_s: float) -> None:
        self.exchange.faults.slow_s = slow_s

    @rule()
    def snapshot(self) -> None:
        assert self.flow.partition
        self.snapshots.append(self.flow.partition.snapshot())

    @rule(back=st.integers(0, 3))
    def restart(self, back: int) -> None:
        """Killed; goes on from some snapshot, or without any."""
        self.flow.run(0.02)
        self.flow.stop()
        self.flow.start(self.snapshots[-1 - back % len(self.snapshots)])

    @invariant()
    def each_leaves_once_and_in_order(self) -> None:
        if hasattr(self, "flow"):
            for lane in self.flow.written.values():
                assert all(a < b for a, b in pairwise(lane))

    def teardown(self) -> None:
        if not hasattr(self, "flow"):
            return
        try:
            self.exchange.faults.clear()
            self.exchange.faults.slow_s = 0.0
            before = self.exchange.traded()
            # What was swallowed shows when the instrument trades again.
            while any(seq == before[name] for name, seq in self.exchange.traded().items()):
                self.exchange.clock.now_ms += 50
            target = self.exchange.traded()
            self.flow.wait_for(target)
            for name, last in target.items():
                missing = set(range(1, last + 1)) - set(self.flow.written[name])
                told = {seq for of, seq in self.given_up.missing if of == name}
                assert missing <= told, "a hole is healed or told"
                if self.patient:
                    assert not missing, "history answers in the end, so nothing is missing"
        finally:
            logging.getLogger("sources.deribit_session").removeHandler(self.given_up)
            self.flow.stop()
            self.exchange.server.stop()


TestFeed = FeedMachine.TestCase
TestFeed.settings = settings(
    max_examples=12,
    stateful_step_count=15,
    suppress_health_check=list(HealthCheck),
)
