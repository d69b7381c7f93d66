"""Placement of keys against Kafka's own vectors and a second, byte-wise reading of the hash."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.murmur2 import murmur2, partition_of

# From Kafka's UtilsTest.testMurmur2.
_VECTORS = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


@pytest.mark.parametrize(("data", "expected"), _VECTORS.items())
def test_known_vectors(data: bytes, expected: int) -> None:
    assert murmur2(data) == expected


def _to_int32(value: int) -> int:
    return (value + 2**31) % 2**32 - 2**31


def _reference(data: bytes) -> int:
    """The hash as Java computes it: signed 32-bit steps, the tail byte by byte."""
    m = 0x5BD1E995
    h = _to_int32(0x9747B28C ^ len(data))
    for at in range(0, len(data) // 4 * 4, 4):
        k = _to_int32(sum(data[at + i] << 8 * i for i in range(4)))
        k = _to_int32(k * m)
        k ^= (k % 2**32) >> 24
        k = _to_int32(k * m)
        h = _to_int32(h * m) ^ k
    tail = data[len(data) // 4 * 4 :]
    for i in reversed(range(len(tail))):
        h ^= tail[i] << 8 * i
    if tail:
        h = _to_int32(h * m)
    h ^= (h % 2**32) >> 13
    h = _to_int32(h * m)
    return h ^ ((h % 2**32) >> 15)


@given(st.binary(max_size=67))
def test_every_length_agrees_with_the_byte_wise_reading(data: bytes) -> None:
    assert murmur2(data) == _reference(data)


@given(st.binary(max_size=40), st.integers(1, 1000))
def test_partition_is_the_positive_hash_modulo_partitions(key: bytes, partitions: int) -> None:
    assert partition_of(key, partitions) == (murmur2(key) & 0x7FFFFFFF) % partitions
    assert 0 <= partition_of(key, partitions) < partitions
