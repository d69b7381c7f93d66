"""Faults of earlier averages by name, golden numbers, settings, and the published message."""

import decimal
import math
import random
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings

from dataflows.ewma_settings import EwmaSettings
from operators.ewma import alpha_of
from schemas.errors import FlowError
from schemas.ewma import EWMA_SCHEMA, encode_ewma
from schemas.market_pb2 import Decimal, Ewma, Trade
from schemas.tables import EWMA
from schemas.trades import TradeCodec
from tests import strategies
from tests.ewma_oracle import Ewma as Rule
from tests.oracle import T, text
from tests.unit.test_ewma_property import EwmaRun

BASE = 1_700_000_100_000  # the start of five minutes
ONE = 10**8
FIVE = Rule(300_000)


def finished(log: list[T], rule: Rule = FIVE) -> list[dict]:
    run = EwmaRun([log], rule, 0, restore=True)
    run.all()
    return run.finish()


def trades(*prices: float, step_ms: int = 1_000, key: str = "a", quantity: int = ONE) -> list[T]:
    return [
        T(BASE + i * step_ms, key, round(p * ONE), quantity, 0, i + 1) for i, p in enumerate(prices)
    ]


def test_span_of_the_period_in_seconds_gives_the_documented_alpha() -> None:
    assert alpha_of(span=300) == 0.006644518272425249
    assert EwmaSettings().rule.alpha == 0.006644518272425249
    assert EwmaSettings(ewma_period_s=60).rule.alpha == 2 / 61


@pytest.mark.parametrize("mode", ["window", "carry", "time"])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_average_starts_at_the_first_price_never_at_zero(mode: str, weighted: bool) -> None:
    timed = mode == "time"
    rule = Rule(300_000, mode, None if timed else 2 / 301, 1_000.0 if timed else None, weighted)
    (row,) = finished(trades(100, 100, 100), rule)
    assert row["value"] == 100.0, "not 1.98"
    assert row["trade_count"] == 3


def test_golden_numbers_of_one_period() -> None:
    (row,) = finished(trades(100, 101, 99), Rule(300_000, alpha=0.5))
    assert row["value"] == 99.75
    (row,) = finished(trades(100, 101, 99))
    a = 2 / 301
    assert math.isclose(row["value"], ((100 * (1 - a) + 101 * a) * (1 - a)) + 99 * a, rel_tol=1e-15)
    assert (row["volume"], row["last_price"], row["trade_count"]) == ("3", "99", 3)
    assert (row["alpha"], row["halflife_s"]) == (0.006644518272425249, None)
    assert (row["window_start"], row["window_end"]) == (BASE, BASE + 300_000)


def test_golden_numbers_of_decay_by_time() -> None:
    """pandas: [100, 101, 99] at 0, 1 and 3 s with a half-life of 1 s: 100, 100.5, 99.375."""
    log = [T(BASE, "a", 100 * ONE, 1), T(BASE + 1_000, "a", 101 * ONE, 1)]
    log.append(T(BASE + 3_000, "a", 99 * ONE, 1))
    (row,) = finished(log, Rule(300_000, "time", None, 1_000.0))
    assert row["value"] == 99.375
    assert (row["alpha"], row["halflife_s"]) == (None, 1.0)


def test_golden_numbers_weighted_by_volume() -> None:
    log = [T(BASE, "a", 100 * ONE, 3 * ONE), T(BASE + 1, "a", 200 * ONE, ONE)]
    (row,) = finished(log, Rule(300_000, alpha=0.5, weighted=True))
    assert row["value"] == (0.5 * 3 * 100 + 0.5 * 1 * 200) / (0.5 * 3 + 0.5 * 1) == 125.0
    assert row["volume"] == "4"


def test_window_begins_anew_and_carry_goes_on() -> None:
    log = [*trades(100, 100), T(BASE + 300_000, "a", 200 * ONE, ONE, 0, 3)]
    window = finished(log, Rule(300_000, "window", 0.5))
    carry = finished(log, Rule(300_000, "carry", 0.5))
    timed = finished(log, Rule(300_000, "time", None, 299_000.0))
    assert [row["value"] for row in window] == [100.0, 200.0]
    assert [row["value"] for row in carry] == [100.0, 150.0]
    assert [row["value"] for row in timed] == [100.0, 150.0], "half after a half-life"
    assert [row["trade_count"] for row in carry] == [2, 1], "counts are the period's own"


