"""Kafka's placement of keys: the partition a Java client's default partitioner chooses.

Contract: `murmur2` and `partition_of` agree bit for bit with
`org.apache.kafka.common.utils.Utils.murmur2` and `toPositive(murmur2(key)) % partitions`.
Meant for the distinct keys of a log, not for each record: plain Python, about 2 us a key.
"""

__all__ = ["murmur2", "partition_of"]

_SEED = 0x9747B28C
_MULTIPLIER = 0x5BD1E995
_SHIFT = 24
_MASK = 0xFFFFFFFF
_SIGN = 0x80000000


def murmur2(data: bytes) -> int:
    """The 32-bit MurmurHash2 of `data` with Kafka's seed, as a signed integer like Java's."""
    length = len(data)
    value = _SEED ^ length
    whole = length - length % 4
    for at in range(0, whole, 4):
        word = int.from_bytes(data[at : at + 4], "little") * _MULTIPLIER & _MASK
        word = (word ^ word >> _SHIFT) * _MULTIPLIER & _MASK
        value = value * _MULTIPLIER & _MASK ^ word
    if whole < length:
        value = (value ^ int.from_bytes(data[whole:], "little")) * _MULTIPLIER & _MASK
    value = (value ^ value >> 13) * _MULTIPLIER & _MASK
    value ^= value >> 15
    return value - (_SIGN << 1) if value & _SIGN else value


def partition_of(key: bytes, partitions: int) -> int:
    """The partition, of `partitions` (>= 1), where Kafka's Java client puts `key`."""
    return (murmur2(key) & ~_SIGN & _MASK) % partitions
