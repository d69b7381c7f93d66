"""Writes what flows would, with the arguments BOOTSTRAP PREFIX INSTRUMENTS UPDATES_PER_S.

Into `PREFIX.live` every instrument's preview so many times a second, evenly spread; into
`PREFIX.candles` and `PREFIX.statistics` each second its closed candle of a second and its day. A
preview's `close_trade_time` is this process's clock just before it is produced. It runs until it
is told to end, and prints, as JSON, how many previews it has written in how many seconds, and
the last stamp of each instrument.
"""

import json
import signal
import sys
import time

import numpy as np
from confluent_kafka import Producer

from schemas.market_pb2 import Candle, Statistics

__all__ = ["main", "name"]

_SLOT_S = 0.05
_DAY_MS = 86_400_000


def name(number: int) -> str:
    """Of an instrument."""
    return f"PAIR{number:03}-USD"


def main() -> None:
    """Write until SIGTERM or SIGINT."""
    bootstrap, prefix, count, updates_per_s = *sys.argv[1:3], int(sys.argv[3]), float(sys.argv[4])
    running = True

    def end(*_: object) -> None:
        nonlocal running
        running = False

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 1})
    chance = np.random.default_rng(1)
    slots = max(1, round(1 / updates_per_s / _SLOT_S))
    prices = chance.integers(80_000, 120_000, count)
    opens, second_ms = prices.copy(), _now_ms() // 1000 * 1000
    stamps: dict[str, int] = {}
    written = turn = 0
    begun_s = next_s = time.monotonic()
    while running:
        prices += chance.integers(-20, 21, count)
        now_ms = _now_ms() // 1000 * 1000
        if now_ms > second_ms:
            for number in range(count):
                figures = int(opens[number]), int(prices[number])
                closed = _candle(number, second_ms, figures, second_ms, is_closed=True)
                producer.produce(f"{prefix}.candles", closed, name(number))
                day = _statistics(number, second_ms + 1000, figures[1])
                producer.produce(f"{prefix}.statistics", day, name(number))
            second_ms, opens = now_ms, prices.copy()
        for number in range(turn % slots, count, slots):
            figures = int(opens[number]), int(prices[number])
            stamp_ms = _now_ms()
            preview = _candle(number, second_ms, figures, stamp_ms, is_closed=False)
            producer.produce(f"{prefix}.live", preview, name(number))
            stamps[name(number)] = stamp_ms
            written += 1
        producer.poll(0)
        turn += 1
        # Behind its time it does not hurry: the rate that was written is what counts.
        next_s = max(next_s + 1 / updates_per_s / slots, time.monotonic())
        time.sleep(max(0.0, next_s - time.monotonic()))
    producer.flush(30)
    wall_s = time.monotonic() - begun_s
    print(json.dumps({"previews": written, "wall_s": wall_s, "stamps": stamps}))


def _candle(
    number: int, open_ms: int, figures: tuple[int, int], stamp_ms: int, *, is_closed: bool
) -> bytes:
    opened, closed = figures
    high, low = max(figures) + 5, min(figures) - 5
    return Candle(
        instrument=name(number),
        interval="1s",
        open_time_ms=open_ms,
        close_time_ms=open_ms + 1000,
        open=_price(opened),
        high=_price(high),
        low=_price(low),
        close=_price(closed),
        volume=f"{10 + (high - low) / 8}",
        quote_volume="12345.678",
        vwap=_price(closed),
        trade_count=17,
        taker_buy_volume="5",
        taker_buy_quote_volume="500",
        first_trade_seq=1,
        last_trade_seq=17,
        open_trade_time_ms=open_ms,
        high_trade_time_ms=open_ms,
        low_trade_time_ms=open_ms,
        close_trade_time_ms=stamp_ms,
        is_closed=is_closed,
        complete=True,
    ).SerializeToString()


def _statistics(number: int, close_ms: int, price: int) -> bytes:
    return Statistics(
        instrument=name(number),
        open_time_ms=close_ms - _DAY_MS,
        close_time_ms=close_ms,
        open="1000",
        high="2000",
        low="500",
        last=_price(price),
        price_change=_price(price - 100_000),
        price_change_percent=f"{(price - 100_000) / 1000}",
        volume=f"{123_456 + close_ms // 1000 % 1000}.789",
        quote_volume="123456789.5",
        weighted_average_price="1000.00000001",
        trade_count=654_321,
    ).SerializeToString()


def _price(cents: int) -> str:
    sign, cents = ("-" if cents < 0 else ""), abs(cents)
    return f"{sign}{cents // 100}.{cents % 100:02}"


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


if __name__ == "__main__":
    main()