def test_instruments_are_never_mixed() -> None:
    a, b = trades(100, 102, 104), trades(7, 6, 5, key="b")
    mixed = finished([t for pair in zip(a, b, strict=True) for t in pair])
    assert mixed == [*finished(a), *finished(b)]


def test_a_period_is_aligned_event_time_not_minutes_since_the_start() -> None:
    first = BASE + 299_999
    log = [T(first, "a", ONE, ONE), T(first + 1, "a", 2 * ONE, ONE)]
    rows = finished(log)
    assert [row["window_start"] for row in rows] == [BASE, BASE + 300_000]
    assert [row["trade_count"] for row in rows] == [1, 1]


def test_nothing_is_lost_in_a_crash_between_reading_and_emitting() -> None:
    log = trades(*range(1, 200), step_ms=5_000)
    calm = EwmaRun([log], FIVE, 1, restore=False).all()
    assert [row["trade_count"] for row in calm] == [60, 60, 60]
    for seed in range(5):
        crashed = EwmaRun([log], FIVE, seed, restore=True)  # restored again and again
        assert crashed.all() == calm
        assert crashed.finish()[-1]["trade_count"] == 19


def test_no_trades_no_row() -> None:
    log = [*trades(1, 2), T(BASE + 3_000_000, "a", ONE, ONE)]
    assert [row["window_start"] for row in finished(log)] == [BASE, BASE + 3_000_000]
    assert finished([]) == []


@pytest.mark.parametrize("liquidation", ["M", "T", "MT", ""])
def test_a_liquidation_trade_decodes_like_any_other(liquidation: str) -> None:
    figure = Decimal(unscaled=525, scale=2)
    trade = Trade(
        instrument="BTC-PERPETUAL", timestamp_ms=BASE, price=figure, quantity=figure, trade_seq=1,
        liquidation=liquidation, index_price=figure, mark_price=figure, tick_direction=3,
    )  # fmt: skip
    decoded = TradeCodec().decode(pa.array([trade.SerializeToString()], pa.binary()))
    assert decoded.reasons.tolist() == [0]
    assert decoded.key_names == ["BTC-PERPETUAL"]
    assert decoded.columns["price"].tolist() == [525_000_000]


def test_trades_are_folded_by_event_time_and_sequence_not_by_arrival() -> None:
    log = trades(100, 110, 95, 103, 99, step_ms=100)
    expected = finished(log, Rule(300_000, alpha=0.3))
    for seed in range(10):
        shuffled = random.Random(seed).sample(log, len(log))
        assert finished(shuffled, Rule(300_000, alpha=0.3)) == expected


def test_the_last_period_of_a_market_that_falls_silent_closes_by_watermark_alone() -> None:
    busy, silent = trades(*[50] * 320), [T(BASE + 10, "quiet", 7 * ONE, ONE)]
    rows = EwmaRun([silent + busy], FIVE, 0, restore=False).all()
    assert [row["instrument"] for row in rows] == ["a", "quiet"], "without a trade after it"


def test_volume_is_exact_beyond_64_bits() -> None:
    log = [T(BASE + i, "a", 1, 2**62, 0, i) for i in range(9)]
    (row,) = finished(log)
    assert row["volume"] == "415051741658.46491136" == text(decimal.Decimal(9 * 2**62).scaleb(-8))


@pytest.mark.parametrize(
    ("given", "alpha"),
    [
        ({"span": 1}, 1.0),
        ({"span": 9}, 0.2),
        ({"com": 0}, 1.0),
        ({"com": 4}, 0.2),
        ({"com": 149.5}, 0.006644518272425249),
        ({"alpha": 0.25}, 0.25),
        ({"halflife": 1}, 0.5),
        ({"halflife": 2}, 1 - math.sqrt(0.5)),
    ],
)
def test_each_parameter_gives_pandas_alpha(given: dict[str, float], alpha: float) -> None:
    assert math.isclose(alpha_of(**given), alpha, rel_tol=1e-15)
    environment: dict[str, Any] = {f"ewma_{name}": value for name, value in given.items()}
    assert EwmaSettings(**environment).rule.alpha == alpha_of(**given)


