"""An open connection's contract, against a real server of another library."""

import ssl
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from queue import SimpleQueue

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode
from websockets.sync.server import ServerConnection

from sources import deribit_socket
from sources.deribit_protocol import Reply, alive_request, read
from sources.deribit_socket import TextSocket, WebSocketError
from sources.exchange.server import ExchangeServer
from tests.exchange_feed import OPENED_AT_MS, WAIT_S, Exchange
from tests.websocket_servers import (
    HOST,
    echo,
    hang_up,
    serving,
    talking,
    whole_frame,
    write_certificate,
)

SHORT_S = 0.05
SIZES = [0, 1, 125, 126, 127, 65_535, 65_536, 70_000, 1_000_000]


def receive(texts: TextSocket, count: int) -> list[bytes]:
    found: list[bytes] = []
    while len(found) < count:
        came = texts.receive(WAIT_S)
        assert came, "in time"
        found += came
    return found


def exhaust(texts: TextSocket) -> None:
    while True:
        texts.receive(WAIT_S)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tls") / "exchange.pem"
    write_certificate(path)
    return path


@pytest.fixture(scope="module")
def tls(certificate: Path) -> ssl.SSLContext:
    """The server's side."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


@pytest.fixture(scope="module")
def trusting(certificate: Path) -> ssl.SSLContext:
    """The side of a client that knows the certificate."""
    return ssl.create_default_context(cafile=certificate)


def test_tls_is_spoken_and_a_stranger_is_not_trusted(
    tls: ssl.SSLContext, trusting: ssl.SSLContext
) -> None:
    market = Exchange()
    server = ExchangeServer(market.market, now_ms=lambda: OPENED_AT_MS, tls=tls).start()
    try:
        with pytest.raises(ssl.SSLCertVerificationError):
            TextSocket(server.url)
        with pytest.raises(ssl.SSLCertVerificationError, match="localhost"):
            TextSocket(server.url.replace(HOST, "localhost"), context=trusting)
        texts = TextSocket(server.url, context=trusting)
        texts.send(alive_request(7))
        assert read(texts.receive(WAIT_S)[0]) == Reply(7)
        texts.close()
    finally:
        server.stop()
        market.server.stop()


@pytest.mark.parametrize("has_tls", [False, True])
def test_messages_of_any_size_there_and_back(
    has_tls: bool, tls: ssl.SSLContext, trusting: ssl.SSLContext
) -> None:
    sent = ["é" * (size // 2) + "x" * (size % 2) for size in SIZES]
    with (
        serving(echo, tls if has_tls else None) as url,
        closing(TextSocket(url, context=trusting)) as texts,
    ):
        for text in sent:
            texts.send(text)
            assert receive(texts, 1) == [text.encode()]


@pytest.mark.parametrize("has_tls", [False, True])
def test_what_is_there_comes_in_one_go(
    has_tls: bool, tls: ssl.SSLContext, trusting: ssl.SSLContext
) -> None:
    sent, is_sent = [b"%05d" % n * 100 for n in range(100)], threading.Event()

    def talk(connection: ServerConnection) -> None:
        for text in sent:
            connection.send(text, text=True)  # with TLS, a record of its own
        is_sent.set()
        connection.recv()

    with (
        serving(talk, tls if has_tls else None) as url,
        closing(TextSocket(url, context=trusting)) as texts,
    ):
        assert is_sent.wait(WAIT_S)
        assert texts.receive(WAIT_S) == sent
        assert texts.receive(0.0) == []


def test_a_fragmented_message_with_a_ping_in_its_middle() -> None:
    answered: SimpleQueue[bool] = SimpleQueue()

    def talk(connection: ServerConnection) -> None:
        def parts() -> Iterator[str]:
            yield "ab"
            pong = connection.ping("hi")
            yield "c"
            yield ""
            answered.put(pong.wait(WAIT_S))
            yield "de"

        connection.send(parts())
        connection.recv()

    with talking(talk) as texts:
        assert receive(texts, 1) == [b"abcde"]
        assert answered.get(timeout=WAIT_S)


@pytest.mark.parametrize("size", [5, 300, 70_000])
def test_a_message_cut_anywhere_costs_neither_time_nor_bytes(size: int) -> None:
    text = bytes(n % 251 for n in range(size))
    whole, go_on = whole_frame(text), threading.Semaphore(0)
    cuts = [1, 2, 3, 5, 9, 10, 11, len(whole) // 2, len(whole) - 1]
    cuts = [cut for cut in cuts if cut < len(whole)]

    def talk(connection: ServerConnection) -> None:
        for cut in cuts:
            connection.socket.sendall(whole[:cut])
            assert go_on.acquire(timeout=WAIT_S)
            connection.socket.sendall(whole[cut:])
        connection.recv()

    with talking(talk) as texts:
        for _ in cuts:
            assert texts.receive(SHORT_S) == []
            go_on.release()
            assert receive(texts, 1) == [text]


def test_a_message_that_drips_does_not_hold_the_thread() -> None:
    text = b"x" * 60_000
    whole, is_enough = iter(whole_frame(text)), threading.Event()

    def talk(connection: ServerConnection) -> None:
        while not is_enough.wait(0.005):
            connection.socket.sendall(bytes([next(whole)]))
        connection.socket.sendall(bytes(whole))
        connection.recv()

    with talking(talk) as texts:
        for _ in range(5):  # would not return before it is enough
            assert texts.receive(SHORT_S) == []
        is_enough.set()
        assert receive(texts, 1) == [text]


def test_a_close_tells_its_reason_after_what_came_before() -> None:
    def talk(connection: ServerConnection) -> None:
        connection.send("last")
        connection.close(4000, "maintenance")

    with talking(talk) as texts:
        assert receive(texts, 1) == [b"last"]
        with pytest.raises(WebSocketError, match="maintenance"):
            texts.receive(WAIT_S)


def test_a_hang_up_in_the_middle_of_a_frame() -> None:
    def talk(connection: ServerConnection) -> None:
        connection.socket.sendall(whole_frame(b"last") + whole_frame(b"lost")[:-1])
        hang_up(connection)

    with talking(talk) as texts:
        assert receive(texts, 1) == [b"last"]
        for _ in range(2):
            with pytest.raises((OSError, WebSocketError)):
                texts.receive(WAIT_S)
        with pytest.raises((OSError, WebSocketError)):
            texts.send("anything")


def test_a_goodbye_is_said() -> None:
    told: SimpleQueue[int | None] = SimpleQueue()

    def talk(connection: ServerConnection) -> None:
        with suppress(ConnectionClosed):
            connection.recv()
        told.put(connection.close_code)

    with talking(talk) as texts:
        texts.close()
        assert told.get(timeout=WAIT_S) == 1000


@pytest.mark.parametrize(
    "data",
    [
        b"\xc1\x00",  # an extension
        b"\x83\x00",  # an unknown opcode
        b"\x80\x00",  # a continuation of nothing
        b"\x01\x00\x81\x00",  # a new message within another
        b"\x09\x00",  # a fragmented ping
        b"\x89\x7e\x00\x80" + bytes(128),  # a long ping
        b"\x88\x01\x00",  # half a reason to close
    ],
)
def test_a_server_that_breaks_the_protocol(data: bytes) -> None:
    told = pytest.raises(WebSocketError, match=r"Illegal|Invalid|rsv|too long")
    with talking(lambda connection: connection.socket.sendall(data)) as texts, told:
        texts.receive(WAIT_S)


@given(data=st.data())
def test_any_bytes_end_in_an_error_of_the_contract(data: st.DataObject) -> None:
    frames = st.builds(
        lambda opcode, text: Frame(Opcode(opcode), text).serialize(mask=False),
        st.sampled_from([Opcode.CONT, Opcode.TEXT, Opcode.BINARY, Opcode.PONG]),
        st.binary(max_size=200),
    )
    sent = b"".join(data.draw(st.lists(frames | st.binary(max_size=20), max_size=5)))

    def talk(connection: ServerConnection) -> None:
        connection.socket.sendall(sent)
        hang_up(connection)

    with talking(talk) as texts, pytest.raises((OSError, WebSocketError)):
        exhaust(texts)


@pytest.mark.parametrize("head", [b"\x81\x7f" + bytes([0, 0, 1, 0, 0, 0, 0, 0]), b"\x01\x00"])
def test_a_message_has_a_bound(head: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deribit_socket, "MAX_MESSAGE_BYTES", 100_000)

    def talk(connection: ServerConnection) -> None:
        connection.recv()
        connection.socket.sendall(head)
        while True:
            connection.socket.sendall(b"\x00\x05hello" * 1_000)

    with talking(talk) as texts:
        texts.send("go")
        with pytest.raises(WebSocketError, match="100,000 bytes"):
            exhaust(texts)


def test_messages_together_may_exceed_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deribit_socket, "MAX_MESSAGE_BYTES", 1_000_000)
    monkeypatch.setattr(deribit_socket, "_READ_BYTES", 10_000)

    def talk(connection: ServerConnection) -> None:
        for _ in range(20):
            connection.send("x" * 100_000)
        connection.recv()

    with talking(talk) as texts:
        assert len(receive(texts, 20)) == 20


def test_a_server_that_does_not_read() -> None:
    is_over = threading.Event()

    def send_on(texts: TextSocket) -> None:
        while True:
            texts.send("x" * 500_000)

    with (
        serving(lambda _: is_over.wait(WAIT_S)) as url,
        closing(TextSocket(url, timeout_s=0.2)) as texts,
    ):
        with pytest.raises(WebSocketError, match="does not read"):
            send_on(texts)
        is_over.set()
