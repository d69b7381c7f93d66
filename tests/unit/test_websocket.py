"""Frames of the WebSocket protocol: any cut, any size, and peers that break it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sources.websocket import (
    CLOSE,
    PING,
    TEXT,
    Frames,
    Message,
    WebSocketError,
    accept_key,
    frame,
    header_fields,
)

_SIZES = st.one_of(st.integers(0, 200), st.sampled_from([125, 126, 127, 65_535, 65_536, 70_000]))


def test_the_key_of_the_rfc() -> None:
    assert accept_key("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


@given(st.lists(_SIZES, max_size=5), st.booleans(), st.integers(1, 40_000))
def test_messages_survive_any_cut(sizes: list[int], masked: bool, step: int) -> None:
    payloads = [bytes((i + n) % 251 for i in range(n)) for n in sizes]
    stream = b"".join(frame(payload, masked=masked) for payload in payloads)
    frames = Frames(masked=masked)
    found = []
    for at in range(0, len(stream), step):
        found += frames.feed(stream[at : at + step])
    assert found == [Message(TEXT, payload) for payload in payloads]


def test_a_fragmented_message_with_a_ping_in_its_middle() -> None:
    parts = b"\x01\x02ab" + frame(b"hi", PING, masked=False) + b"\x00\x01c" + b"\x80\x02de"
    assert Frames(masked=False).feed(parts) == [Message(PING, b"hi"), Message(TEXT, b"abcde")]


@pytest.mark.parametrize(
    "data",
    [
        b"\xc1\x00",  # an extension
        b"\x83\x00",  # an unknown opcode
        b"\x80\x00",  # a continuation of nothing
        b"\x01\x00\x81\x00",  # a new message within another
        b"\x09\x00",  # a fragmented ping
        b"\x89\x7e\x00\x80" + bytes(128),  # a long ping
        b"\x81\x81\x00\x00\x00\x00a",  # masked by the server
        b"\x81\x7f\x00\x00\x01\x00\x00\x00\x00\x00",  # a terabyte
    ],
)
def test_a_peer_that_breaks_the_protocol(data: bytes) -> None:
    with pytest.raises(WebSocketError):
        Frames(masked=False).feed(data)


def test_an_unmasked_client() -> None:
    with pytest.raises(WebSocketError):
        Frames(masked=True).feed(frame(b"a", masked=False))


def test_control_frames_and_heads() -> None:
    assert Frames(masked=True).feed(frame(b"\x03\xe8", CLOSE, masked=True))[0].opcode == CLOSE
    first, fields = header_fields(b"HTTP/1.1 101 X\r\nUpgrade: WebSocket\r\nA:b:c")
    assert first == "HTTP/1.1 101 X"
    assert fields == {"upgrade": "WebSocket", "a": "b:c"}
