"""Rolling statistics of published candles: each candle is a pane, its correction replaces it."""

import random

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.candle import CANDLE
from operators.combine import Combine, CombineRule
from operators.rolling_candles import PUBLISHED_CANDLE
from operators.tumbling import TumblingShard
from operators.window_table import WindowRule
from schemas.candle_codec import CandleCodec
from schemas.candles import encode_candles
from schemas.market_pb2 import Candle
from schemas.stream import NEVER, Output
from tests import rolling_oracle, strategies
from tests.oracle import Decimal, T, text
from tests.rolling_oracle import R, Rolling
from tests.runs import batch
from tests.unit.test_rolling_property import RollingRun, record_columns, records, same

MINUTE = 60_000
BASE = strategies.BASE_MS


def message(record: R) -> bytes:
    """A record of the oracle as a published candle."""
    start = record.time // MINUTE * MINUTE
    candle = Candle(
        instrument=record.key, interval="1m", open_time_ms=start, close_time_ms=start + MINUTE,
        is_closed=True, trade_count=len(record.trades), gap_filled=not record.trades,
    )  # fmt: skip
    if record.trades:
        trades = sorted(record.trades, key=lambda t: (t.time, t.seq))
        by_price = sorted(trades, key=lambda t: (t.price, t.time))
        highest = next(t for t in by_price if t.price == by_price[-1].price)
        for name, trade in (
            ("open", trades[0]), ("close", trades[-1]), ("low", by_price[0]), ("high", highest)
        ):  # fmt: skip
            setattr(candle, name, text(Decimal(trade.price).scaleb(-8)))
            setattr(candle, f"{name}_trade_time_ms", trade.time)
        candle.volume = text(Decimal(sum(t.quantity for t in trades)).scaleb(-8))
        candle.quote_volume = text(Decimal(sum(t.price * t.quantity for t in trades)).scaleb(-16))
        candle.first_trade_seq, candle.last_trade_seq = trades[0].seq, trades[-1].seq
    return candle.SerializeToString()


def candle_columns(part: list[R]) -> dict[str, np.ndarray]:
    decoded = CandleCodec("1m").decode(pa.array([message(r) for r in part], pa.binary()))
    assert not decoded.reasons.any()
    assert decoded.event_time_ms.tolist() == [r.time for r in part]
    return dict(decoded.columns)


class CandleRun(RollingRun):
    aggregate = PUBLISHED_CANDLE
    columns = staticmethod(candle_columns)


@st.composite
def candle_logs(draw: st.DrawFn) -> list[list[R]]:
    """Candles with gaps, corrections, repetitions, delays, and some that shrink again."""
    out = []
    known: dict[tuple[str, int], list[T]] = {}
    for _ in range(draw(st.integers(1, 2))):
        log: list[R] = []
        start = BASE
        for _ in range(draw(st.integers(0, 30))):
            start += MINUTE * draw(st.sampled_from([0, 0, 1, 1, 2, 7]))
            key = draw(st.sampled_from("ab"))
            at = start - MINUTE * draw(st.sampled_from([0, 0, 0, 1, 3, 6]))
            trades = known.setdefault((key, at), [])
            for _ in range(draw(st.integers(0, 2))):
                time = at + draw(st.integers(0, MINUTE - 1))
                price = draw(st.sampled_from([1, 5 * 10**8, 2**62, 10**9, 3]))
                trades.append(T(time, key, price, draw(st.sampled_from([1, 7, 2**33])),
                                seq=(time - BASE) * 64 + 64 * 2**31 + len(trades)))  # fmt: skip
            shown = trades[draw(st.sampled_from([0, 0, 0, 1])) :]
            log.append(R(at + MINUTE - 1, key, tuple(shown)))
        out.append(log)
    return out


rules = st.builds(
    Rolling,
    st.sampled_from([MINUTE, 3 * MINUTE, 20 * MINUTE]),
    st.just(MINUTE),
    st.just(MINUTE),
    st.sampled_from([MINUTE, 4 * MINUTE]),
    lateness=st.sampled_from([0, 2_000]),
    horizon=st.sampled_from([0, 300_000]),
    candles=st.just(True),
)


@settings(max_examples=150)
@given(candle_logs(), rules, st.integers(0, 2**32))
def test_rows_equal_the_oracle_for_any_batching_interleaving_and_crashes(
    logs: list[list[R]], rule: Rolling, seed: int
) -> None:
    run = CandleRun(logs, rule, seed)
    run.all()
    same(run.finish(), rolling_oracle.statistics(logs, rule, limit=rolling_oracle.FOREVER))


def test_a_candle_put_right_downwards_gives_the_high_back() -> None:
    def candle(minute: int, price: int, at: int) -> R:
        time = BASE + minute * MINUTE
        return R(time + MINUTE - 1, "a", (T(time + at, "a", price * 10**8, 10**8, 0, 1),))

    log = [candle(0, 5, 0), candle(1, 9, 0), candle(2, 4, 0), candle(1, 3, 1)]
    rule = Rolling(10 * MINUTE, MINUTE, MINUTE, MINUTE, lateness=0, candles=True)
    run = CandleRun([log], rule, 0)
    run.all()
    rows = run.finish()
    assert [(row["high"], row["low"], row["trade_count"]) for row in rows] == [
        ("5", "5", 1),
        ("9", "5", 2),
        ("5", "3", 3),
    ]


@pytest.mark.parametrize("seed", range(3))
def test_statistics_of_candles_are_those_of_their_trades(seed: int) -> None:
    rng = random.Random(seed)
    time, log = BASE, []
    for seq in range(1, 400):
        time += rng.choice([0, 1, 500, 20_000, 150_000])
        log.append(
            T(time, rng.choice("ab"), rng.randrange(1, 10**12), rng.randrange(1, 10**10), 0, seq)
        )
    rule = Rolling(10 * MINUTE, MINUTE, MINUTE, MINUTE)
    direct = RollingRun([records(log)], rule, seed)
    direct.all()

    combine = Combine(CANDLE, CombineRule("candles", "trades", 1))
    shard = TumblingShard(CANDLE, WindowRule((MINUTE,), fill_gaps=True), 1, None, None)
    items = combine(batch(0, records(log), 0, len(log), Rolling(), record_columns))
    (output,) = shard.on_batch([item for _, item in items])[0]
    assert isinstance(output, Output)
    values = encode_candles(output.rows)
    closes = np.array([r["close_time"].timestamp() * 1000 for r in output.rows.to_pylist()])

    class Published(RollingRun):
        """Feeds what the candles flow published, byte for byte."""

        aggregate = PUBLISHED_CANDLE

    keys = output.rows["instrument"].to_pylist()
    published = [R(int(c) - 1, key, ()) for c, key in zip(closes, keys, strict=True)]
    Published.columns = staticmethod(
        lambda part: dict(
            CandleCodec("1m")
            .decode(values.take(pa.array([published.index(r) for r in part], pa.int64())))
            .columns
        )
    )
    from_candles = Published([published], rule_of_candles(rule), seed)
    from_candles.all()
    upto = from_candles.position
    assert upto > NEVER
    same(from_candles.rows, [row for row in direct.rows if row["tick"] <= upto])


def rule_of_candles(rule: Rolling) -> Rolling:
    return Rolling(rule.window, rule.pane, rule.tick, rule.quiet, candles=True)
