"""The compiled decoder reads what the stock library reads, or says that it cannot tell."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import trade_wire
from schemas.market_pb2 import Candle, Decimal, OrderExecutionReport, Trade
from schemas.trade_wire import Fields, meanings_of, read_fields
from schemas.trades import FORMATS, decode_one
from tests.unit.test_trades import ENDLESS, MAKE, decode, field, report, rows, trade, varint

_MESSAGES = {"trade": Trade, "order_execution_report": OrderExecutionReport}
_MEANINGS = {name: meanings_of(message) for name, message in _MESSAGES.items()}


def read(values: list[bytes], message_format: str = "trade") -> Fields:
    return read_fields(pa.array(values, pa.binary()), _MEANINGS[message_format])


def one(fields: Fields, i: int, value: bytes, before: int) -> dict[str, Any]:
    """The fields of one value, which lies behind `before` bytes."""
    found = {name: column[i].item() for name, column in fields._asdict().items()}
    start, end = found.pop("key_start") - before, found.pop("key_end") - before
    return {**found, "key": value[max(start, 0) : max(end, 0)]}


def stock(value: bytes, message_format: str = "trade") -> dict[str, Any]:
    """The same by the stock library."""
    message: Any = _MESSAGES[message_format]()
    message.ParseFromString(value)
    return {
        "odd": False,
        "key": getattr(message, "instrument", "").encode(),
        "key_id": getattr(message, "instrument_id", 0),
        "time_ms": message.timestamp_ms,
        "price": message.price.unscaled,
        "price_scale": message.price.scale,
        "has_price": message.HasField("price"),
        "quantity": message.quantity.unscaled,
        "quantity_scale": message.quantity.scale,
        "has_quantity": message.HasField("quantity"),
        "side": message.side,
        "seq": getattr(message, "trade_seq", 0),
    }


_UNSCALED, _SCALE = b"\x08\x05", b"\x10\x02"
_MINUS_ONE = b"\xff" * 9 + b"\x01"
ORDINARY = {
    "as written": trade(),
    "nothing": b"",
    "any order": field(6, 1) + field(4, _SCALE + _UNSCALED) + field(2, 7) + field(1, b"A"),
    "the last number counts": trade() + field(2, 1) + field(5, 0) + field(6, 3),
    "decimals merge": trade() + field(3, _SCALE) + field(3, _UNSCALED) + field(3, b""),
    "an empty decimal is there": field(3, b""),
    "negative numbers": trade(trade_seq=-3, price=Decimal(unscaled=-1, scale=-2), side=-1),
    "largest numbers": trade(
        timestamp_ms=2**63 - 1, trade_seq=-(2**63), price=Decimal(unscaled=1, scale=2**31 - 1)
    ),
    "a number with surplus bytes": varint(2 << 3) + b"\x81\x80\x80\x00",
    "a length with surplus bytes": varint(1 << 3 | 2) + b"\x81\x80\x00" + b"A",
    "text that is not ASCII": trade(instrument="币-€", trade_id="é", block_trade_id="\U0001f600"),
    "all of the exchange": trade(
        index_price=Decimal(unscaled=-1, scale=-40), mark_price=Decimal(), iv=Decimal(scale=1),
        liquidation="MT", block_trade_id="b", tick_direction=3,
    ),
    "a newer number": field(14, 2**64 - 1) + trade() + field(2_047, 1),
    "a newer text": field(15, b"\xff") + trade() + field(200, b"x" * 500),
    "newer fixed numbers": b"\x71" + b"\xff" * 8 + trade() + b"\x75" + b"\xff" * 4,
    "a known number of another kind": field(2, b"\xff") + field(1, 5) + trade(),
}  # fmt: skip
ODD = {
    "a group": trade() + b"\x7b\x7c",
    "the end of a group": trade() + b"\x7c",
    "kind 6": b"\x0e" + trade(),
    "kind 7": b"\x0f" + trade(),
    "field number zero": b"\x00\x01",
    "a tag of three bytes": field(2_048, 1) + trade(),
    "a tag that does not end": trade() + b"\x80",
    "a number that does not end": trade() + b"\x10\x80",
    "a number of eleven bytes": b"\x10" + b"\x80" * 10 + b"\x00",
    "a number of more than 64 bits": b"\x10" + b"\x80" * 9 + b"\x02",
    "a side of more than 32 bits": field(5, 2**32 + 1) + trade(),
    "a scale of more than 32 bits": field(3, b"\x10" + varint(2**31)),
    "a length past the end": b"\x0a\x02A",
    "an unknown length past the end": trade() + b"\x7a\x01",
    "a length that wraps": b"\x0a" + ENDLESS,
    "a length of five bytes": b"\x0a\x81\x80\x80\x80\x00A",
    "a fixed number cut": trade() + b"\x71" + b"\x00" * 7,
    "a key twice": trade() + field(1, b"A"),
    "text that is no UTF-8": trade() + field(11, b"\xff"),
    "text with half a character": trade() + field(7, "€".encode()[:2]),
    "text with a surrogate": trade() + field(12, b"\xed\xa0\x80"),
    "an unknown field in a decimal": field(3, _UNSCALED + b"\x18\x01"),
    "a decimal cut": field(3, b"\x08"),
    "a decimal of a newer field that is damaged": trade() + field(8, b"\x08\x80"),
    "another kind in a decimal": field(4, b"\x0a\x00"),
}


@pytest.mark.parametrize("value", ORDINARY.values(), ids=ORDINARY.keys())
def test_ordinary_values_are_read_without_the_stock_library(value: bytes) -> None:
    before = trade()
    assert one(read([before, value, before]), 1, value, len(before)) == stock(value)


@pytest.mark.parametrize("value", ODD.values(), ids=ODD.keys())
def test_of_odd_values_it_says_so_and_the_stock_library_decides(value: bytes) -> None:
    batch = [trade(), value, trade(side=0)]
    assert read(batch).odd.tolist() == [False, True, False]
    assert rows(decode([*batch])) == [decode_one(each) for each in batch]


def test_ordinary_reports_are_read_without_the_stock_library() -> None:
    for value in (report(), report(instrument_id=-7), report(order_id=""), b""):
        fields = read([value], "order_execution_report")
        assert one(fields, 0, value, 0) == stock(value, "order_execution_report")
    assert read([field(1, 2**31)], "order_execution_report").odd.all()


def test_a_field_of_an_unknown_type_is_refused_before_anything_is_read() -> None:
    with pytest.raises(KeyError):
        meanings_of(Candle)  # it has booleans


_numbers = st.one_of(
    st.integers(0, 300),
    st.sampled_from([2**31 - 1, 2**31, 2**32, 2**32 + 1, 2**63 - 1, 2**63, 2**64 - 2**31]),
    st.integers(0, 2**64 - 1),
)
_surplus = st.sampled_from([0] * 12 + [1, 2, 3, 4, 5, 9])
_texts = st.one_of(
    st.sampled_from([b"A", b"", b"\xff", b"\xc3\xa9", b"\xed\xa0\x80", b"x" * 256, b"a\nb"]),
    st.text(max_size=2).map(str.encode),
    st.binary(max_size=4),
)


@st.composite
def _varints(draw: st.DrawFn, number: int) -> bytes:
    """A number, sometimes in more bytes than it needs, or than there may be."""
    encoded = bytearray(varint(number))
    for _ in range(draw(_surplus)):
        encoded[-1] |= 0x80
        encoded.append(draw(st.sampled_from([0, 0, 0, 1, 2])))
    return bytes(encoded)


@st.composite
def _decimals(draw: st.DrawFn) -> bytes:
    tags = st.sampled_from([8, 8, 8, 16, 16, 16, 24, 0, 10, 11])
    return b"".join(
        draw(_varints(draw(tags))) + draw(_varints(draw(_numbers)))
        for _ in range(draw(st.integers(0, 3)))
    )


@st.composite
def _fields(draw: st.DrawFn) -> bytes:
    """A field of any number and kind, its content fitting or not."""
    number = draw(
        st.one_of(st.integers(0, 15), st.sampled_from([16, 2_047, 2_048, 2**29 - 1, 2**29]))
    )
    kind = draw(st.sampled_from([0, 0, 0, 0, 2, 2, 2, 2, 2, 1, 5, 3, 4, 6, 7]))
    tag = draw(_varints(number << 3 | kind))
    if kind == 0:
        return tag + draw(_varints(draw(_numbers)))
    if kind == 2:
        content = draw(st.one_of(_decimals(), _decimals(), _texts))
        wrong = draw(st.sampled_from([0] * 20 + [1, -1, 2**32, 2**63]))
        return tag + draw(_varints(max(0, len(content) + wrong))) + content
    if kind == 3:
        return tag + draw(st.one_of(st.just(b""), _fields())) + varint(number << 3 | 4)
    return tag + bytes({1: 8, 5: 4}.get(kind, 0))


@st.composite
def _values(draw: st.DrawFn, message_format: str) -> bytes:
    good = MAKE[message_format]()
    before, after = (b"".join(draw(st.lists(_fields(), max_size=2))) for _ in range(2))
    value = bytearray(before + draw(st.sampled_from([good, good, b""])) + after)
    if draw(st.integers(0, 4)) == 0:
        at = draw(st.integers(0, len(value)))
        value[at : at + draw(st.integers(0, 2))] = draw(
            st.one_of(st.binary(max_size=2), st.sampled_from([ENDLESS, _MINUS_ONE[:-1] + b"\x7f"]))
        )
    return bytes(value)


@pytest.mark.parametrize("message_format", FORMATS)
@settings(max_examples=300)
@given(data=st.data())
def test_any_wire_format_reads_as_the_stock_library_reads_it(
    message_format: str, data: st.DataObject
) -> None:
    values = data.draw(
        st.lists(st.one_of(_values(message_format), st.binary(max_size=12)), max_size=8)
    )
    fields = read(values, message_format)
    before = 0
    for i, value in enumerate(values):
        found = one(fields, i, value, before)
        before += len(value)
        is_text = found["key"].decode(errors="ignore").encode() == found["key"]
        if not found["odd"] and is_text:
            assert found == stock(value, message_format)
    expected = [decode_one(value, message_format) for value in values]
    assert rows(decode([*values], message_format)) == expected


@pytest.mark.parametrize("message_format", FORMATS)
@settings(max_examples=100)
@given(data=st.data())
def test_values_read_alike_uncompiled(message_format: str, data: st.DataObject) -> None:
    values = [*ORDINARY.values(), *ODD.values(), data.draw(_values(message_format))]
    compiled = read(values, message_format)
    with pytest.MonkeyPatch.context() as patch:
        for kernel in ("_varint", "_decimal", "is_utf8", "_read"):
            patch.setattr(trade_wire, kernel, getattr(trade_wire, kernel).py_func)
        plain = read(values, message_format)
    for name, column in compiled._asdict().items():
        np.testing.assert_array_equal(getattr(plain, name), column, name)
