"""One connection to the exchange, from the first request to its end.

`Session` sends what opens the feed (log in, heartbeats, subscriptions), answers heartbeats
at once, takes trades into the sequencer, and asks history within the limits. Requests are
sent without waiting for the answers to those before. Contract: `run_once` ends in an error
when the connection is of no use any more; an unexpected message is counted and passed over.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from prometheus_client import Counter

from schemas.errors import FlowError
from sources import metrics
from sources.deribit_history import History, HistoryRule, Pace
from sources.deribit_protocol import (
    TOO_MANY_REQUESTS,
    WRONG_CREDENTIALS,
    Heartbeat,
    Reply,
    Trades,
    Unknown,
    alive_request,
    auth_request,
    heartbeat_request,
    history_request,
    read,
    subscribe_request,
)
from sources.deribit_sequence import PAGE, Sequencer

__all__ = ["FeedRule", "Session", "SessionEndedError", "Texts", "report_missing"]

CHANNELS_PER_REQUEST = 200
_RENEW_S = 300.0
"""How often to log in anew; a login lasts for 900 s."""

_log = logging.getLogger(__name__)
_UNEXPECTED = Counter(
    "tidemark_deribit_unexpected", "Messages nobody asked for, or errors.", ["flow", "partition"]
)
_MISSING = Counter(
    "tidemark_deribit_missing",
    "Trades given up: history did not bring them.",
    ["flow", "partition"],
)


class Texts(Protocol):
    """A connection for text messages, see `sources.deribit_socket.TextSocket`."""

    def send(self, text: str) -> None:
        """Send one; ends in an error after a bounded time."""
        ...

    def receive(self, timeout_s: float) -> Sequence[bytes]:
        """What is there or comes within the time."""
        ...


@dataclass(frozen=True, slots=True)
class FeedRule:
    """Parameters of a connection.

    Attributes:
        channels: to subscribe to.
        flow: name, for metrics.
        credentials: id and secret; None without login.
        heartbeat_s: interval asked of the server; the exchange wants 10 or more.
        stale_s: a connection that brings no trade for so long is dropped.
        subscribes_per_s: subscribe requests.
        history: how holes are healed.
        backoff_s: first wait before a reconnect; doubles up to the next.
        longest_backoff_s: cap of the wait.
        queue: trades that may wait for the worker before reading pauses.
    """

    channels: Sequence[str]
    flow: str = "deribit"
    credentials: tuple[str, str] | None = field(default=None, repr=False)
    heartbeat_s: float = 10.0
    stale_s: float = 60.0
    subscribes_per_s: float = 3.0
    history: HistoryRule = field(default_factory=HistoryRule)
    backoff_s: float = 0.5
    longest_backoff_s: float = 30.0
    queue: int = 100_000


class SessionEndedError(Exception):
    """The connection is to be dropped; `slowly` asks for a longer wait before the next."""

    def __init__(self, reason: str, *, slowly: bool = False) -> None:
        super().__init__(reason)
        self.slowly = slowly


class Session:
    """An open connection.

    Args:
        texts: the connection.
        rule: parameters.
        name: of the connection, for metrics and messages.
        sequencer: where trades go.
        history: of that sequencer.
        next_id: ids for requests, never used twice.
        now_s: now; like all times here, of a monotonic clock.
        is_first: whether no session of this feed has succeeded yet: what the exchange
            refuses then is a wrong setting.
    """

    def __init__(
        self,
        texts: Texts,
        rule: FeedRule,
        name: str,
        sequencer: Sequencer,
        history: History,
        next_id: Iterator[int],
        now_s: float,
        *,
        is_first: bool,
    ) -> None:
        self._texts = texts
        self._rule = rule
        self._name = name
        self._sequencer = sequencer
        self._history = history
        self._next_id = next_id
        self._is_first = is_first
        self._pace = Pace(rule.subscribes_per_s, 3)
        channels, n = list(rule.channels), CHANNELS_PER_REQUEST
        self._to_subscribe = [channels[at : at + n] for at in range(0, len(channels), n)][::-1]
        self._subscribing: dict[int, list[str]] = {}
        self._login = -1
        self._renew_at_s = now_s
        self._data_at_s = now_s
        self.is_subscribed = False
        self._log_in(now_s)
        texts.send(heartbeat_request(next(next_id), rule.heartbeat_s))
        self._advance(now_s)

    def run_once(self, timeout_s: float, now_s: float) -> None:
        """Take in what comes within `timeout_s`, and do what is due.

        Raises:
            SessionEndedError: The exchange ended the session, or no data come.
            FlowError: The exchange refuses what the settings ask for.
            OSError: The connection broke.
            WebSocketError: The same.
        """
        for text in self._texts.receive(timeout_s):
            match read(text):
                case Trades() as trades:
                    self._data_at_s = now_s
                    self._take(trades, now_s, live=True)
                case Reply() as reply:
                    self._on_reply(reply, now_s)
                case Heartbeat(wants_answer):
                    if wants_answer:
                        self._texts.send(alive_request(next(self._next_id)))
                case Unknown(shown):
                    self._unexpected(f"an unknown message: {shown}")
        self._advance(now_s)

    def _advance(self, now_s: float) -> None:
        if now_s - self._data_at_s > self._rule.stale_s:
            raise SessionEndedError(f"no trade came for {self._rule.stale_s:g} s")
        if now_s >= self._renew_at_s + _RENEW_S:
            self._log_in(now_s)
        while self._to_subscribe and self._pace.take(now_s):
            channels = self._to_subscribe.pop()
            request_id = next(self._next_id)
            self._subscribing[request_id] = channels
            self._texts.send(subscribe_request(request_id, channels))
        self._history.watch(now_s)
        if self.is_subscribed:  # before, what history brings could miss what follows it
            for ask in self._history.asks(self._next_id, now_s):
                self._texts.send(
                    history_request(ask.request_id, ask.instrument, ask.first, ask.last, PAGE)
                )

    def _take(self, trades: Trades, now_s: float, *, live: bool) -> int:
        for text in trades.malformed:
            metrics.REJECTED.labels(self._rule.flow, self._name, "malformed").inc()
            _log.warning(
                "Connection %s: a trade cannot be read: %s",
                self._name,
                text,
                extra={"partition": self._name},
            )
        return self._sequencer.add(trades.trades, now_s, live=live)

    def _on_reply(self, reply: Reply, now_s: float) -> None:
        new = self._take(reply.page, now_s, live=False) if reply.page else 0
        if self._history.is_asked(reply.request_id):
            self._history.answered(reply, new, now_s)
        channels = self._subscribing.pop(reply.request_id, None)
        if reply.code == TOO_MANY_REQUESTS:
            raise SessionEndedError(f"{reply.code} {reply.text}", slowly=True)
        if reply.request_id == self._login and reply.code:
            self._refused(
                f"The exchange refuses the credentials in DERIBIT_CLIENT_ID ({reply.text})",
                "Correct DERIBIT_CLIENT_ID and DERIBIT_CLIENT_SECRET; the test and the "
                "production exchange have keys of their own.",
                is_setting=reply.code in WRONG_CREDENTIALS,
            )
        if channels is not None:
            self._on_subscribed(channels, reply)
            if not (self._to_subscribe or self._subscribing):
                self.is_subscribed, self._is_first = True, False
                self._history.reconnected(now_s)
        elif reply.code:
            self._unexpected(f"error {reply.code} {reply.text}")

    def _on_subscribed(self, channels: Sequence[str], reply: Reply) -> None:
        lacking = sorted(set(channels) - set(reply.channels))
        if lacking:
            shown = ", ".join(lacking[:10]) + (" …" if len(lacking) > 10 else "")  # noqa: PLR2004
            self._refused(
                f"The exchange does not offer {shown} ({reply.text or 'not in its reply'})",
                "Correct DERIBIT_INSTRUMENTS, DERIBIT_KINDS and DERIBIT_CURRENCIES; an "
                "instrument may have expired. DERIBIT_INTERVAL=raw needs credentials.",
                is_setting=True,
            )

    def _refused(self, message: str, hint: str, *, is_setting: bool) -> None:
        if is_setting and self._is_first:
            raise FlowError(message, hint)
        self._unexpected(message)

    def _log_in(self, now_s: float) -> None:
        self._renew_at_s = now_s
        if self._rule.credentials is not None:
            self._login = next(self._next_id)
            self._texts.send(auth_request(self._login, *self._rule.credentials))

    def _unexpected(self, what: str) -> None:
        _UNEXPECTED.labels(self._rule.flow, self._name).inc()
        _log.warning("Connection %s: %s", self._name, what, extra={"partition": self._name})


def report_missing(flow: str, connection: str, instrument: str, first: int, last: int) -> None:
    """Say that a hole was given up; candles of its time show it as `complete` = false."""
    _MISSING.labels(flow, connection).inc(last - first + 1)
    _log.error(
        "Connection %s: trades %d to %d of %s are missing: history did not bring them in time",
        connection,
        first,
        last,
        instrument,
        extra={
            "partition": connection,
            "lane": f"results-{instrument}",
            "position": first,
            "last_position": last,
        },
    )
