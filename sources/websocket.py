"""The WebSocket protocol without a socket: opening handshake and frames, both ends (RFC 6455).

A `Frames` object is fed the bytes of one direction and hands out whole messages; what is
to be sent comes from `frame`. No extensions and no compression are negotiated. Contract: a
peer that breaks the protocol ends in `WebSocketError`, and no message grows without bound.
"""

import base64
import hashlib
import os
import struct
from typing import NamedTuple

__all__ = [
    "CLOSE",
    "PING",
    "PONG",
    "TEXT",
    "Frames",
    "Message",
    "WebSocketError",
    "accept_key",
    "frame",
    "header_fields",
    "new_key",
]

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
"""Opcodes, RFC 6455 section 5.2."""

MAX_MESSAGE_BYTES = 32 * 1024 * 1024

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 section 1.3
_FIN, _RESERVED, _OPCODE = 0x80, 0x70, 0x0F
_MASKED, _LENGTH = 0x80, 0x7F
_LENGTH_16, _LENGTH_64 = 126, 127
_CONTROL_BYTES = 125
_MASK_BYTES = 4
_DATA = (TEXT, BINARY)
_CONTROL = (CLOSE, PING, PONG)


class WebSocketError(Exception):
    """The peer does not speak the protocol, or closed the connection."""


class Message(NamedTuple):
    """A whole message: its opcode, never that of a continuation, and its bytes."""

    opcode: int
    payload: bytes


def new_key() -> str:
    """A fresh `Sec-WebSocket-Key`."""
    return base64.b64encode(os.urandom(16)).decode()


def accept_key(key: str) -> str:
    """The `Sec-WebSocket-Accept` that answers a `Sec-WebSocket-Key`."""
    digest = hashlib.sha1(key.encode() + _GUID, usedforsecurity=False).digest()
    return base64.b64encode(digest).decode()


def header_fields(head: bytes) -> tuple[str, dict[str, str]]:
    """First line and fields, names in lower case, of an HTTP request or response head."""
    first, *lines = head.decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in lines if ":" in line)
    return first, {name.strip().lower(): value.strip() for name, _, value in pairs}


def frame(payload: bytes, opcode: int = TEXT, *, masked: bool) -> bytes:
    """One unfragmented frame; clients mask, servers do not."""
    size = len(payload)
    mask_bit = _MASKED if masked else 0
    if size <= _CONTROL_BYTES:
        head = struct.pack("!BB", _FIN | opcode, mask_bit | size)
    elif size < 1 << 16:
        head = struct.pack("!BBH", _FIN | opcode, mask_bit | _LENGTH_16, size)
    else:
        head = struct.pack("!BBQ", _FIN | opcode, mask_bit | _LENGTH_64, size)
    if not masked:
        return head + payload
    mask = os.urandom(_MASK_BYTES)
    return head + mask + _apply_mask(payload, mask)


def _apply_mask(payload: bytes, mask: bytes) -> bytes:
    size = len(payload)
    repeated = (mask * (size // _MASK_BYTES + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")).to_bytes(size, "big")


class Frames:
    """The frames of one direction.

    Args:
        masked: whether the peer has to mask, as clients do.
    """

    def __init__(self, *, masked: bool) -> None:
        self._masked = masked
        self._buffer = bytearray()
        self._parts: list[bytes] = []
        self._opcode = CONTINUATION
        self._size = 0

    def feed(self, data: bytes) -> list[Message]:
        """The messages that are complete with these bytes, control frames among them.

        Raises:
            WebSocketError: The bytes break the protocol, or a message is too large.
        """
        buffer = self._buffer
        buffer += data
        messages: list[Message] = []
        at, end = 0, len(buffer)
        while end - at >= 2:  # noqa: PLR2004  # the least head
            first, second = buffer[at], buffer[at + 1]
            head, size = at + 2, second & _LENGTH
            if size >= _LENGTH_16:
                wide = 2 if size == _LENGTH_16 else 8
                if end - head < wide:
                    break
                size = int.from_bytes(buffer[head : head + wide], "big")
                head += wide
            if size > MAX_MESSAGE_BYTES:
                raise WebSocketError(f"a frame of {size:,} bytes came")
            if bool(second & _MASKED) != self._masked:
                raise WebSocketError("a frame was masked the wrong way")
            mask_bytes = _MASK_BYTES if self._masked else 0
            if end - head < mask_bytes + size:
                break
            payload = bytes(buffer[head + mask_bytes : head + mask_bytes + size])
            if self._masked:
                payload = _apply_mask(payload, bytes(buffer[head : head + mask_bytes]))
            at = head + mask_bytes + size
            self._add(first, payload, messages)
        del buffer[:at]
        return messages

    def _add(self, first: int, payload: bytes, messages: list[Message]) -> None:
        opcode, is_last = first & _OPCODE, bool(first & _FIN)
        if first & _RESERVED:
            raise WebSocketError("a frame uses an extension that nobody asked for")
        if opcode in _CONTROL:
            if not is_last or len(payload) > _CONTROL_BYTES:
                raise WebSocketError("a control frame is fragmented or too long")
            messages.append(Message(opcode, payload))
            return
        if (opcode in _DATA) == bool(self._opcode) or opcode not in (CONTINUATION, *_DATA):
            raise WebSocketError(f"a frame with opcode {opcode} came at the wrong place")
        self._opcode = opcode or self._opcode
        self._size += len(payload)
        if self._size > MAX_MESSAGE_BYTES:
            raise WebSocketError(f"a message of more than {MAX_MESSAGE_BYTES:,} bytes came")
        self._parts.append(payload)
        if is_last:
            whole = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
            messages.append(Message(self._opcode, whole))
            self._parts, self._opcode, self._size = [], CONTINUATION, 0
