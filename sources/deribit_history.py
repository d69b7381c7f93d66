"""What to ask history for, when, and when to stop asking.

`History` watches the holes of a `Sequencer` and asks for their pages, several at a time
within the exchange's limits; a page that brings nothing is asked for again a little later.
After a reconnect it also asks for what may have passed unseen of instruments that are
silent since; holes come first. Pure: it says what to send, and is told what came.

Deadline: a hole of which history brings nothing for `deadline_s` is given up. While its
request still waits for its turn, what history brings for others counts too: a long queue
that moves is no reason to lose trades.
"""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from sources.deribit_protocol import NOT_FOUND, Reply
from sources.deribit_sequence import Order, Sequencer

__all__ = ["Ask", "GivenUp", "History", "HistoryRule", "Pace"]

_IN_FLIGHT = 16
_FIRST_RETRY_S = 0.1
_LONGEST_RETRY_S = 2.0
_TAIL_TRIES = 5


@dataclass(frozen=True, slots=True)
class HistoryRule:
    """Parameters.

    Attributes:
        deadline_s: how long a hole may wait without anything coming of it.
        grace_s: how long to wait for a trade that merely comes out of order.
        answer_s: after so long without an answer a page is asked for again.
        requests_per_s: of all requests of this connection.
        burst: requests that may be sent at once.
    """

    deadline_s: float = 60.0
    grace_s: float = 0.05
    answer_s: float = 5.0
    requests_per_s: float = 15.0
    burst: int = 20


class Ask(NamedTuple):
    """A page to ask for; `last` is None where only the end of the log ends it."""

    request_id: int
    instrument: str
    first: int
    last: int | None
    sent_s: float


class GivenUp(NamedTuple):
    """A hole that was passed over: numbers `first` to `last` of an instrument."""

    instrument: str
    first: int
    last: int


