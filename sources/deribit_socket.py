"""A WebSocket client connection: TLS, timeouts, and text messages as they come.

The library websocket-client speaks the protocol (RFC 6455), without compression. It asks for
a few bytes at a time and would wait for each as long as for a whole message; so it reads
through a `_Wire`, which has a buffer, one deadline for all it waits for, and a bound.

Contract: used by one thread. `receive` waits no longer than it is told to, also for a message
that comes byte by byte, and loses nothing of it; `send` and connecting end in an error after
a bounded time. Pings are answered within `receive`. Every failure is an `OSError` or a
`WebSocketError`, and the connection is of no use afterwards.
"""

import io
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.cookies import CookieError
from urllib.parse import urlsplit

import websocket

__all__ = ["TextSocket", "WebSocketError"]

MAX_MESSAGE_BYTES = 32 * 1024 * 1024

_TIMEOUT_S = 10.0
_READ_BYTES = 1 << 18
_PORTS = {"ws": 80, "wss": 443}


class WebSocketError(Exception):
    """The server does not speak the protocol, or closed the connection."""


class TextSocket:
    """An open connection.

    Args:
        url: `ws://` or `wss://`; the latter checks the server's certificate and name.
        timeout_s: bound for each step of connecting and for a send.
        context: TLS settings, for a server whose certificate no public authority signed.

    Raises:
        OSError: The server cannot be reached or trusted.
        WebSocketError: It does not agree to speak WebSocket.
    """

    def __init__(
        self, url: str, *, timeout_s: float = _TIMEOUT_S, context: ssl.SSLContext | None = None
    ) -> None:
        self._failure: Exception | None = None
        self._wire = _Wire(_connect(url, timeout_s, context), timeout_s)
        try:
            with _as_own_error():
                self._protocol = websocket.create_connection(
                    url,
                    socket=self._wire,
                    redirect_limit=0,  # it could lead to a server without TLS
                    suppress_origin=True,  # that is for browsers
                    skip_utf8_validation=True,  # slow, and the reader of the text finds it
                    enable_multithread=False,
                )
        except BaseException:
            self._wire.close()
            raise

    def send(self, text: str) -> None:
        """Send a text message."""
        with _as_own_error():
            self._protocol.send(text)

    def receive(self, timeout_s: float) -> list[bytes]:
        """The text messages, UTF-8, that are there or come within `timeout_s`; often several.

        Raises:
            WebSocketError: The server closed the connection, or broke the protocol.
            OSError: The connection broke.
        """
        if self._failure is not None:
            raise self._failure
        texts: list[bytes] = []
        self._wire.allow(timeout_s)
        try:
            with _as_own_error():
                self._read_into(texts)
        except (OSError, WebSocketError) as error:
            if not texts:
                raise
            self._failure = error  # what came before it is handed over first
        return texts

    def _read_into(self, texts: list[bytes]) -> None:
        """Read until nothing more is there; wait for the first message only."""
        with suppress(websocket.WebSocketTimeoutException):
            while True:
                opcode, frame = self._protocol.recv_data_frame()
                if opcode == websocket.ABNF.OPCODE_TEXT:
                    texts.append(frame.data)
                    self._wire.is_patient = False
                    self._wire.unfinished_bytes = 0
                elif opcode == websocket.ABNF.OPCODE_CLOSE:
                    reason = frame.data[2:].decode(errors="replace") or "no reason given"
                    raise WebSocketError(f"the server closed the connection ({reason})")

    def close(self) -> None:
        """Let go; says goodbye if that does not take time."""
        self._wire.send_s = 0.0
        with suppress(OSError, WebSocketError, websocket.WebSocketException):
            if self._protocol.connected:
                self._protocol.send_close()
        self._wire.close()


@contextmanager
def _as_own_error() -> Iterator[None]:
    try:
        yield
    except websocket.WebSocketBadStatusException as error:
        # Its message holds the whole answer.
        raise WebSocketError(f"the server answered with status {error.status_code}") from error
    except (websocket.WebSocketException, CookieError) as error:
        raise WebSocketError(str(error)) from error


def _connect(url: str, timeout_s: float, context: ssl.SSLContext | None) -> socket.socket:
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
    connection = socket.create_connection((host, port), timeout_s)
    try:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if parts.scheme == "wss":
            context = context or ssl.create_default_context()
            connection = context.wrap_socket(connection, server_hostname=host)
    except BaseException:
        connection.close()
        raise
    return connection


class _Wire:
    """What the library takes for its socket.

    Args:
        connection: connected; owned.
        timeout_s: for a send, and for all reading until `allow` is called.

    Attributes:
        send_s: how long a send may take.
        is_patient: whether reading waits at all for what is not there yet.
        unfinished_bytes: read since it was last set to zero; bounded.
    """

    def __init__(self, connection: socket.socket, timeout_s: float) -> None:
        self._connection = connection
        self._buffer = io.BytesIO()
        self.send_s = timeout_s
        self.unfinished_bytes = 0
        self.allow(timeout_s)

    def allow(self, timeout_s: float) -> None:
        """Let all reading from now on take so long together; what is there is read anyway."""
        self.is_patient = True
        self._has_read = False
        self._until_s = time.monotonic() + timeout_s

    def gettimeout(self) -> float:
        """Tell the library that it never has to wait by itself."""
        return 0.0

    def recv(self, size: int) -> bytes:
        """Up to `size` bytes; none at the end of the stream; `TimeoutError` if it is time."""
        return self._buffer.read(size) or self._refill(size)

    def send(self, data: bytes) -> int:
        """Send all of it."""
        self._connection.settimeout(self.send_s)
        try:
            self._connection.sendall(data)
        except TimeoutError as error:  # the library would take it for one of reading
            raise WebSocketError("the server does not read what is sent") from error
        return len(data)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _refill(self, size: int) -> bytes:
        left_s = max(self._until_s - time.monotonic(), 0.0)
        if self._has_read and not left_s:
            raise TimeoutError("it took too long")
        self._connection.settimeout(left_s if self.is_patient else 0.0)
        try:
            data = self._connection.recv(_READ_BYTES)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError) as error:
            raise TimeoutError("nothing is there") from error
        self._has_read = True
        self.unfinished_bytes += len(data)
        if self.unfinished_bytes > MAX_MESSAGE_BYTES:
            raise WebSocketError(f"{MAX_MESSAGE_BYTES:,} bytes came without a whole text message")
        self._buffer = io.BytesIO(data)
        return self._buffer.read(size)
