"""Keys are numbered in the order in which they come first, whatever their bytes."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import key_codes
from schemas.key_codes import intern_keys


def intern(keys: list[bytes], odd: list[bool] | None = None) -> tuple[list[str | None], list[str]]:
    """The name of each key, None where it is odd; the distinct names."""
    values = pa.array([b"<" + key + b">" for key in keys], pa.binary())
    ends = np.cumsum([len(key) + 2 for key in keys], dtype=np.int64) - 1
    starts = ends - np.array([len(key) for key in keys], np.int64)
    marks = np.array(odd or [False] * len(keys), bool)
    codes, names = intern_keys(values, starts, ends, marks)
    assert (codes.dtype, len(codes)) == (np.int32, len(keys))
    assert not codes[marks].any()
    named = [None if mark else names[code] for code, mark in zip(codes, marks, strict=True)]
    return named, names


def _is_plain(key: bytes) -> bool:
    try:
        key.decode()
    except UnicodeDecodeError:
        return False
    return 1 <= len(key) <= 255 and all(byte >= 0x20 and byte != 0x7F for byte in key)


def slowly(keys: list[bytes]) -> tuple[list[str | None], list[str]]:
    """The same with a dictionary."""
    named = [key.decode() if _is_plain(key) else None for key in keys]
    return named, list(dict.fromkeys(name for name in named if name is not None))


_keys = st.lists(
    st.one_of(
        st.sampled_from([b"A", b"B", b"AB", b"BA", b" ", b"~"]),
        st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=4).map(str.encode),
        st.binary(max_size=3),
        st.text(max_size=3).map(str.encode),
        st.sampled_from([b"", b"\n", b"a\nb", b"\x7f", b"\x1f", b"\x80", b"\xed\xa0\x80"]),
        # the third and fourth hold what ends a line elsewhere than here
        st.sampled_from(["é", "€", "a\x85b", "a\u2028b", "é" * 127, "é" * 128]).map(str.encode),
        st.integers(254, 257).map(lambda length: b"x" * length),
    ),
    max_size=40,
)


@settings(max_examples=200)
@given(_keys)
def test_keys_are_numbered_as_a_dictionary_numbers_them(keys: list[bytes]) -> None:
    assert intern(keys) == slowly(keys)


@settings(max_examples=50)
@given(_keys)
def test_keys_are_numbered_alike_uncompiled(keys: list[bytes]) -> None:
    expected = intern(keys)
    with pytest.MonkeyPatch.context() as patch, np.errstate(over="ignore"):  # hashes wrap
        for kernel in ("is_utf8", "_intern"):
            patch.setattr(key_codes, kernel, getattr(key_codes, kernel).py_func)
        assert intern(keys) == expected


def test_a_batch_may_consist_of_distinct_keys() -> None:
    keys = [b"key-%d" % i for i in range(20_000)]
    assert intern(keys + keys[::-1]) == slowly(keys + keys[::-1])


def _slot(key: bytes, slots: int) -> int:
    value = 0xCBF29CE484222325
    for byte in key:
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return (value ^ value >> 32) % slots


def test_keys_that_collide_stay_apart() -> None:
    # 50 keys get a table of 128 places; all want its last one, so probing goes round its end
    crowd = [key for key in (b"%d" % i for i in range(100_000)) if _slot(key, 128) == 127][:25]
    assert len(crowd) == 25
    keys = crowd + crowd[::-1]
    assert intern(keys) == slowly(keys)


def test_what_was_odd_before_stays_so_and_gets_no_name() -> None:
    assert intern([b"A", b"B", b"A"], [False, True, False]) == (["A", None, "A"], ["A"])
