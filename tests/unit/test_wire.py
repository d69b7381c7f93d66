"""The schema registry's framing: as the vendor's serializer writes it, and only that."""

import numpy as np
import pyarrow as pa
import pytest
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.protobuf import ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct
from hypothesis import example, given, settings
from hypothesis import strategies as st

from schemas import wire
from schemas.market_pb2 import Candle, Decimal, OrderExecutionReport, Trade
from schemas.wire import add_header, header, strip_header

_ids = st.one_of(st.integers(0, 2**32 - 1), st.sampled_from([1, 127, 128, 2**31]))
_places = st.lists(st.one_of(st.integers(0, 5), st.integers(0, 2**20)), min_size=1, max_size=5)
_messages = st.lists(st.binary(max_size=30), max_size=10)


def strip(values: list[bytes]) -> list[bytes | None]:
    """The messages; None where there was no header."""
    messages, framed = strip_header(pa.array(values, pa.binary()))
    messages.validate(full=True)
    found = list(zip(messages.to_pylist(), framed.tolist(), strict=True))
    assert all(good or message == b"" for message, good in found)
    return [message if good else None for message, good in found]


@pytest.fixture(scope="module")
def vendor() -> SchemaRegistryClient:
    """The vendor's own registry in memory; its serializer is the real one."""
    return SchemaRegistryClient.new_client({"url": "mock://"})


@pytest.mark.parametrize(
    ("message", "place"),
    [
        (Decimal(unscaled=525, scale=2), [0]),
        (Trade(instrument="BTC-USD", trade_seq=1), [1]),
        (Trade(), [1]),
        (OrderExecutionReport(instrument_id=-7), [2]),
        (Candle(instrument="BTC-USD"), [3]),
        (Struct.FieldsEntry(key="nested in a message"), [0, 0]),
    ],
    ids=lambda value: value.DESCRIPTOR.name if isinstance(value, Message) else str(value),
)
def test_a_header_is_what_the_vendors_serializer_writes(
    vendor: SchemaRegistryClient, message: Message, place: list[int]
) -> None:
    serializer = ProtobufSerializer(type(message), vendor, {"use.deprecated.format": False})
    value = serializer(message, SerializationContext("trades", MessageField.VALUE))
    schema_id = int.from_bytes(value[1:5], "big")
    assert schema_id >= 1
    body = message.SerializeToString()
    assert value == header(schema_id, place) + body
    assert add_header(pa.array([body], pa.binary()), header(schema_id, place)).to_pylist() == [
        value
    ]
    assert strip([value]) == [body]


@pytest.mark.parametrize(
    ("schema_id", "place", "expected"),
    [
        (1, [0], b"\x00\x00\x00\x00\x01\x00"),
        (0xDEADBEEF, [1], b"\x00\xde\xad\xbe\xef\x02\x02"),
        (258, [1, 0], b"\x00\x00\x00\x01\x02\x04\x02\x00"),
        (7, [0, 0], b"\x00\x00\x00\x00\x07\x04\x00\x00"),
        (7, [63, 64, 8_192], b"\x00\x00\x00\x00\x07\x06\x7e\x80\x01\x80\x80\x01"),
    ],
)
def test_headers_by_hand(schema_id: int, place: list[int], expected: bytes) -> None:
    assert header(schema_id, place) == expected
    assert strip([expected + b"x", expected]) == [b"x", b""]


@settings(max_examples=100)
@given(_ids, _places, _messages)
def test_strip_undoes_add(schema_id: int, place: list[int], messages: list[bytes]) -> None:
    framed = add_header(pa.array(messages, pa.binary()), header(schema_id, place))
    assert framed.to_pylist() == [header(schema_id, place) + message for message in messages]
    assert strip(framed.to_pylist()) == messages


@settings(max_examples=50)
@given(_ids, _places)
@example(0, [0])
def test_a_truncated_header_is_none(schema_id: int, place: list[int]) -> None:
    whole = header(schema_id, place)
    assert strip([whole[:n] for n in range(len(whole))]) == [None] * len(whole)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\x00",
        b"\x01\x00\x00\x00\x01\x00good otherwise",
        b"\x00\x00\x00\x00\x01",  # the message's place is missing
        b"\x00\x00\x00\x00\x01\x01\x00",  # a count of -1
        b"\x00\x00\x00\x00\x01\x04\x02",  # two announced, one there
        b"\x00\x00\x00\x00\x01\x02\x80",  # a number that does not end
        b"\x00\x00\x00\x00\x01\x80\x80\x80\x80\x80\x00",  # one of more than five bytes
        b"\x00\x00\x00\x00\x01\xfe\xff\xff\xff\x0f" + b"\x00" * 50,  # two billion announced
    ],
    ids=lambda value: value.hex(),
)
def test_what_is_no_header_costs_its_neighbours_nothing(value: bytes) -> None:
    good = header(9, [1]) + b"message"
    assert strip([value]) == [None]
    assert strip([good, value, good, value]) == [b"message", None, b"message", None]


def _strip_slowly(value: bytes) -> bytes | None:
    """The wire format's page in plain Python."""
    if len(value) < 6 or value[0] != 0:
        return None
    at, numbers = 5, []
    while not numbers or len(numbers) <= numbers[0]:
        number = shift = 0
        while True:
            if at >= len(value) or shift > 28:
                return None
            byte = value[at]
            at += 1
            number |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        if not numbers and number % 2:
            return None
        numbers.append(number // 2)
    return value[at:]


@settings(max_examples=100)
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=12),
            st.binary(max_size=12).map(lambda rest: b"\x00\x00\x00\x00\x05" + rest),
            st.builds(lambda i, p, m: header(i, p) + m, _ids, _places, st.binary(max_size=9)),
        ),
        max_size=10,
    ),
    st.integers(0, 3),
    st.integers(0, 3),
)
def test_any_bytes_strip_as_in_plain_python(values: list[bytes], first: int, rest: int) -> None:
    expected = [_strip_slowly(value) for value in values]
    assert strip(values) == expected
    cut = slice(first, max(first, len(values) - rest))  # arrays arrive as slices of larger ones
    messages, framed = strip_header(pa.array(values, pa.binary())[cut])
    assert [m if f else None for m, f in zip(messages.to_pylist(), framed, strict=True)] == (
        expected[cut]
    )


@settings(max_examples=20)
@given(
    st.lists(st.builds(lambda p, m: header(3, p) + m, _places, st.binary(max_size=9)), max_size=5)
)
def test_stripping_is_the_same_uncompiled(values: list[bytes]) -> None:
    found = []
    offsets = np.cumsum([0, *map(len, values)], dtype=np.int32)
    data = np.frombuffer(b"".join(values), np.uint8)
    for kernel in (wire._strip, wire._strip.py_func):
        new_offsets, new_data = np.zeros(len(values) + 1, np.int32), np.zeros(len(data), np.uint8)
        framed = np.zeros(len(values), bool)
        size = kernel(offsets, data, new_offsets, new_data, framed)
        found.append((size, new_offsets.tolist(), new_data[:size].tobytes(), framed.tolist()))
    assert found[0] == found[1]
