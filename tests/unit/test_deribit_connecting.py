"""Connecting to what is no WebSocket server, or does not want to be one for us."""

import itertools
import socket
import threading
from collections.abc import Iterator

import pytest

from sources.deribit_socket import TextSocket, WebSocketError
from tests.exchange_feed import WAIT_S, Exchange
from tests.websocket_servers import answering

UPGRADE = b"HTTP/1.1 101 Go\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"


def test_a_server_that_is_none() -> None:
    exchange = Exchange()
    url = exchange.server.url
    exchange.server.stop()
    with pytest.raises((OSError, WebSocketError)):
        TextSocket(url, timeout_s=1)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b"", "lost"),
        (b"SSH-2.0-x\r\n\r\n", "status line"),
        (b"HTTP/1.1 403 No\r\nContent-Length: 4\r\n\r\nhush", "status 403$"),
        (b"HTTP/1.1 302 Found\r\nLocation: ws://127.0.0.1:1/\r\n\r\n", "[Rr]edirect"),
        (UPGRADE + b"\r\n", "Header"),
        (UPGRADE + b"Sec-WebSocket-Accept: c3RhbGU=\r\n\r\n", "Header"),
        (b"HTTP/1.1 302 Found\r\nSet-Cookie: a/b=1\r\n\r\n", "Illegal key"),
    ],
)
def test_a_server_that_does_not_agree(answer: bytes, told: str) -> None:
    def talk(connection: socket.socket) -> None:
        connection.recv(10_000)
        connection.sendall(answer)

    with answering(talk) as url, pytest.raises(WebSocketError, match=told):
        TextSocket(url, timeout_s=WAIT_S)


@pytest.mark.parametrize("pieces", [itertools.repeat(b"x"), itertools.cycle([b"a:b\r\n"])])
def test_an_opening_that_never_ends(pieces: Iterator[bytes]) -> None:
    def talk(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 101 Go\r\n")
        is_over = threading.Event()
        while not is_over.wait(0.005):  # until the client hangs up
            connection.sendall(next(pieces))

    with answering(talk) as url, pytest.raises(WebSocketError, match="timed out"):
        TextSocket(url, timeout_s=0.2)
