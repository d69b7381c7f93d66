"""Requests to the exchange and what is read from their answers."""

from decimal import Decimal
from typing import Any

import pytest

from schemas.errors import FlowError
from sources.deribit_calls import CallRule, Calls, RefusedError
from sources.deribit_chart import candles, clock_ms, listed, ticker
from sources.deribit_socket import TextSocket
from sources.exchange.faults import Faults
from sources.exchange.market import ExchangeMarket
from sources.exchange.protocol import Limits
from sources.exchange.server import ExchangeServer

OPENED_AT_MS = 1_700_000_040_000
NOW_MS = OPENED_AT_MS + 3_600_000
MINUTE_MS = 60_000
RULE = CallRule(requests_per_s=1_000, burst=1_000, answer_s=0.5, tries=3, backoff_s=0.01)


@pytest.fixture
def server(request: pytest.FixtureRequest):  # noqa: ANN201
    market = ExchangeMarket(OPENED_AT_MS, instruments=3, rate=1)
    limits = getattr(request, "param", None)
    running = ExchangeServer(market, Faults(), now_ms=lambda: NOW_MS, limits=limits).start()
    yield running
    running.stop()


def calls_to(server: ExchangeServer) -> Calls:
    return Calls(lambda: TextSocket(server.url), RULE)


def test_figures_arrive_to_the_last_digit(server: ExchangeServer) -> None:
    calls = calls_to(server)
    assert clock_ms(calls) == NOW_MS
    assert listed(calls, "BTC-PERPETUAL") == ("future", True)
    assert listed(calls, "SOL-PERPETUAL") == ("future", False)
    end_ms = OPENED_AT_MS + 10 * MINUTE_MS
    args = (calls, "BTC-PERPETUAL", "1m", OPENED_AT_MS + MINUTE_MS, end_ms, MINUTE_MS)
    found = candles(*args)
    assert [one.time_ms for one in found] == list(range(args[3], end_ms, MINUTE_MS))
    assert all(type(value) is Decimal for one in found for value in one.figures.values())
    assert {one.is_traded for one in found} == {one.figures["cost"] > 0 for one in found}
    day = ticker(calls, "BTC-PERPETUAL")
    assert day.time_ms == NOW_MS
    assert day.is_traded
    assert set(day.figures) == {"high", "low", "last", "volume", "volume_usd", "price_change"}
    calls.close()


def test_an_unknown_instrument_is_said_so(server: ExchangeServer) -> None:
    calls = calls_to(server)
    for ask in (listed, ticker):
        with pytest.raises(FlowError, match=r"for NOT-LISTED .*13020.*not_found"):
            ask(calls, "NOT-LISTED")
    with pytest.raises(RefusedError, match="-32601"):
        calls.call("public/no_such_method")
    calls.close()


@pytest.mark.parametrize("server", [Limits(request_credits=30_000)], indirect=True)
def test_a_session_ended_for_its_limits_is_opened_anew(server: ExchangeServer) -> None:
    calls = calls_to(server)
    assert [clock_ms(calls) for _ in range(4)] == [NOW_MS] * 4  # one per connection is granted
    calls.close()


def test_a_broken_connection_is_opened_anew(server: ExchangeServer) -> None:
    calls = calls_to(server)
    assert clock_ms(calls) == NOW_MS
    server.disconnect()
    assert clock_ms(calls) == NOW_MS
    calls.close()


def test_a_server_that_is_gone_is_an_error_with_a_remedy() -> None:
    server = ExchangeServer(ExchangeMarket(OPENED_AT_MS, instruments=1)).start()
    server.stop()
    with pytest.raises(FlowError, match=r"did not answer public/get_time in 3 tries \("):
        clock_ms(calls_to(server))


class Says:
    """An exchange that answers everything alike; the simulated one cannot be made to lie."""

    def __init__(self, result: Any) -> None:
        self.result = result

    def call(self, method: str, **params: object) -> Any:
        return self.result


CHART = {
    "status": "ok", "ticks": [MINUTE_MS], "open": [1], "high": [1], "low": [1], "close": [1],
    "volume": [1], "cost": [1],
}  # fmt: skip
TICKER = {
    "timestamp": 5, "last_price": 1,
    "stats": {"high": 1, "low": 1, "volume": 1, "price_change": None},
}  # fmt: skip


def chart_of(**changed: object) -> Any:
    calls: Any = Says(CHART | changed)
    return candles(calls, "X", "1m", MINUTE_MS, 2 * MINUTE_MS, MINUTE_MS)


@pytest.mark.parametrize(
    "changed",
    [
        {"open": [True]},
        {"open": ["1"]},
        {"open": [None]},
        {"open": [float("nan")]},
        {"open": [Decimal("1e9999")]},
        {"open": []},
        {"open": 7},
        {"ticks": [MINUTE_MS + 1]},
        {"ticks": [-MINUTE_MS]},
        {"ticks": [float(MINUTE_MS)]},
        {"ticks": None},
    ],
)
def test_a_chart_that_makes_no_sense_is_an_error(changed: dict[str, object]) -> None:
    assert len(chart_of()) == 1
    with pytest.raises(FlowError, match="cannot be read"):
        chart_of(**changed)


def test_candles_that_were_not_asked_for_are_left_out() -> None:
    ticks = [2 * MINUTE_MS, 0, MINUTE_MS]
    columns = {name: [1, 2, 3] for name in CHART if name not in ("status", "ticks")}
    found = chart_of(ticks=ticks, **columns)
    assert [(one.time_ms, one.figures["close"]) for one in found] == [(MINUTE_MS, 3)]
    assert chart_of(status="no_data", ticks=[]) == []


@pytest.mark.parametrize("result", [None, [], {}, TICKER | {"stats": None}, {"stats": {}}])
def test_a_ticker_that_makes_no_sense_is_an_error(result: object) -> None:
    good: Any = Says(TICKER)
    assert ticker(good, "X").figures["price_change"] is None
    bad: Any = Says(result)
    for ask in (lambda: ticker(bad, "X"), lambda: listed(bad, "X"), lambda: clock_ms(bad)):
        with pytest.raises(FlowError, match="cannot be read"):
            ask()
