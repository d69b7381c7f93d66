"""What the simulated exchange says of its own trades: candles of its chart, and 24 hours.

Added up from the trades here, with whole numbers, by nothing that the flows are made of: an
agreement of the two proves something. Shapes and meanings are those of the real exchange's
`public/get_tradingview_chart_data` and `public/ticker` (docs.deribit.com): a window without
trades after the first one is filled with the close before it, the last candle is the one still
forming, volume is in base currency and cost in quote currency. Contract: a function of market
and time; prices and amounts are exact. Only the volume of an inverse future, a sum of
quotients, is rounded, to 8 places.

Cost: 0.3 us for each trade of the span.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

import numpy as np

from sources.exchange.market import Columns, ExchangeMarket

__all__ = ["RESOLUTIONS_MS", "chart_json", "ticker_json"]

RESOLUTIONS_MS = {
    **{str(minutes): minutes * 60_000 for minutes in (1, 3, 5, 10, 15, 30, 60, 120, 180, 360, 720)},
    "1D": 86_400_000,
}
"""Name and length of the candles of a chart."""

_MOST_CANDLES = 5_000
_DAY_MS = 86_400_000
_FOREVER_MS = 2**62
_PLACES = 8
_PERCENT_PLACES = 4
_NOTHING = Decimal(0)


@dataclass(slots=True)
class _Sum:
    """Trades taken together; prices and contracts are whole numbers, as in `Columns`."""

    open: int
    high: int
    low: int
    close: int
    contracts: int
    cost: int
    quotients: float

    def add(self, later: "_Sum") -> None:
        """Take in what comes after."""
        self.high, self.low = max(self.high, later.high), min(self.low, later.low)
        self.close = later.close
        self.contracts += later.contracts
        self.cost += later.cost
        self.quotients += later.quotients


def _add(columns: Columns, length_ms: int, into: dict[int, _Sum]) -> None:
    """Add consecutive trades to the sums of their windows, by start."""
    times, price, contracts = columns
    starts = times // length_ms * length_ms
    first = np.flatnonzero(np.diff(starts, prepend=-1))
    last = np.append(first[1:], len(starts)) - 1
    rows = zip(
        starts[first].tolist(),
        price[first].tolist(),
        np.maximum.reduceat(price, first).tolist(),
        np.minimum.reduceat(price, first).tolist(),
        price[last].tolist(),
        np.add.reduceat(contracts, first).tolist(),
        np.add.reduceat(price * contracts, first).tolist(),  # of a chunk, so below 2**63
        np.add.reduceat(contracts / price, first).tolist(),
        strict=True,
    )
    for start, *figures in rows:
        part = _Sum(*figures)
        if start in into:
            into[start].add(part)
        else:
            into[start] = part


def _sums(
    market: ExchangeMarket, instrument: int, after_ms: int, upto_ms: int, length_ms: int
) -> dict[int, _Sum]:
    """Sums of the trades after `after_ms` and up to `upto_ms`, by start of window."""
    found: dict[int, _Sum] = {}
    first, last = (market.count(instrument, ms) for ms in (after_ms, upto_ms))
    for columns in market.columns(instrument, first + 1, last):
        _add(columns, length_ms, found)
    return found


def _volumes(market: ExchangeMarket, instrument: int, total: _Sum) -> tuple[Decimal, Decimal]:
    """Volume in base currency and cost in quote currency."""
    listed = market.listed[instrument]
    size, scale = listed.contract_size, market.price_scales[instrument]
    amount = size * total.contracts
    if not listed.is_inverse:
        return amount, (size * total.cost).scaleb(-scale)
    return round(Decimal(total.quotients) * size * 10**scale, _PLACES), amount


def _price(market: ExchangeMarket, instrument: int, price: int) -> Decimal:
    return Decimal(price).scaleb(-market.price_scales[instrument])


def _close_before(market: ExchangeMarket, instrument: int, time_ms: int) -> int | None:
    number = market.count(instrument, time_ms - 1)
    for columns in market.columns(instrument, number, number) if number else ():
        return int(columns.price[0])
    return None


def chart_json(
    market: ExchangeMarket,
    instrument: int,
    start_ms: int,
    end_ms: int,
    length_ms: int,
    now_ms: int,
) -> str:
    """Candles that open from `start_ms` to `end_ms`, the newest 5,000 of them.

    Args:
        market: what is traded.
        instrument: its index.
        start_ms: epoch ms, from 0 on.
        end_ms: epoch ms.
        length_ms: of a candle.
        now_ms: the exchange's clock.
    """
    final = min(end_ms, now_ms) // length_ms * length_ms
    start = max(
        -(-start_ms // length_ms) * length_ms,
        market.opened_at_ms // length_ms * length_ms,
        final - (_MOST_CANDLES - 1) * length_ms,
    )
    sums = _sums(market, instrument, start - 1, min(final + length_ms - 1, now_ms), length_ms)
    close = _close_before(market, instrument, start)
    ticks: list[int] = []
    columns: dict[str, list[Decimal]] = {
        name: [] for name in ("open", "high", "low", "close", "volume", "cost")
    }
    for tick in range(start, final + 1, length_ms):
        total = sums.get(tick)
        if total is None:
            if close is None:
                continue  # nothing was traded yet
            prices, volumes = (close,) * 4, (_NOTHING, _NOTHING)
        else:
            prices = (total.open, total.high, total.low, total.close)
            volumes = _volumes(market, instrument, total)
            close = total.close
        ticks.append(tick)
        figures = (*(_price(market, instrument, price) for price in prices), *volumes)
        for column, figure in zip(columns.values(), figures, strict=True):
            column.append(figure)
    lists = "".join(f',"{name}":[{_listed(column)}]' for name, column in columns.items())
    return f'{{"status":"{"ok" if ticks else "no_data"}","ticks":{json.dumps(ticks)}{lists}}}'


def ticker_json(market: ExchangeMarket, instrument: int, now_ms: int) -> str:
    """The last price, and the figures of the 24 hours up to `now_ms`, that moment included."""
    last = _close_before(market, instrument, now_ms + 1)
    total = _sums(market, instrument, now_ms - _DAY_MS, now_ms, _FOREVER_MS).get(0)
    high = low = change = "null"
    volume = cost = _NOTHING
    if total is not None:
        high, low = (f"{_price(market, instrument, at):f}" for at in (total.high, total.low))
        percent = 100 * Decimal(total.close - total.open) / total.open
        change = f"{round(percent, _PERCENT_PLACES):f}"
        volume, cost = _volumes(market, instrument, total)
    listed = market.listed[instrument]
    dollars = f',"volume_usd":{cost:f}' if listed.kind == "future" else ""
    last_price = "null" if last is None else f"{_price(market, instrument, last):f}"
    return (
        f'{{"instrument_name":"{listed.name}","timestamp":{now_ms},"state":"open",'
        f'"last_price":{last_price},"stats":{{"high":{high},"low":{low},'
        f'"price_change":{change},"volume":{volume:f}{dollars}}}}}'
    )


def _listed(column: Sequence[Decimal]) -> str:
    return ",".join(f"{figure:f}" for figure in column)
