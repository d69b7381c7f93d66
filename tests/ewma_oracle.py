"""The slow, obvious reference of the ewma flow, from the whole log at once.

The recursions are those that pandas documents for `Series.ewm(adjust=False).mean()`
(https://pandas.pydata.org/docs/reference/api/pandas.Series.ewm.html): y_0 = x_0 and
y_t = (1 - alpha) y_(t-1) + alpha x_t; with `halflife` and `times` the old value keeps
0.5 ** (elapsed / halflife). Weighted by volume, numerator and denominator are two such
averages. `averages(...)` is what one shard emits, to the bit: an average is evaluated as its
quotient, old and new price each with its weight. Whether that is what pandas computes is for
`tests/unit/test_ewma_pandas.py` to say.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from tests.oracle import FOREVER, T, text

TICK_MS = 1_000


@dataclass(frozen=True)
class Ewma:
    period: int = 60_000
    mode: str = "window"
    alpha: float | None = 2 / 301
    halflife_ms: float | None = None
    weighted: bool = False
    lateness: int = 2_000


@dataclass(frozen=True)
class Accepted:
    trade: T
    place: tuple[int, int]


def accepted(partition: int, log: Sequence[T], rule: Ewma) -> list[Accepted]:
    """The records that are not behind their partition's watermark; the others are late."""
    out, newest = [], None
    for offset, trade in enumerate(log):
        if newest is None or trade.time >= newest - rule.lateness:
            out.append(Accepted(trade, (partition, offset)))
        newest = trade.time if newest is None else max(newest, trade.time)
    return out


def in_order(everything: list[Accepted]) -> list[T]:
    return [a.trade for a in sorted(everything, key=lambda a: (a.trade.time, a.trade.seq, a.place))]


def averaged(trades: Sequence[T], rule: Ewma) -> float:
    """The average at the last of an instrument's trades, the first of them its beginning."""
    first, *others = trades
    value = first.price / 1e8
    weight = first.quantity / 1e8 if rule.weighted else 1.0
    before = first.time
    for t in others:
        price = t.price / 1e8
        quantity = t.quantity / 1e8 if rule.weighted else 1.0
        if rule.mode == "time":
            keep = 0.5 ** ((t.time - before) / rule.halflife_ms)
            gain = 1 - keep
        else:
            keep, gain = 1 - rule.alpha, rule.alpha
        old, new = keep * weight, gain * quantity
        if price != value:
            value = (old * value + new * price) / (old + new)
        weight = old + new if rule.weighted else 1.0
        before = t.time
    return value


def averages(
    logs: Sequence[Sequence[T]],
    rule: Ewma,
    *,
    limit: int | None = None,
    keys: Callable[[str], bool] = lambda key: True,
) -> list[dict]:
    """Rows of the shard that holds `keys`, up to the least watermark, in order.

    With `limit=FOREVER` the run is finite: what is open then is shown one tick after all.
    """
    watermark = -FOREVER
    if all(logs):
        watermark = min(max(t.time for t in log) - rule.lateness for log in logs)
        watermark = watermark // TICK_MS * TICK_MS
    trades = in_order(
        [a for p, log in enumerate(logs) for a in accepted(p, log, rule) if keys(a.trade.key)]
    )
    flush = max(max((t.time for t in trades), default=-FOREVER), watermark)
    flush = flush // TICK_MS * TICK_MS + TICK_MS
    rows = []
    for key in {t.key for t in trades}:
        own = [t for t in trades if t.key == key]
        for start in {t.time // rule.period * rule.period for t in own}:
            end = start + rule.period
            if end > watermark and limit is None:
                continue
            inside = [t for t in own if start <= t.time < end]
            since = inside if rule.mode == "window" else [t for t in own if t.time < end]
            row = {
                "instrument": key,
                "window_start": start,
                "window_end": end,
                "alpha": rule.alpha,
                "halflife_s": None if rule.halflife_ms is None else rule.halflife_ms / 1000,
                "value": averaged(since, rule),
                "trade_count": len(inside),
                "volume": text(Decimal(sum(t.quantity for t in inside)).scaleb(-8)),
                "last_price": text(Decimal(inside[-1].price).scaleb(-8)),
                "revision": 0,
                "tick": end if end <= watermark else flush,
            }
            rows.append(((end, key.encode()), row))
    return [row for _, row in sorted(rows, key=lambda r: r[0])]
