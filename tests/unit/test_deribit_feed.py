"""The feed against the simulated exchange, over a real socket: one behaviour each."""

import json
import logging
import time
from dataclasses import replace

import pytest

from schemas.errors import FlowError
from sources.deribit import Subscription
from sources.deribit_protocol import Reply, alive_request, history_request, read
from sources.exchange.protocol import Client, Limits
from tests.exchange_feed import RULE, WAIT_S, Exchange, Flow, running


def test_trades_of_named_instruments_and_of_groups_are_the_same() -> None:
    exchange = Exchange(instruments=24)
    exchange.clock.now_ms += 60_000
    flow = Flow(
        exchange, subscription=Subscription([], ["future.any", "option.any"], start_seq=1)
    )  # fmt: skip
    flow.start()
    try:
        deadline_s = time.monotonic() + WAIT_S
        while set(flow.written) != set(exchange.names):
            assert time.monotonic() < deadline_s
            exchange.clock.now_ms += 500
            flow.run(0.05)
        flow.wait_for(exchange.traded())
    finally:
        flow.stop()
        exchange.server.stop()
    for name, last in exchange.traded().items():
        assert flow.written[name] == list(range(1, last + 1))


def test_a_snapshot_goes_on_with_what_was_traded_meanwhile() -> None:
    exchange = Exchange()
    with running(exchange) as flow:
        exchange.clock.now_ms += 2_000
        flow.wait_for(exchange.traded())
        assert flow.partition
        state = flow.partition.snapshot()
        assert dict(state) == exchange.traded()
        flow.stop()
        exchange.clock.now_ms += 60_000
        flow.start(state)
        flow.wait_for(exchange.traded())  # no live trade has come
    for name, last in exchange.traded().items():
        assert flow.written[name] == list(range(1, last + 1))


def test_a_backfill_of_many_pages() -> None:
    exchange = Exchange(instruments=1)
    exchange.clock.now_ms += 60_000
    with running(exchange) as flow:
        flow.wait_for(exchange.traded())
        (name,) = exchange.names
        assert exchange.traded()[name] > 5_000
        assert flow.written[name] == list(range(1, exchange.traded()[name] + 1))


def test_heartbeats_are_answered_so_the_connection_stays(caplog: pytest.LogCaptureFixture) -> None:
    exchange = Exchange()
    with running(exchange, heartbeat_s=0.1, stale_s=60) as flow, caplog.at_level(logging.WARNING):
        flow.run(1.0)
    assert not caplog.records


def test_heartbeats_do_not_keep_a_connection_without_trades(
    caplog: pytest.LogCaptureFixture,
) -> None:
    exchange = Exchange()
    with running(exchange, heartbeat_s=0.1, stale_s=0.4) as flow, caplog.at_level(logging.WARNING):
        flow.run(1.0)
    assert "no trade came for 0.4 s" in caplog.text


def test_too_many_requests_ends_the_session_and_the_gap_heals_in_the_next(
    caplog: pytest.LogCaptureFixture,
) -> None:
    exchange = Exchange()
    with running(exchange) as flow, caplog.at_level(logging.WARNING):
        exchange.clock.now_ms += 1_000
        flow.wait_for(exchange.traded())
        exchange.faults.request("too_many_requests")
        exchange.faults.request("gap", 3)
        exchange.clock.now_ms += 100
        flow.run(0.2)
        exchange.clock.now_ms += 2_000
        flow.wait_for(exchange.traded())
    assert "10028" in caplog.text
    for name, last in exchange.traded().items():
        assert flow.written[name] == list(range(1, last + 1))


def test_a_full_queue_pauses_reading_and_loses_nothing() -> None:
    exchange = Exchange(rate=5_000)
    with running(exchange, queue=50, stale_s=60) as flow:
        for _ in range(10):
            exchange.clock.now_ms += 500
            time.sleep(0.05)  # the worker is busy elsewhere
        assert flow.partition
        assert flow.partition._feed
        # What one read brings may come on top.
        assert len(flow.partition._feed._queue) < sum(exchange.traded().values())
        flow.wait_for(exchange.traded())
    for name, last in exchange.traded().items():
        assert flow.written[name] == list(range(1, last + 1))


def surfaces(flow: Flow) -> FlowError:
    with pytest.raises(FlowError) as caught:
        flow.run(WAIT_S)
    return caught.value


def test_a_channel_that_the_exchange_does_not_offer_is_told() -> None:
    exchange = Exchange()
    flow = Flow(exchange, subscription=Subscription(["NOPE", "BTC-PERPETUAL"]))
    flow.start()
    try:
        assert "does not offer trades.NOPE.100ms" in str(surfaces(flow))
    finally:
        flow.stop()
        exchange.server.stop()


def test_wrong_credentials_are_told_without_showing_them() -> None:
    exchange = Exchange()
    flow = Flow(exchange, replace(RULE, credentials=("simulated", "hush")))
    flow.start()
    try:
        told = str(surfaces(flow))
    finally:
        flow.stop()
        exchange.server.stop()
    assert "invalid_credentials" in told
    assert "hush" not in told


def test_the_exchange_pages_history_and_refuses_beyond_its_limits() -> None:
    exchange = Exchange(instruments=1)
    exchange.clock.now_ms += 60_000
    now = [0.0]
    client = Client(
        exchange.market, exchange.clock, lambda: now[0], Limits(), exchange.faults
    )  # fmt: skip
    (name,) = exchange.names

    def ask(first: int, last: int | None, count: int) -> Reply:
        reply = read(
            client.answer(history_request(1, name, first, last, count).encode()).text.encode()
        )
        assert isinstance(reply, Reply)
        return reply

    page = ask(5, 20, 10)
    assert page.page
    assert [trade.trade_seq for trade in page.page.trades] == list(range(5, 15))
    assert page.has_more
    assert not ask(15, 20, 10).has_more
    assert ask(1, None, 1_001).code == -32602
    answers = [client.answer(alive_request(n).encode()) for n in range(120)]
    refused = [answer for answer in answers if answer.ends]
    assert 15 < len(refused) < 25
    assert json.loads(refused[0].text)["error"]["code"] == 10028
    now[0] += 1.0
    assert sum(not client.answer(alive_request(n).encode()).ends for n in range(50)) == 20
    exchange.server.stop()
