"""Keys of a shard with very many: equal to the dictionary they stand for, and to Kafka's places."""

import random

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.keys import Keys
from operators.many_keys import ManyKeys
from schemas.murmur2 import partition_of, partitions_of

_names = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=6), max_size=30)


@settings(max_examples=200)
@given(_names, st.lists(_names, max_size=5))
def test_codes_and_names_are_those_of_a_dictionary(first: list[str], more: list[list[str]]) -> None:
    distinct = list(dict.fromkeys(first))
    many, few = ManyKeys(distinct), Keys(distinct)
    for names in more:
        assert many.codes(names).tolist() == few.codes(names).tolist()
        assert len(many) == len(few)
        assert many.names.to_pylist() == few.names


def test_a_hundred_thousand_keys_keep_their_codes() -> None:
    rng = random.Random(1)
    names = [f"device-{i}" for i in range(100_000)]
    many = ManyKeys()
    for at in range(0, len(names), 7_001):
        many.codes(names[at : at + 7_001])
    asked = [rng.randrange(len(names)) for _ in range(5_000)]
    assert many.codes([names[i] for i in asked]).tolist() == asked
    assert many.names.to_pylist() == names


@settings(max_examples=200)
@given(_names, st.integers(1, 1024))
def test_many_keys_are_placed_as_one_is(names: list[str], partitions: int) -> None:
    placed = partitions_of(pa.array(names, pa.string()), partitions).tolist()
    assert placed == [partition_of(name.encode(), partitions) for name in names]
