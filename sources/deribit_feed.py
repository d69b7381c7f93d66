"""The feed of one connection: a thread that owns the socket, and a bounded queue.

The thread connects, runs sessions, and reconnects with exponential backoff, a cap and
jitter; the worker takes trades from the queue and never waits. A full queue pauses reading:
the exchange may then drop the connection, and history fills what was missed. Contract: what
`take` returns rises per instrument strictly by `trade_seq`; a wrong setting that only the
exchange can tell surfaces in `take` as a `FlowError`.
"""

import itertools
import logging
import random
import threading
import time
from collections.abc import Callable, Mapping
from typing import Protocol

from prometheus_client import Counter

from schemas.errors import FlowError
from schemas.trade_rows import TradeRow
from sources.deribit_history import History
from sources.deribit_sequence import Sequencer
from sources.deribit_session import FeedRule, Session, SessionEndedError, Texts, report_missing
from sources.deribit_socket import WebSocketError

__all__ = ["Connect", "Feed"]

_TICK_S = 0.02
_JOIN_S = 15.0
_SLOWER = 4.0  # times the backoff, after the exchange ended a session for its limits

_log = logging.getLogger(__name__)
_CONNECTS = Counter("tidemark_deribit_connects", "Connections opened.", ["flow", "partition"])
_DUPLICATES = Counter(
    "tidemark_deribit_duplicates", "Trades that had come before.", ["flow", "partition"]
)


class ClosableTexts(Texts, Protocol):
    """A connection that can be closed."""

    def close(self) -> None:
        """Let go; never raises."""
        ...


Connect = Callable[[], ClosableTexts]
"""Opens a connection; fails with an OSError or a WebSocketError."""


class Feed:
    """See the module; the thread runs from construction to `close`.

    Args:
        connect: opens a connection.
        rule: parameters.
        name: of the connection, for metrics and messages.
        positions: last trade handed over by instrument, in an earlier life.
        start_seq: see `Sequencer`.
        instruments: names that are subscribed to one by one.
    """

    def __init__(
        self,
        connect: Connect,
        rule: FeedRule,
        name: str,
        positions: Mapping[str, int],
        *,
        start_seq: int | None = None,
        instruments: tuple[str, ...] = (),
    ) -> None:
        self._connect = connect
        self._rule = rule
        self._name = name
        self._sequencer = Sequencer(positions, start_seq)
        self._sequencer.expect(instruments)
        self._history = History(self._sequencer, rule.history)
        self._queue: list[TradeRow] = []
        self._error: FlowError | None = None
        self._has_room = threading.Condition()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"deribit-{name}", daemon=True)
        self._thread.start()

    def take(self) -> list[TradeRow]:
        """What came since the last call; at most `rule.queue` trades and what one read brings.

        Raises:
            FlowError: The exchange refuses what the settings ask for.
        """
        with self._has_room:
            if self._error is not None:
                raise self._error
            trades, self._queue = self._queue, []
            self._has_room.notify_all()
        return trades

    def close(self) -> None:
        """End the thread; what is in the queue is left behind."""
        self._stopping.set()
        with self._has_room:
            self._has_room.notify_all()
        self._thread.join(_JOIN_S)

    def _run(self) -> None:
        next_id = itertools.count(1)
        wait_s, is_first = self._rule.backoff_s, True
        while not self._stopping.is_set():
            factor = 1.0
            try:
                texts = self._connect()
                _CONNECTS.labels(self._rule.flow, self._name).inc()
                try:
                    session = Session(
                        texts, self._rule, self._name, self._sequencer, self._history, next_id,
                        time.monotonic(), is_first=is_first,
                    )  # fmt: skip
                    while not self._stopping.is_set():
                        self._step(session)
                        if session.is_subscribed:
                            wait_s, is_first = self._rule.backoff_s, False
                finally:
                    texts.close()
            except FlowError as error:
                with self._has_room:
                    self._error = error
                return
            except (OSError, WebSocketError, SessionEndedError) as error:
                factor = _SLOWER if isinstance(error, SessionEndedError) and error.slowly else 1.0
                _log.warning(
                    "Connection %s: %s", self._name, error, extra={"partition": self._name}
                )
            # Jitter: clients that were dropped together do not come back together.
            self._rest(factor * wait_s * random.uniform(0.5, 1.0))  # noqa: S311  # no secret
            wait_s = min(2 * wait_s, self._rule.longest_backoff_s)

    def _step(self, session: Session) -> None:
        session.run_once(_TICK_S, time.monotonic())
        self._look_at_holes()
        self._hand_over()

    def _rest(self, wait_s: float) -> None:
        """Wait before the next connection; deadlines go on meanwhile."""
        until_s = time.monotonic() + wait_s
        while (left_s := until_s - time.monotonic()) > 0 and not self._stopping.is_set():
            self._stopping.wait(min(left_s, 0.1))
            self._look_at_holes()
            self._hand_over()

    def _look_at_holes(self) -> None:
        for given_up in self._history.give_up(time.monotonic()):
            report_missing(self._rule.flow, self._name, *given_up)

    def _hand_over(self) -> None:
        trades = self._sequencer.take()
        if self._sequencer.duplicates:
            _DUPLICATES.labels(self._rule.flow, self._name).inc(self._sequencer.duplicates)
            self._sequencer.duplicates = 0
        if trades:
            with self._has_room:
                self._queue += trades
                # The socket's own buffers fill up meanwhile, and the exchange notices.
                self._has_room.wait_for(
                    lambda: len(self._queue) < self._rule.queue or self._stopping.is_set()
                )