def test_alpha_needs_one_parameter() -> None:
    with pytest.raises(ValueError, match="one of"):
        alpha_of()


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({"EWMA_SPAN": "3", "EWMA_COM": "4"}, ["EWMA_SPAN=3.0", "EWMA_COM=4.0"]),
        ({"EWMA_ALPHA": "1", "EWMA_HALFLIFE": "4"}, ["EWMA_ALPHA=1.0", "EWMA_HALFLIFE=4.0"]),
        ({"EWMA_MODE": "time"}, ["EWMA_MODE=time", "EWMA_HALFLIFE"]),
        ({"EWMA_MODE": "time", "EWMA_SPAN": "9"}, ["EWMA_MODE=time", "EWMA_SPAN"]),
        ({"EWMA_MODE": "hourly"}, ["EWMA_MODE='hourly'"]),
        ({"EWMA_SPAN": "0.5"}, ["EWMA_SPAN='0.5'"]),
        ({"EWMA_SPAN": "inf"}, ["EWMA_SPAN='inf'"]),
        ({"EWMA_ALPHA": "0"}, ["EWMA_ALPHA='0'"]),
        ({"EWMA_ALPHA": "1.1"}, ["EWMA_ALPHA='1.1'"]),
        ({"EWMA_COM": "-1"}, ["EWMA_COM='-1'"]),
        ({"EWMA_HALFLIFE": "0"}, ["EWMA_HALFLIFE='0'"]),
        ({"EWMA_HALFLIFE": "nan"}, ["EWMA_HALFLIFE='nan'"]),
        ({"EWMA_PERIOD_S": "0"}, ["EWMA_PERIOD_S='0'"]),
        ({"EWMA_PERIOD_S": "0.5"}, ["EWMA_PERIOD_S='0.5'"]),
    ],
)
def test_wrong_settings_name_the_variable_and_the_value(
    environment: dict[str, str], named: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(FlowError) as raised:
        EwmaSettings.load()
    for part in named:
        assert part in str(raised.value)


def test_half_life_in_the_mode_time_is_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EWMA_MODE", "time")
    monkeypatch.setenv("EWMA_HALFLIFE", "1.5")
    rule = EwmaSettings.load().rule
    assert (rule.mode, rule.alpha, rule.halflife_ms) == ("time", None, 1_500)


@pytest.mark.parametrize(
    ("period_s", "topic"),
    [(300, "ewma.5m"), (60, "ewma.1m"), (1, "ewma.1s"), (90, "ewma.90s"), (86_400, "ewma.1d")],
)
def test_the_topic_is_named_after_the_period(period_s: int, topic: str) -> None:
    assert EwmaSettings(ewma_period_s=period_s).output == topic
    assert EwmaSettings(ewma_period_s=period_s, output_topic="mine").output == "mine"


@settings(max_examples=30)
@given(strategies.logs(partitions=1))
def test_messages_carry_the_rows(logs: list[list[T]]) -> None:
    for rule in (FIVE, Rule(60_000, "time", None, 500.0)):
        rows = finished(logs[0], rule)
        plain = [{k: v for k, v in row.items() if k != "tick"} for row in rows]
        messages = encode_ewma(pa.RecordBatch.from_pylist(plain, schema=EWMA_SCHEMA)).to_pylist()
        for row, message in zip(plain, map(Ewma.FromString, messages), strict=True):
            assert message.window_start_ms == row["window_start"]
            assert message.window_end_ms == row["window_end"]
            for name in ("instrument", "value", "trade_count", "volume", "last_price", "revision"):
                assert getattr(message, name) == row[name]
            assert message.alpha == (row["alpha"] or 0)
            assert message.halflife_s == (row["halflife_s"] or 0)


def test_the_table_has_the_columns_of_the_rows() -> None:
    assert [column.name for column in EWMA.columns] == EWMA_SCHEMA.names
    assert [column.name for column in EWMA.primary_key] == ["instrument", "window_start"]
