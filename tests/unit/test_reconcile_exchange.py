"""The simulated exchange's chart and ticker: as the real one's, and nothing but its trades."""

import json
from collections import defaultdict
from decimal import Decimal
from typing import Any

import pytest

from sources.exchange.chart import RESOLUTIONS_MS
from sources.exchange.faults import Faults
from sources.exchange.market import ExchangeMarket
from sources.exchange.protocol import Client, Limits

OPENED_AT_MS = 1_700_000_040_000
MINUTE_MS = 60_000
DAY_MS = 86_400_000
MARKET = ExchangeMarket(OPENED_AT_MS, instruments=22, rate=0.5)
OPTION = MARKET.listed[20].name
NAMES = ["BTC-PERPETUAL", "SOL-PERPETUAL", OPTION]


def ask(now_ms: int, method: str, **params: object) -> dict[str, Any]:
    client = Client(MARKET, lambda: now_ms, lambda: 0.0, Limits(), Faults())
    request = json.dumps({"id": 1, "method": f"public/{method}", "params": params})
    answer = json.loads(client.answer(request.encode()).text, parse_float=Decimal)
    return answer.get("result") or answer["error"]


def trades(name: str, after_ms: int, upto_ms: int) -> list[dict[str, Any]]:
    k = MARKET.index[name]
    texts = MARKET.history(k, 1, MARKET.count(k, upto_ms))
    found = [json.loads(text, parse_float=Decimal) for text in texts]
    return [trade for trade in found if trade["timestamp"] > after_ms]


def volumes(name: str, some: list[dict[str, Any]]) -> tuple[Decimal, Decimal]:
    """Volume and cost by the documentation's words, trade by trade."""
    amount = sum((Decimal(t["amount"]) for t in some), Decimal(0))
    if name == "BTC-PERPETUAL":
        return sum((Decimal(t["amount"]) / t["price"] for t in some), Decimal(0)), amount
    return amount, sum((t["amount"] * t["price"] for t in some), Decimal(0))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("resolution", ["1", "15", "60"])
