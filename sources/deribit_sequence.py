"""Puts trades in order: per instrument by `trade_seq`, each once, holes healed or given up.

`Sequencer` knows, per instrument, the last trade it let go. What follows on it is ready at
once; what lies beyond a hole is held back until history fills the hole or it is given up.
Pure: no socket, no clock of its own. Contract: what becomes ready of an instrument rises
strictly by `trade_seq`, and a number that is left out was returned by `give_up`.

Memory: at most `HELD` trades are held per instrument; what comes beyond is forgotten,
belongs to the hole from then on, and is fetched again. Cost of a trade in order: one look
into a dict and two comparisons.
"""

from collections.abc import Iterable, Iterator, Mapping

from schemas.trade_rows import TradeRow

__all__ = ["HELD", "PAGE", "Order", "Sequencer"]

HELD = 10_000
PAGE = 1_000
"""Most trades of one page of history; the exchange's limit."""


class Order:
    """How far one instrument is.

    Attributes:
        last: sequence of the last trade let go.
        highest: highest sequence known to exist; above `last` while there is a hole.
        held: trades beyond the hole, by sequence.
        asked: ranges (first, last) that history is being asked for.
        since_s: when the hole was seen, or history last brought something of it.
        was_asked: whether history was asked since then.
        may_lag: whether trades after `last` may have passed unseen, as after a reconnect.
    """

    __slots__ = ("asked", "held", "highest", "last", "may_lag", "since_s", "was_asked")

    def __init__(self, last: int) -> None:
        self.last = last
        self.highest = last
        self.held: dict[int, TradeRow] = {}
        self.asked: set[tuple[int, int]] = set()
        self.since_s = 0.0
        self.was_asked = False
        self.may_lag = False

    def missing(self) -> Iterator[tuple[int, int]]:
        """Ranges of at most `PAGE` numbers to ask history for, that nobody asks for yet."""
        number = self.last + 1
        while number <= self.highest:
            if number in self.held:
                number += 1
                continue
            known = next((last for first, last in self.asked if first <= number <= last), None)
            if known is None:
                known = last = min(number + PAGE - 1, self.highest)
                while last in self.held:
                    last -= 1
                yield number, last
            number = known + 1


class Sequencer:
    """All instruments of a connection.

    Args:
        positions: last trade let go by instrument, in an earlier life.
        start_seq: where an instrument that has no position begins; None: at the first trade
            that comes of it.
    """

    def __init__(self, positions: Mapping[str, int], start_seq: int | None = None) -> None:
        self._orders = {name: Order(last) for name, last in positions.items()}
        self._start_seq = start_seq
        self._ready: list[TradeRow] = []
        self.holes: dict[str, Order] = {}
        """Instruments with a hole now."""
        self.duplicates = 0

    def __getitem__(self, instrument: str) -> Order:
        return self._orders[instrument]

    def __contains__(self, instrument: str) -> bool:
        return instrument in self._orders

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._orders))

    def expect(self, instruments: Iterable[str]) -> None:
        """Begin with these instruments before a trade of them comes, if that is asked for."""
        if self._start_seq is not None:
            for name in instruments:
                self._orders.setdefault(name, Order(self._start_seq - 1))

    def forget(self, instrument: str) -> None:
        """Drop an instrument that the exchange does not know any more."""
        self.holes.pop(instrument, None)
        self._orders.pop(instrument, None)

    def take(self) -> list[TradeRow]:
        """What became ready since the last call, per instrument in order."""
        ready, self._ready = self._ready, []
        return ready

    def add(self, trades: Iterable[TradeRow], now_s: float, *, live: bool) -> int:
        """Take in trades in any order, live or from history; how many of them were new.

        A hole that opens here is in `holes` afterwards, with `since_s` as `now_s`.
        """
        new = 0
        for trade in trades:
            name, seq = trade.instrument, trade.trade_seq
            order = self._orders.get(name)
            if order is None:
                first = seq if self._start_seq is None else self._start_seq
                order = self._orders[name] = Order(first - 1)
            if seq <= order.last or seq in order.held:
                self.duplicates += 1
                continue
            new += 1
            if live:
                order.may_lag = False  # from here on a hole shows by itself
            if seq == order.last + 1:
                order.last = seq
                self._ready.append(trade)
                if order.highest > seq:
                    self._follow(name, order)
                else:
                    order.highest = seq
                continue
            if name not in self.holes:
                self.holes[name] = order
                order.since_s, order.was_asked = now_s, False
            order.highest = max(order.highest, seq)
            if len(order.held) < HELD:
                order.held[seq] = trade
        return new

    def _follow(self, name: str, order: Order) -> None:
        """Let go what was held behind the trade that just came."""
        while (trade := order.held.pop(order.last + 1, None)) is not None:
            order.last += 1
            self._ready.append(trade)
        if order.last >= order.highest:
            order.highest = order.last
            self.holes.pop(name, None)

    def give_up(self, instrument: str) -> tuple[int, int]:
        """Pass over the first hole of an instrument in `holes`; the numbers it leaves out.

        What is held beyond becomes ready, up to the next hole if there is one.
        """
        order = self.holes[instrument]
        first = order.last + 1
        order.last = min(order.held, default=order.highest + 1) - 1
        missing = (first, order.last)
        self._follow(instrument, order)
        return missing
