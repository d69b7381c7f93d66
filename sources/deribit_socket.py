"""A WebSocket client connection: TLS, timeouts, and text messages as they come.

Contract: used by one thread. `receive` waits no longer than it is told to; `send` and
connecting end in an error after a bounded time. Pings are answered within `receive`. Every
failure is an `OSError` or a `WebSocketError`, and the connection is of no use afterwards.
"""

import select
import socket
import ssl
from urllib.parse import urlsplit

from sources.websocket import (
    CLOSE,
    PING,
    PONG,
    TEXT,
    Frames,
    Message,
    WebSocketError,
    accept_key,
    frame,
    header_fields,
    new_key,
)

__all__ = ["TextSocket"]

_TIMEOUT_S = 10.0
_READ_BYTES = 1 << 18
_HEAD_BYTES = 1 << 16
_HEAD_END = b"\r\n\r\n"
_PORTS = {"ws": 80, "wss": 443}
_SWITCHING = "101"


class TextSocket:
    """An open connection.

    Args:
        url: `ws://` or `wss://`; the latter checks the server's certificate and name.
        timeout_s: bound for connecting and for a send.
        context: TLS settings, for a server whose certificate no public authority signed.

    Raises:
        OSError: The server cannot be reached or trusted.
        WebSocketError: It does not agree to speak WebSocket.
    """

    def __init__(
        self, url: str, *, timeout_s: float = _TIMEOUT_S, context: ssl.SSLContext | None = None
    ) -> None:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
        self._frames = Frames(masked=False)
        self._early: list[Message] = []
        self._socket = socket.create_connection((host, port), timeout_s)
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if parts.scheme == "wss":
                context = context or ssl.create_default_context()
                self._socket = context.wrap_socket(self._socket, server_hostname=host)
            target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            self._shake_hands(parts.netloc.rpartition("@")[2], target)
            self._poll = select.poll()
            self._poll.register(self._socket, select.POLLIN)
        except BaseException:
            self._socket.close()
            raise

    def send(self, text: str) -> None:
        """Send a text message."""
        self._socket.sendall(frame(text.encode(), masked=True))

    def receive(self, timeout_s: float) -> list[bytes]:
        """The text messages, UTF-8, that are there or come within `timeout_s`; often several.

        Raises:
            WebSocketError: The server closed the connection, or broke the protocol.
            OSError: The connection broke.
        """
        messages, self._early = self._early, []
        if not messages and self._is_readable(timeout_s):
            messages = self._frames.feed(self._read())
        texts = []
        for opcode, payload in messages:
            if opcode == TEXT:
                texts.append(payload)
            elif opcode == PING:
                self._socket.sendall(frame(payload, PONG, masked=True))
            elif opcode == CLOSE:
                reason = payload[2:].decode(errors="replace") or "no reason given"
                raise WebSocketError(f"the server closed the connection ({reason})")
        return texts

    def close(self) -> None:
        """Let go; says goodbye if that does not take time."""
        try:
            self._socket.settimeout(0.0)
            self._socket.sendall(frame(b"\x03\xe8", CLOSE, masked=True))  # 1000: normal closure
        except OSError:
            pass  # it was broken already
        finally:
            self._socket.close()

    def _is_readable(self, timeout_s: float) -> bool:
        # What TLS has decrypted already no longer shows at the socket.
        if isinstance(self._socket, ssl.SSLSocket) and self._socket.pending():
            return True
        return bool(self._poll.poll(timeout_s * 1000))

    def _read(self) -> bytes:
        data = self._socket.recv(_READ_BYTES)
        if not data:
            raise WebSocketError("the server hung up")
        return data

    def _shake_hands(self, host: str, target: str) -> None:
        key = new_key()
        request = (
            f"GET {target} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        self._socket.sendall(request.encode())
        head = b""
        while _HEAD_END not in head:
            if len(head) > _HEAD_BYTES:
                raise WebSocketError("the server answered with an endless head")
            head += self._read()
        head, _, rest = head.partition(_HEAD_END)
        status, fields = header_fields(head)
        if status.split(" ")[1:2] != [_SWITCHING]:
            raise WebSocketError(f"the server answered {status!r}")
        if fields.get("sec-websocket-accept") != accept_key(key):
            raise WebSocketError("the server did not answer the handshake's key")
        self._early = self._frames.feed(rest)
