"""Writes what flows would: `python -m benchmarks.page_feeder URL INSTRUMENTS UPDATES_PER_S`.

Every instrument's preview so many times a second, evenly spread; each second its closed candle
of a second and its statistics. A preview's `close_trade_time` is this process's clock just
before the statement that writes it. It runs until it is told to end, and prints, as JSON, how
many previews it has written and over how many seconds.
"""

import json
import signal
import sys
import time
from datetime import UTC, datetime

import numpy as np
import psycopg

__all__ = ["main", "name"]

_SLOT_S = 0.05


_CANDLES = """
    INSERT INTO {table} (
        instrument, interval, open_time, close_time, open, high, low, close, volume,
        quote_volume, vwap, trade_count, taker_buy_volume, taker_buy_quote_volume,
        first_trade_seq, last_trade_seq, open_trade_time, high_trade_time, low_trade_time,
        close_trade_time, is_closed, revision, gap_filled, complete)
    SELECT n, '1s', %(open)s, %(open)s + interval '1 s', o / 100, greatest(o, c) / 100 + 0.5,
        least(o, c) / 100 - 0.5, c / 100, 12.345, 12345.678, c / 100, 17, 5, 500,
        1, 17, %(open)s, %(open)s, %(open)s, %(stamp)s, {closed}, 0, false, true
    FROM unnest(%(names)s::text[], %(opens)s::numeric[], %(closes)s::numeric[]) AS t(n, o, c)
    ON CONFLICT ({key}) DO UPDATE SET
        open_time = excluded.open_time, close_time = excluded.close_time, open = excluded.open,
        high = excluded.high, low = excluded.low, close = excluded.close,
        close_trade_time = excluded.close_trade_time
"""
_PREVIEWS = _CANDLES.format(table="candles_live", closed="false", key="instrument, interval")
_CLOSED = _CANDLES.format(table="candles", closed="true", key="instrument, interval, open_time")
_STATISTICS = """
    INSERT INTO statistics_24h (
        instrument, open_time, close_time, open, high, low, last, price_change,
        price_change_percent, volume, quote_volume, weighted_average_price, trade_count)
    SELECT n, %(open)s + interval '1 s' - interval '1 day', %(open)s + interval '1 s', 1000,
        2000, 500, c / 100, c / 100 - 1000, round(c / 1000 - 100, 8), 123456.789, 123456789,
        1000.00000001, 654321
    FROM unnest(%(names)s::text[], %(closes)s::numeric[]) AS t(n, c)
    ON CONFLICT DO NOTHING
"""


def name(number: int) -> str:
    """Of an instrument."""
    return f"PAIR{number:03}-USD"


def main() -> None:
    """Write until SIGTERM or SIGINT."""
    url, count, updates_per_s = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    running = True

    def end(*_: object) -> None:
        nonlocal running
        running = False

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    chance = np.random.default_rng(1)
    names = [name(n) for n in range(count)]
    slots = max(1, round(1 / updates_per_s / _SLOT_S))
    prices = chance.integers(80_000, 120_000, count)
    opens = prices.copy()
    second = _second()
    written = turn = 0
    begun_s = next_s = time.monotonic()
    with psycopg.connect(url, autocommit=True) as connection:
        while running:
            prices += chance.integers(-20, 21, count)
            now = _second()
            if now > second:
                closed = {"names": names, "opens": opens.tolist(), "closes": prices.tolist()}
                with connection.transaction():
                    connection.execute(_CLOSED, closed | {"open": second, "stamp": second})
                    connection.execute(_STATISTICS, closed | {"open": second})
                second, opens = now, prices.copy()
            part = slice(turn % slots, None, slots)
            values = {
                "names": names[part],
                "opens": opens[part].tolist(),
                "closes": prices[part].tolist(),
                "open": second,
                "stamp": datetime.now(UTC),
            }
            connection.execute(_PREVIEWS, values)
            written += len(values["names"])
            turn += 1
            # Behind its time it does not hurry: the rate that was written is what counts.
            next_s = max(next_s + 1 / updates_per_s / slots, time.monotonic())
            time.sleep(max(0.0, next_s - time.monotonic()))
    print(json.dumps({"previews": written, "wall_s": time.monotonic() - begun_s}))


def _second() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


if __name__ == "__main__":
    main()