class Pace:
    """A bucket of tokens: `per_s` come in, at most `burst` are kept."""

    def __init__(self, per_s: float, burst: int) -> None:
        self._per_s, self._burst = per_s, burst
        self._tokens, self._at_s = float(burst), 0.0

    def take(self, now_s: float) -> bool:
        """Whether one more may go now; if so it is counted."""
        gained = (now_s - self._at_s) * self._per_s
        self._tokens, self._at_s = min(self._burst, self._tokens + gained), now_s
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class History:
    """The requests of one connection, over all its reconnects.

    Args:
        sequencer: whose holes are healed.
        rule: parameters.
    """

    def __init__(self, sequencer: Sequencer, rule: HistoryRule) -> None:
        self._sequencer = sequencer
        self._rule = rule
        self._pace = Pace(rule.requests_per_s, rule.burst)
        self._asked: dict[int, Ask] = {}
        # (when, instrument): holes, and instruments that may lag. An entry of the former
        # counts only if it is the one in `_due`.
        self._holes: list[tuple[float, str]] = []
        self._tails: list[tuple[float, str]] = []
        self._due: dict[str, float] = {}
        self._tries: dict[str, int] = {}
        self._moved_s = 0.0

    def reconnected(self, now_s: float) -> None:
        """Nothing that was asked for will come; all that is known may lag."""
        for ask in self._asked.values():
            self._release(ask)
        self._asked.clear()
        self._tails.clear()
        self._tries.clear()
        for name in self._sequencer:
            self._sequencer[name].may_lag = True
            self._tails.append((now_s, name))
        heapq.heapify(self._tails)
        for name in self._sequencer.holes:
            self._want(name, now_s)

    def watch(self, now_s: float) -> None:
        """Look at holes that opened since the last call."""
        for name in self._sequencer.holes:
            order = self._sequencer[name]
            if name not in self._due and not order.asked:
                self._want(name, now_s if order.was_asked else order.since_s + self._rule.grace_s)

    def asks(self, next_id: Iterator[int], now_s: float) -> Iterator[Ask]:
        """The pages to ask for now."""
        for ask in [a for a in self._asked.values() if now_s - a.sent_s > self._rule.answer_s]:
            self.answered(Reply(ask.request_id, -1, "no answer"), 0, now_s)
        while len(self._asked) < _IN_FLIGHT:
            wanted = self._hole_page(now_s) or self._tail_page(now_s)
            if wanted is None or not self._pace.take(now_s):
                return
            name, first, last = wanted
            order = self._sequencer[name]
            if not order.was_asked:
                order.was_asked, order.since_s = True, now_s
            if last is None:
                heapq.heappop(self._tails)
            else:
                order.asked.add((first, last))
            ask = Ask(next(next_id), name, first, last, now_s)
            self._asked[ask.request_id] = ask
            yield ask

    def _hole_page(self, now_s: float) -> tuple[str, int, int] | None:
        """The next page of the hole that is due first; its entry stays until all are asked."""
        heap = self._holes
        while heap and heap[0][0] <= now_s:
            at_s, name = heap[0]
            if self._due.get(name) == at_s:
                if name in self._sequencer.holes:
                    for first, last in self._sequencer[name].missing():
                        return name, first, last
                del self._due[name]
            heapq.heappop(heap)
        return None

    def _tail_page(self, now_s: float) -> tuple[str, int, None] | None:
        """What follows the last trade of an instrument that may lag; its entry stays."""
        heap = self._tails
        while heap and heap[0][0] <= now_s:
            name = heap[0][1]
            if name in self._sequencer.holes:
                heapq.heapreplace(heap, (now_s + _LONGEST_RETRY_S, name))
            elif name in self._sequencer and self._sequencer[name].may_lag:
                return name, self._sequencer[name].last + 1, None
            else:
                heapq.heappop(heap)
        return None

    def is_asked(self, request_id: int) -> bool:
        """Whether a reply belongs to a page that is waited for."""
        return request_id in self._asked

    def answered(self, reply: Reply, new: int, now_s: float) -> None:
        """Take note of a reply; its trades are in the sequencer already.

        Args:
            reply: to a request of `asks`; others are ignored.
            new: how many of its trades were new.
            now_s: now.
        """
        ask = self._asked.pop(reply.request_id, None)
        if ask is None:
            return
        name = ask.instrument
        order = self._release(ask)
        if order is None:
            return
        if new:
            self._moved_s = order.since_s = now_s
            self._tries.pop(name, None)
        if name in self._sequencer.holes:
            self._want(name, now_s if new else now_s + self._retry_s(name))
        if ask.last is None and order.may_lag:
            self._tail_answered(name, reply, now_s, is_new=new > 0)

    def _tail_answered(self, name: str, reply: Reply, now_s: float, *, is_new: bool) -> None:
        if reply.code in NOT_FOUND:
            self._sequencer.forget(name)  # it has expired
        elif reply.code == 0 and is_new and reply.has_more:
            heapq.heappush(self._tails, (now_s, name))
        elif reply.code == 0:
            self._sequencer[name].may_lag = False
        elif self._tries.get(name, 0) < _TAIL_TRIES:
            heapq.heappush(self._tails, (now_s + self._retry_s(name), name))

    def give_up(self, now_s: float) -> list[GivenUp]:
        """Pass over the holes whose deadline has come."""
        deadline_s = self._rule.deadline_s
        given_up = []
        for name, order in tuple(self._sequencer.holes.items()):
            since_s = order.since_s if order.was_asked else max(order.since_s, self._moved_s)
            if now_s - since_s >= deadline_s:
                given_up.append(GivenUp(name, *self._sequencer.give_up(name)))
                order.since_s, order.was_asked = now_s, False
                self._tries.pop(name, None)
        return given_up

    def _want(self, name: str, at_s: float) -> None:
        if self._due.get(name, at_s + 1) > at_s:
            self._due[name] = at_s
            heapq.heappush(self._holes, (at_s, name))

    def _retry_s(self, name: str) -> float:
        tries = self._tries[name] = self._tries.get(name, 0) + 1
        return float(min(_FIRST_RETRY_S * 2 ** (tries - 1), _LONGEST_RETRY_S))

    def _release(self, ask: Ask) -> Order | None:
        if ask.instrument not in self._sequencer:
            return None
        order = self._sequencer[ask.instrument]
        if ask.last is not None:
            order.asked.discard((ask.first, ask.last))
        return order
