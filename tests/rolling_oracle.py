"""The slow, obvious reference of rolling statistics: every row from the whole log at once.

Written from the rules, without panes, sums or eviction: it keeps every trade for ever and
recomputes every window at every tick. A log is a list of records, each with one trade or,
for a log of candles, with the trades of one candle; a later candle of the same pane with at
least as many trades takes its place. `statistics(...)` is what one shard emits.
"""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal

from tests.oracle import T, text

FOREVER = 2**62


@dataclass(frozen=True)
class Rolling:
    window: int = 86_400_000
    pane: int = 1_000
    tick: int = 1_000
    quiet: int = 60_000
    lateness: int = 2_000
    horizon: int = 300_000
    candles: bool = False


@dataclass(frozen=True)
class R:
    """A record of a log: when it happened, its key, and its trades (a gap candle has none)."""

    time: int
    key: str
    trades: tuple[T, ...]


@dataclass(frozen=True)
class Arrival:
    record: R
    place: tuple[int, int]
    tick: int | None  # the effective tick; None: late


def arrivals(partition: int, log: list[R], rule: Rolling) -> list[Arrival]:
    """Effective tick of each record, from its partition alone."""
    out, newest = [], -FOREVER
    for offset, record in enumerate(log):
        w = newest - rule.lateness
        pane_end = record.time // rule.pane * rule.pane + rule.pane
        if pane_end > w:
            tick: int | None = pane_end
        elif w - pane_end > rule.horizon:
            tick = None
        else:
            tick = w // rule.pane * rule.pane + rule.pane
        if tick is not None:
            tick = -(-tick // rule.tick) * rule.tick
        out.append(Arrival(record, (partition, offset), tick))
        newest = max(newest, record.time)
    return out


def _row(key: str, tick: int, rule: Rolling, trades: list[tuple[T, tuple[int, int]]]) -> dict:
    row = {"instrument": key, "open_time": tick - rule.window, "close_time": tick}
    if not trades:
        none = dict.fromkeys(
            ("open", "high", "low", "last", "price_change", "price_change_percent",
             "weighted_average_price", "first_trade_id", "last_trade_id", "high_time", "low_time")
        )  # fmt: skip
        return row | none | {"volume": "0", "quote_volume": "0", "trade_count": 0}
    ordered = [t for t, _ in sorted(trades, key=lambda x: (x[0].time, x[0].seq, x[1]))]
    first, last = ordered[0], ordered[-1]
    high, low = max(t.price for t in ordered), min(t.price for t in ordered)
    volume = sum(t.quantity for t in ordered)
    quote = sum(t.price * t.quantity for t in ordered)
    change = last.price - first.price
    percent = (Decimal(change * 10**10) / Decimal(first.price)).to_integral_value(ROUND_HALF_EVEN)
    average = (Decimal(quote) / Decimal(volume)).to_integral_value(ROUND_HALF_EVEN)
    return row | {
        "open": text(Decimal(first.price).scaleb(-8)),
        "high": text(Decimal(high).scaleb(-8)),
        "low": text(Decimal(low).scaleb(-8)),
        "last": text(Decimal(last.price).scaleb(-8)),
        "price_change": text(Decimal(change).scaleb(-8)),
        "price_change_percent": text(percent.scaleb(-8)) if percent else "0",
        "volume": text(Decimal(volume).scaleb(-8)),
        "quote_volume": text(Decimal(quote).scaleb(-16)),
        "weighted_average_price": text(average.scaleb(-8)),
        "trade_count": len(ordered),
        "first_trade_id": first.seq or None,
        "last_trade_id": last.seq or None,
        "high_time": min(t.time for t in ordered if t.price == high),
        "low_time": min(t.time for t in ordered if t.price == low),
    }


def _in_window(applied: list[Arrival], tick: int, rule: Rolling) -> list[tuple[T, tuple[int, int]]]:
    """The trades of [tick - window, tick), by pane."""
    inside = [a for a in applied if a.record.time // rule.pane * rule.pane >= tick - rule.window]
    if rule.candles:
        best: dict[int, Arrival] = {}
        for a in sorted(inside, key=lambda a: (len(a.record.trades), a.place)):
            best[a.record.time // rule.pane] = a
        inside = list(best.values())
    return [(t, a.place) for a in inside for t in a.record.trades]


def _ticks(arrived: list[Arrival], limit: int, rule: Rolling) -> list[int]:
    """Every tick at which anything could happen: after an event, when quiet, at an expiry."""
    out = set()
    for a in arrived:
        if a.tick is None:
            continue
        out.add(a.tick)
        pane_end = a.record.time // rule.pane * rule.pane + rule.pane
        gone = -(-(pane_end + rule.window) // rule.tick) * rule.tick
        out.add(gone)
        out |= set(range(-(-a.tick // rule.quiet) * rule.quiet, gone + 1, rule.quiet))
    return sorted(t for t in out if t <= limit)


def statistics(
    logs: list[list[R]],
    rule: Rolling,
    *,
    limit: int | None = None,
    keys: Callable[[str], bool] = lambda key: True,
) -> list[dict]:
    """Rows of the shard that holds `keys`, in order, up to the least watermark.

    With `limit=FOREVER` the run is finite: it goes on to the last tick that holds data.
    """
    arrived = [
        a
        for p, log in enumerate(logs)
        for a in arrivals(p, log, rule)
        if keys(a.record.key) and a.tick is not None
    ]
    marks = [max((r.time for r in log), default=-FOREVER) - rule.lateness for log in logs]
    last = min(marks)
    if limit is not None:
        last = max([last, *(a.tick for a in arrived)])
    rows = []
    names = sorted({a.record.key for a in arrived}, key=str.encode)
    own = {name: [a for a in arrived if a.record.key == name] for name in names}
    had: dict[str, int] = {}
    shown: dict[str, list[tuple[int, tuple[int, int]]]] = {}
    for tick in _ticks(arrived, last, rule):
        for name in names:
            applied = [a for a in own[name] if a.tick <= tick]
            trades = _in_window(applied, tick, rule)
            before = had.get(name, 0)
            had[name] = len(trades)
            if rule.candles:
                stays = {p for _, p in trades} <= set(shown.get(name, []))
                shown[name] = [p for _, p in trades]
                changed = not stays
            else:
                new = [a for a in applied if a.tick == tick]
                changed = bool(_in_window(new, tick, rule))
            if (trades and (changed or tick % rule.quiet == 0)) or (before and not trades):
                rows.append({"tick": tick, **_row(name, tick, rule, trades)})
    return rows
