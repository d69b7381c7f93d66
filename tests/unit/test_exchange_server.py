"""The simulated exchange as a server: what clients cannot do to it, and how it cuts them off."""

import re
import socket
import time
from collections.abc import Callable, Iterator
from functools import partial

import pytest
from websockets.exceptions import ConnectionClosedError
from websockets.sync import client as websockets_client
from websockets.sync.client import ClientConnection

from sources.deribit_protocol import alive_request, auth_request, subscribe_request
from sources.exchange import server
from tests.exchange_feed import WAIT_S, Exchange

connect = partial(websockets_client.connect, proxy=None, max_size=None)


@pytest.fixture
def exchange() -> Iterator[Exchange]:
    exchange = Exchange(instruments=1, rate=20_000)
    yield exchange
    exchange.server.stop()


def until(is_so: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + WAIT_S
    while not is_so():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def subscribe(client: ClientConnection, exchange: Exchange) -> None:
    client.send(auth_request(1, "simulated", "simulated"))
    client.send(subscribe_request(2, [f"trades.{exchange.names[0]}.raw"]))
    client.recv(WAIT_S)
    client.recv(WAIT_S)


def exhaust(client: ClientConnection) -> None:
    while True:
        client.recv(WAIT_S)


def test_a_message_is_cut_off_in_its_middle(exchange: Exchange) -> None:
    with connect(exchange.server.url) as client:
        subscribe(client, exchange)
        exchange.faults.request("disconnect")
        exchange.clock.now_ms += 100
        with pytest.raises(ConnectionClosedError) as caught:
            client.recv(WAIT_S)
    assert re.match("stream ends after [1-9]", str(caught.value.__cause__))


def test_a_client_that_does_not_read_is_dropped_and_others_are_served(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_UNREAD_BYTES", 100_000)
    with connect(exchange.server.url) as lazy, connect(exchange.server.url) as keen:
        subscribe(lazy, exchange)

        def is_dropped() -> bool:
            exchange.clock.now_ms += 1_000
            keen.send(alive_request(3))
            assert "version" in keen.recv(WAIT_S)
            return len(exchange.server._sessions) == 1

        until(is_dropped)
        with pytest.raises(ConnectionClosedError) as caught:
            exhaust(lazy)
    assert caught.value.rcvd is None, "cut off without a word"


def test_it_stops_with_clients_and_with_one_that_only_knocks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server, "_SHAKE_S", 0.2)
    exchange = Exchange()
    host, port = exchange.server.url.split("/")[2].split(":")
    with connect(exchange.server.url) as client, socket.create_connection((host, int(port))):
        client.send(alive_request(3))
        client.recv(WAIT_S)
        exchange.server.stop()
        with pytest.raises(ConnectionClosedError):
            client.recv(WAIT_S)
        with pytest.raises(OSError, match="refused"):
            connect(exchange.server.url)
