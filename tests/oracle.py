"""The slow, obvious reference: what the candles flow must publish, from the whole log at once.

Written from the rules, without kernels, panes, lists or eviction: it keeps every trade for
ever and recomputes every row at every tick. `candles(...)` is what one shard emits.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import ROUND_HALF_EVEN, Decimal, getcontext

getcontext().prec = 120

PANE_MS = 1_000
FOREVER = 2**62


@dataclass(frozen=True)
class T:
    """A trade in a log; price and quantity are integers of 1e-8."""

    time: int
    key: str
    price: int
    quantity: int
    side: int = 0
    seq: int = 0


@dataclass
class Arrival:
    trade: T
    place: tuple[int, int]
    watermark: int
    tick: int | None  # None: late


@dataclass(frozen=True)
class Rule:
    intervals: tuple[int, ...] = (60_000,)
    lateness: int = 2_000
    horizon: int = 300_000
    fill: bool = False
    silence: int = 3_600_000
    memory: int = 86_400_000


def arrivals(partition: int, log: list[T], rule: Rule) -> list[Arrival]:
    """Arrival watermark and effective tick of each record, from its partition alone."""
    out, newest = [], None
    for offset, trade in enumerate(log):
        w = -FOREVER if newest is None else newest - rule.lateness
        pane_end = trade.time // PANE_MS * PANE_MS + PANE_MS
        if pane_end > w:
            tick = pane_end
        elif w - pane_end > rule.horizon:
            tick = None
        else:
            tick = w // PANE_MS * PANE_MS + PANE_MS
        out.append(Arrival(trade, (partition, offset), w, tick))
        newest = trade.time if newest is None else max(newest, trade.time)
    return out


@dataclass
class Window:
    key: str
    interval: int
    start: int
    trades: list[Arrival] = field(default_factory=list)
    shown: dict | None = None  # the row last emitted
    emitted: int = 0
    is_open: bool = False

    @property
    def end(self) -> int:
        return self.start + self.interval


def text(value: Decimal) -> str:
    plain = format(value, "f")
    return plain.rstrip("0").rstrip(".") if "." in plain else plain


def _row(window: Window, chain: list[Window], rule: Rule) -> dict:
    """The row of a window; `chain` are the windows of its key and interval, by start."""
    at = next(i for i, w in enumerate(chain) if w is window)
    previous = chain[at - 1] if at and window.start - chain[at - 1].end <= rule.memory else None
    row = {"instrument": window.key, "open_time": window.start, "close_time": window.end}
    if not window.trades:
        close = _close(chain, at)
        price = text(Decimal(close).scaleb(-8))
        return row | {
            "open": price, "high": price, "low": price, "close": price,
            "volume": "0", "quote_volume": "0", "vwap": None, "trade_count": 0,
            "taker_buy_volume": "0", "taker_buy_quote_volume": "0",
            "first_trade_seq": None, "last_trade_seq": None,
            "open_trade_time": None, "high_trade_time": None,
            "low_trade_time": None, "close_trade_time": None,
            "gap_filled": True, "complete": True,
        }  # fmt: skip
    ordered = sorted(window.trades, key=lambda a: (a.trade.time, a.trade.seq, a.place))
    trades = [a.trade for a in ordered]
    seqs = sorted(t.seq for t in trades if t.seq > 0)
    complete = seqs == list(range(seqs[0], seqs[0] + len(seqs))) if seqs else True
    if seqs and previous is not None:
        before = _last_seq(chain, at - 1)
        complete = complete and not (before and seqs[0] > before + 1)
    high, low = max(t.price for t in trades), min(t.price for t in trades)
    volume = sum(t.quantity for t in trades)
    quote = sum(t.price * t.quantity for t in trades)
    buys = [t for t in trades if t.side == 0]
    vwap = (Decimal(quote) / Decimal(volume)).to_integral_value(ROUND_HALF_EVEN)
    return row | {
        "open": text(Decimal(trades[0].price).scaleb(-8)),
        "high": text(Decimal(high).scaleb(-8)),
        "low": text(Decimal(low).scaleb(-8)),
        "close": text(Decimal(trades[-1].price).scaleb(-8)),
        "volume": text(Decimal(volume).scaleb(-8)),
        "quote_volume": text(Decimal(quote).scaleb(-16)),
        "vwap": text(vwap.scaleb(-8)),
        "trade_count": len(trades),
        "taker_buy_volume": text(Decimal(sum(t.quantity for t in buys)).scaleb(-8)),
        "taker_buy_quote_volume": text(
            Decimal(sum(t.price * t.quantity for t in buys)).scaleb(-16)
        ),
        "first_trade_seq": seqs[0] if seqs else None,
        "last_trade_seq": seqs[-1] if seqs else None,
        "open_trade_time": trades[0].time,
        "high_trade_time": min(t.time for t in trades if t.price == high),
        "low_trade_time": min(t.time for t in trades if t.price == low),
        "close_trade_time": trades[-1].time,
        "gap_filled": False,
        "complete": complete,
    }


def _close(chain: list[Window], at: int) -> int:
    while not chain[at].trades:
        at -= 1
    last = max(chain[at].trades, key=lambda a: (a.trade.time, a.trade.seq, a.place))
    return last.trade.price


def _last_seq(chain: list[Window], at: int) -> int:
    while not chain[at].trades:
        at -= 1
    return max((a.trade.seq for a in chain[at].trades if a.trade.seq > 0), default=0)


class Shard:
    """One shard, fed with all arrivals of its keys at once."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.windows: dict[tuple[str, int], list[Window]] = {}
        self.closed = -FOREVER
        self.rows: list[dict] = []

    def row(self, window: Window, chain: list[Window]) -> dict:
        """What is published of a window; `chain` are those of its key and interval, by start."""
        return _row(window, chain, self.rule)

    def run(self, pending: list[Arrival], limit: int) -> None:
        """Process the ticks up to `limit`."""
        pending = sorted(
            (a for a in pending if a.tick is not None and a.tick <= limit), key=lambda a: a.tick
        )
        for a in pending:  # after a flush, what comes for a passed tick applies at the next
            a.tick = max(a.tick, self.closed + PANE_MS if self.closed > -FOREVER else a.tick)
        while True:
            due = [a.tick for a in pending] + self._ends()
            if not due or min(due) > limit:
                return
            tick = min(due)
            for a in [a for a in pending if a.tick <= tick]:
                for interval in self.rule.intervals:
                    self._window(a.trade.key, interval, a.trade.time, tick).trades.append(a)
            pending = [a for a in pending if a.tick > tick]
            self._fill(tick)
            self._emit(tick)
            self.closed = tick

    def flush(self) -> None:
        """End of a finite run: show every open window that has changed, at the next tick."""
        tick = self.closed + PANE_MS
        before = len(self.rows)
        self._emit(tick, early=True)
        if len(self.rows) > before:
            self.closed = tick

    def _window(self, key: str, interval: int, time: int, tick: int) -> Window:
        chain = self.windows.setdefault((key, interval), [])
        start = time // interval * interval
        for window in chain:
            if window.start == start:
                break
        else:
            window = Window(key, interval, start)
            chain.append(window)
            chain.sort(key=lambda w: w.start)
        window.is_open = window.end >= tick
        return window

    def _ends(self) -> list[int]:
        ends = [w.end for chain in self.windows.values() for w in chain if w.is_open]
        if self.rule.fill:
            for chain in self.windows.values():
                end = self._gap_end(chain)
                if end is not None:
                    ends.append(end)
        return ends

    def _gap_end(self, chain: list[Window]) -> int | None:
        newest = chain[-1]
        end = newest.end + newest.interval
        since = max(w.end for w in chain if w.trades)
        if newest.is_open or end - since > self.rule.silence:
            return None
        return end

    def _fill(self, tick: int) -> None:
        for chain in self.windows.values():
            for window in chain:
                if window.is_open and window.end <= tick:
                    window.is_open = False
            while self.rule.fill:
                end = self._gap_end(chain)
                if end is None or end > tick:
                    break
                chain.append(Window(chain[-1].key, chain[-1].interval, chain[-1].end))

    def _emit(self, tick: int, *, early: bool = False) -> None:
        rows = []
        for (key, interval), chain in self.windows.items():
            for window in chain:
                if window.is_open and not early:
                    continue
                row = self.row(window, chain)
                if row != window.shown:
                    window.shown = row
                    rows.append(
                        (interval, key.encode(), window.start, row | {
                            "interval": interval, "revision": window.emitted, "tick": tick,
                            "is_closed": True,
                        })
                    )  # fmt: skip
                    window.emitted += 1
                if early and window.end <= tick:
                    window.is_open = False
        self.rows += [row for *_, row in sorted(rows, key=lambda r: r[:3])]


def candles(
    logs: list[list[T]],
    rule: Rule,
    *,
    limit: int | None = None,
    keys: Callable[[str], bool] = lambda key: True,
) -> list[dict]:
    """Rows of the shard that holds `keys`, up to the least watermark, in order.

    With `limit=FOREVER` the run is finite: everything pending applies, then it is flushed.
    """
    return published(Shard(rule), logs, limit=limit, keys=keys)


def published(
    shard: Shard, logs: list[list[T]], *, limit: int | None, keys: Callable[[str], bool]
) -> list[dict]:
    """What a shard makes of a log; see `candles`."""
    rule = shard.rule
    everything = [
        a for p, log in enumerate(logs) for a in arrivals(p, log, rule) if keys(a.trade.key)
    ]
    if limit is None:
        if any(not log for log in logs):
            return []
        limit = min(max(t.time for t in log) - rule.lateness for log in logs)
        shard.run(everything, limit)
        return shard.rows
    last = max((a.tick for a in everything if a.tick is not None), default=-FOREVER)
    shard.run(everything, last)
    shard.flush()
    return shard.rows
