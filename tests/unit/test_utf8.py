"""Bytes are text to the kernels exactly where Python can decode them."""

from itertools import product

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from schemas.utf8 import is_utf8


def python_says(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def kernel_says(value: bytes, before: bytes = b"", after: bytes = b"") -> bool:
    data = np.frombuffer(before + value + after, np.uint8)
    return is_utf8(data, np.int64(len(before)), np.int64(len(before) + len(value)))


def all_short_ones() -> list[bytes]:
    """Every one and two bytes, and behind every two that may begin more, the bounds of tails."""
    bounds = (0x7F, 0x80, 0xBF, 0xC0)
    rest = [bytes(tails) for n in (1, 2, 3) for tails in product(bounds, repeat=n)]
    pairs = [bytes(pair) for pair in product(range(256), repeat=2)]
    singles = [bytes([byte]) for byte in range(256)]
    return [b"", *singles, *pairs, *(p + r for p in pairs if p[0] >= 0xE0 for r in rest)]


def test_every_lead_and_second_byte_with_the_bounds_of_the_others() -> None:
    values = all_short_ones()
    assert len(values) > 500_000
    data = np.frombuffer(b"".join(values), np.uint8)
    end = 0
    for value in values:
        start, end = end, end + len(value)
        assert is_utf8(data, start, end) == python_says(value), value


_pieces = st.one_of(
    st.text(st.characters(categories=None), max_size=3).map(  # surrogates as well
        lambda text: text.encode("utf-8", "surrogatepass")
    ),
    st.sampled_from([b"\xc0\x80", b"\xe0\x80\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xf5"]),
    st.binary(max_size=3),
)


@settings(max_examples=500)
@example([b"\xed\x9f\xbf", b"\xee\x80\x80", b"\xf4\x8f\xbf\xbf"], b"", b"")
@given(st.lists(_pieces, max_size=6), st.binary(max_size=3), st.binary(max_size=3))
def test_text_is_what_python_can_decode_whatever_lies_beside_it(
    pieces: list[bytes], before: bytes, after: bytes
) -> None:
    value = b"".join(pieces)
    expected = python_says(value)
    assert kernel_says(value, before, after) == expected
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(globals(), "is_utf8", is_utf8.py_func)
        assert kernel_says(value, before, after) == expected