def test_candles_are_those_of_the_trades_and_gaps_are_filled(name: str, resolution: str) -> None:
    length = RESOLUTIONS_MS[resolution]
    now_ms = OPENED_AT_MS + 3 * 3_600_000 + 12_345
    chart = ask(
        now_ms, "get_tradingview_chart_data", instrument_name=name, resolution=resolution,
        start_timestamp=OPENED_AT_MS - DAY_MS, end_timestamp=now_ms + DAY_MS,
    )  # fmt: skip
    windows: defaultdict[int, list[dict[str, Any]]] = defaultdict(list)
    for trade in trades(name, 0, now_ms):
        windows[trade["timestamp"] // length * length].append(trade)
    assert chart["status"] == "ok"
    assert chart["ticks"] == list(range(min(windows), now_ms + 1, length))
    columns = ("open", "high", "low", "close", "volume", "cost")
    close = None
    for tick, *row in zip(chart["ticks"], *(chart[column] for column in columns), strict=True):
        prices = [trade["price"] for trade in windows[tick]]
        if prices:
            close = prices[-1]
            volume, cost = volumes(name, windows[tick])
            assert row[:4] == [prices[0], max(prices), min(prices), close]
            assert row[5] == cost
            assert abs(row[4] - volume) <= Decimal("5.1e-9")
        else:
            assert row == [close] * 4 + [0, 0]
    if resolution == "1" and name != "BTC-PERPETUAL":
        assert len(windows) > sum(map(bool, windows.values())), "there were gaps to fill"


def test_a_chart_in_parts_is_the_chart() -> None:
    def part(start_ms: int, end_ms: int) -> dict[str, Any]:
        return ask(
            OPENED_AT_MS + 3_600_000, "get_tradingview_chart_data", instrument_name=OPTION,
            resolution="1", start_timestamp=start_ms, end_timestamp=end_ms,
        )  # fmt: skip

    middle_ms = OPENED_AT_MS + 25 * MINUTE_MS
    whole = part(0, OPENED_AT_MS + 3_600_000)
    first, second = part(0, middle_ms - 1), part(middle_ms, OPENED_AT_MS + 3_600_000)
    for name in ("ticks", "open", "high", "low", "close", "volume", "cost"):
        assert first[name] + second[name] == whole[name]


def test_a_chart_has_5000_candles_at_most_and_no_data_before_the_first_trade() -> None:
    now_ms = OPENED_AT_MS + 5 * DAY_MS
    chart = ask(
        now_ms, "get_tradingview_chart_data", instrument_name="BTC-PERPETUAL", resolution="1",
        start_timestamp=0, end_timestamp=now_ms,
    )  # fmt: skip
    assert len(chart["ticks"]) == 5_000
    assert chart["ticks"][-1] == now_ms // MINUTE_MS * MINUTE_MS
    chart = ask(
        now_ms, "get_tradingview_chart_data", instrument_name="BTC-PERPETUAL", resolution="1",
        start_timestamp=0, end_timestamp=OPENED_AT_MS - 1,
    )  # fmt: skip
    assert (chart["status"], chart["ticks"], chart["cost"]) == ("no_data", [], [])


@pytest.mark.parametrize("name", NAMES)
def test_the_ticker_rolls_over_24_hours(name: str) -> None:
    now_ms = OPENED_AT_MS + DAY_MS + 7_654_321
    found = ask(now_ms, "ticker", instrument_name=name)
    some = trades(name, now_ms - DAY_MS, now_ms)
    prices = [trade["price"] for trade in some]
    stats = found["stats"]
    volume, cost = volumes(name, some)
    assert found["timestamp"] == now_ms
    assert found["last_price"] == prices[-1]
    assert (stats["high"], stats["low"]) == (max(prices), min(prices))
    assert stats["price_change"] == round(100 * (prices[-1] - prices[0]) / prices[0], 4)
    assert abs(stats["volume"] - volume) <= Decimal("5.1e-9")
    if name == OPTION:
        assert "volume_usd" not in stats
    else:
        assert stats["volume_usd"] == cost


def test_before_the_first_trade_the_ticker_has_nothing() -> None:
    found = ask(OPENED_AT_MS - 1, "ticker", instrument_name="BTC-PERPETUAL")
    assert found["last_price"] is None
    assert found["stats"] == {
        "high": None, "low": None, "price_change": None, "volume": 0, "volume_usd": 0,
    }  # fmt: skip


def test_instruments_say_what_their_amounts_are() -> None:
    found = [ask(0, "get_instrument", instrument_name=name) for name in NAMES]
    assert [(one["kind"], one["instrument_type"], one["contract_size"]) for one in found] == [
        ("future", "reversed", 10),
        ("future", "linear", Decimal("0.001")),
        ("option", "reversed", Decimal("0.1")),
    ]
    for one in found:
        for trade in trades(one["instrument_name"], 0, OPENED_AT_MS + 3_600_000):
            assert trade["amount"] % Decimal(one["contract_size"]) == 0


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"instrument_name": "NONE"}, 13020),
        ({"resolution": "2"}, -32602),
        ({"resolution": None}, -32602),
        ({"start_timestamp": 10}, -32602),
        ({"end_timestamp": "now"}, -32602),
        ({"end_timestamp": -1}, -32602),
        ({"end_timestamp": 2**70}, -32602),
    ],
)
def test_a_wrong_request_is_refused(changed: dict[str, object], code: int) -> None:
    params: dict[str, object] = {
        "instrument_name": "BTC-PERPETUAL", "resolution": "1", "start_timestamp": 2,
        "end_timestamp": 5,
    }  # fmt: skip
    assert ask(0, "get_tradingview_chart_data", **params | changed)["code"] == code
    if "instrument_name" in changed:
        assert ask(0, "ticker", **changed)["code"] == code
        assert ask(0, "get_instrument", **changed)["code"] == code


def test_a_span_with_too_many_trades_is_refused() -> None:
    year_ms = 366 * DAY_MS
    refused = ask(
        OPENED_AT_MS + 100 * year_ms, "get_tradingview_chart_data", resolution="1D",
        instrument_name="BTC-PERPETUAL", start_timestamp=0,
        end_timestamp=OPENED_AT_MS + 100 * year_ms,
    )  # fmt: skip
    assert refused["code"] == -32602
