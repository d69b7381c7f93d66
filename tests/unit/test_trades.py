"""The column codec of trades says of each value what the stock protobuf library says."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import trades
from schemas.market_pb2 import Decimal, OrderExecutionReport, Trade
from schemas.stream import Decoded
from schemas.trades import FORMATS, REASONS, TradeCodec, TradeColumns, decode_one
from schemas.wire import header

_TIME = 1_700_000_000_123
_FIVE, _TWO = Decimal(unscaled=525, scale=2), Decimal(unscaled=2)
_HEADER = header(7, [1])
_CODECS = {
    (name, framed): TradeCodec(name, confluent_wire=framed)
    for name in FORMATS
    for framed in (False, True)
}


def trade(**fields: object) -> bytes:
    """A good trade, but for `fields`; None leaves one out."""
    good = {
        "instrument": "BTC-USD", "timestamp_ms": _TIME, "price": _FIVE, "quantity": _TWO,
        "side": 1, "trade_seq": 42, "trade_id": "x-42",
    }  # fmt: skip
    return Trade(**{**good, **fields}).SerializeToString()


def report(**fields: object) -> bytes:
    """A good order execution report, but for `fields`."""
    good = {
        "instrument_id": 7, "order_id": "o", "timestamp_ms": _TIME, "price": _FIVE,
        "quantity": _TWO, "side": 1,
    }  # fmt: skip
    return OrderExecutionReport(**{**good, **fields}).SerializeToString()


MAKE: dict[str, Callable[..., bytes]] = {"trade": trade, "order_execution_report": report}


def decode(
    values: list[bytes | None], message_format: str = "trade", *, framed: bool = False
) -> Decoded:
    return _CODECS[message_format, framed].decode(pa.array(values, pa.binary()))


def rows(decoded: Decoded) -> list[TradeColumns]:
    """What the columns say, in the reference's words."""
    out = []
    for i, reason in enumerate(decoded.reasons.tolist()):
        if reason:
            out.append(TradeColumns(reason, "", 0, 0, 0, 0, 0))
            continue
        key = decoded.key_names[decoded.key_codes[i]]
        figures = [int(decoded.columns[name][i]) for name in ("price", "quantity", "side", "seq")]
        out.append(TradeColumns(0, key, int(decoded.event_time_ms[i]), *figures))
    return out


def reason_of(value: bytes | None, message_format: str = "trade", *, framed: bool = False) -> str:
    (code,) = decode([value], message_format, framed=framed).reasons.tolist()
    return REASONS[code - 1] if code else "good"


class Case(NamedTuple):
    reason: str
    value: bytes | None
    message_format: str = "trade"


_HUGE = Decimal(unscaled=2**63 - 1, scale=8)
CASES = [
    Case("good", trade()),
    Case("good", report(), "order_execution_report"),
    Case("good", trade(instrument="x" * 255)),
    Case("good", trade(instrument="é" * 127 + " ")),
    Case("good", trade(instrument="币\U0001f600")),
    Case("good", trade(instrument="a\x85b\u2028c")),  # they end no line of ours
    Case("good", trade(timestamp_ms=1)),
    Case("good", trade(timestamp_ms=253_402_300_799_999)),
    Case("good", trade(side=0)),
    Case("good", trade(trade_seq=0)),
    # 2**63 - 1 times 8.5899345 is the last product below 2**96
    Case("good", trade(price=_HUGE, quantity=Decimal(unscaled=2**33, scale=8))),
    Case("notional_overflow", trade(price=_HUGE, quantity=Decimal(unscaled=2**33 + 1, scale=8))),
    Case("notional_overflow", trade(price=_HUGE, quantity=_HUGE)),
    Case("no_value", None),
    Case("undecodable", b"\xff\xff"),
    Case("undecodable", trade()[:-1]),
    Case("undecodable", b"\x0a\x02\xff\xfe"),  # text that is no UTF-8
    Case("undecodable", b"\x0a\x03\xed\xa0\x80"),  # a surrogate
    Case("undecodable", b"\x0a\x7fshort"),  # a length past the end
    Case("undecodable", b"\x00\x01"),  # field number zero
    Case("undecodable", b"\x1a\x03\x08\xff\xff" + trade()),  # damage inside a decimal
    Case("undecodable", b"\xff", "order_execution_report"),
    Case("missing_instrument", b""),
    Case("missing_instrument", trade(instrument="")),
    Case("invalid_instrument", trade(instrument="x" * 256)),
    Case("invalid_instrument", trade(instrument="é" * 128)),
    Case("invalid_instrument", trade(instrument="a\x00b")),
    Case("invalid_instrument", trade(instrument="a\nb")),
    Case("invalid_instrument", trade(instrument="a\x7f")),
    Case("missing_timestamp", trade(timestamp_ms=0)),
    Case("missing_timestamp", b"", "order_execution_report"),
    Case("invalid_timestamp", trade(timestamp_ms=-1)),
    Case("invalid_timestamp", trade(timestamp_ms=-(2**63))),
    Case("invalid_timestamp", trade(timestamp_ms=253_402_300_800_000)),
    Case("invalid_timestamp", trade(timestamp_ms=_TIME * 1_000)),  # microseconds by mistake
    Case("invalid_side", trade(side=2)),
    Case("invalid_side", trade(side=-1)),
    Case("invalid_side", report(side=7), "order_execution_report"),
    Case("missing_price", trade(price=None)),
    Case("price_not_positive", trade(price=Decimal())),
    Case("price_not_positive", trade(price=Decimal(unscaled=0, scale=2))),
    Case("price_not_positive", trade(price=Decimal(unscaled=-525, scale=2))),
    Case("price_not_positive", trade(price=Decimal(unscaled=1, scale=9))),
    Case("price_overflow", trade(price=Decimal(unscaled=2**63 - 1, scale=7))),
    Case("price_overflow", trade(price=Decimal(unscaled=1, scale=-11))),
    Case("missing_quantity", trade(quantity=None)),
    Case("missing_quantity", report(quantity=None), "order_execution_report"),
    Case("quantity_not_positive", trade(quantity=Decimal(unscaled=-(2**63)))),
    Case("quantity_overflow", trade(quantity=Decimal(unscaled=92_233_720_369))),
]


@pytest.mark.parametrize("case", CASES, ids=[f"{i}-{case.reason}" for i, case in enumerate(CASES)])
def test_every_value_gets_its_reason_alone_and_among_good_ones(case: Case) -> None:
    make = MAKE[case.message_format]
    reference = decode_one(case.value, case.message_format)
    assert (REASONS[reference.reason - 1] if reference.reason else "good") == case.reason
    assert rows(decode([case.value], case.message_format)) == [reference]
    batch = [make(), make(timestamp_ms=5), case.value, make(side=0), make(price=_TWO)]
    expected = [decode_one(value, case.message_format) for value in batch]
    assert [row.reason for i, row in enumerate(expected) if i != 2] == [0, 0, 0, 0]
    assert rows(decode(batch, case.message_format)) == expected


def test_every_reason_is_reached_by_name() -> None:
    assert {case.reason for case in CASES} | {"no_wire_header"} == {*REASONS, "good"}
    assert [TradeCodec(name).reasons for name in FORMATS] == [REASONS] * 2
    assert len(set(REASONS)) == len(REASONS)


@pytest.mark.parametrize("message_format", FORMATS)
def test_with_the_wire_format_a_value_without_header_is_named_so(message_format: str) -> None:
    make = MAKE[message_format]
    good = make()
    values = [_HEADER + good, good, None, b"", b"\x00\x00", _HEADER[:5], b"\x01" + _HEADER[1:]]
    decoded = decode([*values, _HEADER + b"\xff"], message_format, framed=True)
    reasons = [REASONS[code - 1] if code else "good" for code in decoded.reasons.tolist()]
    headerless = "no_wire_header"
    assert reasons == [
        "good", headerless, "no_value", headerless, headerless, headerless, headerless,
        "undecodable",
    ]  # fmt: skip
    assert rows(decoded)[0] == decode_one(good, message_format)
    # a message may be empty, a header may not
    empty = {"trade": "missing_instrument", "order_execution_report": "missing_timestamp"}
    assert reason_of(_HEADER, message_format, framed=True) == empty[message_format]


_decimals = st.one_of(
    st.none(),
    st.builds(
        Decimal,
        unscaled=st.one_of(
            st.integers(-(2**63), 2**63 - 1),
            st.integers(1, 10**6),
            st.sampled_from([0, 1, 5, 2**33, 10**15, 2**63 - 1]),
        ),
        scale=st.one_of(
            st.integers(-30, 40), st.sampled_from([0, 2, 8]), st.integers(-(2**31), 2**31 - 1)
        ),
    ),
)
_times = st.one_of(
    st.just(_TIME),
    st.sampled_from([0, -5, 1, 253_402_300_800_000]),
    st.integers(-(2**63), 2**63 - 1),
)
_sides = st.sampled_from([0, 1, 1, 2, -1, 2**31 - 1])
_text = st.text(max_size=5)
_trades = st.builds(
    trade,
    instrument=st.one_of(st.sampled_from(["BTC-USD", "é", "", "x" * 300]), _text),
    timestamp_ms=_times,
    price=_decimals,
    quantity=_decimals,
    side=_sides,
    trade_seq=st.one_of(st.integers(0, 9), st.integers(-(2**63), 2**63 - 1)),
    trade_id=_text,
    index_price=_decimals,
    mark_price=_decimals,
    iv=_decimals,
    liquidation=st.sampled_from(["", "M", "T", "MT"]),
    block_trade_id=_text,
    tick_direction=st.integers(0, 3),
)
_reports = st.builds(
    report,
    instrument_id=st.one_of(st.integers(-8, 8), st.integers(-(2**31), 2**31 - 1)),
    order_id=_text,
    timestamp_ms=_times,
    price=_decimals,
    quantity=_decimals,
    side=_sides,
)


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def field(number: int, content: int | bytes) -> bytes:
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    return varint(number << 3 | 2) + varint(len(content)) + content


@st.composite
def _unknown_fields(draw: st.DrawFn) -> bytes:
    """Fields no version of the schema has, of every wire type, a group among them."""
    number = draw(st.integers(100, 2**29 - 1))
    return draw(
        st.one_of(
            st.integers(0, 2**64 - 1).map(lambda x: field(number, x)),
            st.binary(max_size=9).map(lambda x: field(number, x)),
            st.binary(min_size=8, max_size=8).map(lambda x: varint(number << 3 | 1) + x),
            st.binary(min_size=4, max_size=4).map(lambda x: varint(number << 3 | 5) + x),
            st.integers(0, 99).map(
                lambda x: varint(number << 3 | 3) + field(1, x) + varint(number << 3 | 4)
            ),
        )
    )


@st.composite
def _values(draw: st.DrawFn, message_format: str) -> bytes | None:
    """Values good, wrong, cut, damaged, repeated, and with fields of a newer schema."""
    good = MAKE[message_format]()
    value = draw(
        st.one_of(st.just(good), _trades if message_format == "trade" else _reports, st.just(good))
    )
    change = draw(st.sampled_from(["none"] * 8 + ["cut", "twice", "extra", "text", "gone"]))
    if change == "cut":
        return value[: draw(st.integers(0, len(value)))]
    if change == "twice":  # the last of a field counts, and messages merge
        return value + draw(_trades if message_format == "trade" else _reports)
    if change == "extra":
        return draw(_unknown_fields()) + value + draw(_unknown_fields())
    if change == "text":  # field 2 of a report and 7 of a trade are text too
        number = draw(st.sampled_from([1, 7, 11] if message_format == "trade" else [2]))
        return value + field(number, draw(st.sampled_from([b"\xff", b"\xc3\xa9", b"\xed\xa0\x80"])))
    return None if change == "gone" else value


@pytest.mark.parametrize("message_format", FORMATS)
@pytest.mark.parametrize("framed", [False, True], ids=["bare", "framed"])
@settings(max_examples=100)
@given(data=st.data())
def test_a_batch_decodes_as_the_reference_decodes_each_value(
    message_format: str, framed: bool, data: st.DataObject
) -> None:
    values = data.draw(st.lists(_values(message_format), max_size=12))
    expected = [decode_one(value, message_format) for value in values]
    if framed:
        values = [None if value is None else _HEADER + value for value in values]
    decoded = decode(values, message_format, framed=framed)
    assert rows(decoded) == expected
    lengths = {len(decoded.event_time_ms), len(decoded.key_codes), len(decoded.reasons)}
    lengths |= {len(column) for column in decoded.columns.values()}
    assert lengths == {len(values)}
    assert len(set(decoded.key_names)) == len(decoded.key_names)


ENDLESS = b"\xff" * 9 + b"\x01"  # a length of 2**64 - 1
_MONSTERS = {
    "length that wraps": varint(1 << 3 | 2) + ENDLESS,
    "length that wraps in a decimal": field(3, varint(1 << 3 | 2) + ENDLESS),
    "unknown length that wraps": varint(99 << 3 | 2) + ENDLESS,
    "groups in groups": varint(15 << 3 | 3) * 900_000,
    "groups in groups in a decimal": field(3, varint(15 << 3 | 3) * 900_000),
}


@pytest.mark.parametrize("monster", _MONSTERS.values(), ids=_MONSTERS.keys())
@pytest.mark.parametrize("message_format", FORMATS)
def test_bytes_made_to_break_a_decoder_are_undecodable(message_format: str, monster: bytes) -> None:
    make = MAKE[message_format]
    batch = [make(), monster, make(timestamp_ms=5), monster, make(side=0)]
    expected = [decode_one(value, message_format) for value in batch]
    assert [row.reason and REASONS[row.reason - 1] for row in expected] == [
        0, "undecodable", 0, "undecodable", 0,
    ]  # fmt: skip
    assert rows(decode(batch, message_format)) == expected


def test_a_long_good_value_decodes_like_a_short_one() -> None:
    long = field(200, b"x" * 500_000) + trade() + varint(201 << 3 | 3) + varint(201 << 3 | 4)
    assert rows(decode([trade(), long, trade(side=0)])) == rows(
        decode([trade(), trade(), trade(side=0)])
    )


@pytest.mark.parametrize("message_format", FORMATS)
@settings(max_examples=100)
@given(data=st.data())
def test_any_bytes_at_all_decode_as_the_reference_decodes_them(
    message_format: str, data: st.DataObject
) -> None:
    good = MAKE[message_format]()
    damaged = bytearray(good)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(damaged)))
        damaged[at : at + data.draw(st.integers(0, 2))] = data.draw(
            st.one_of(st.binary(max_size=3), st.just(ENDLESS))
        )
    values: list[bytes | None] = [good, bytes(damaged), good]
    expected = [decode_one(value, message_format) for value in values]
    assert rows(decode(values, message_format)) == expected


@pytest.mark.parametrize("bad", [0, 1, 500, 999])
def test_a_bad_value_costs_its_neighbours_nothing(bad: int) -> None:
    values: list[bytes | None] = [trade(timestamp_ms=i + 1, trade_seq=i) for i in range(1_000)]
    values[bad] = b"\xff"
    values[(bad + 7) % 1_000] = None
    decoded = decode(values)
    assert np.flatnonzero(decoded.reasons).tolist() == sorted([bad, (bad + 7) % 1_000])
    good = decoded.reasons == 0
    np.testing.assert_array_equal(decoded.event_time_ms[good], np.arange(1, 1_001)[good])
    np.testing.assert_array_equal(decoded.columns["seq"][good], np.arange(1_000)[good])


def test_a_slice_of_an_array_decodes_like_its_values() -> None:
    values = [None, b"\xff", trade(), trade(instrument="é"), b"", trade(side=0), None]
    array = pa.array(values, pa.binary())[2:6]
    assert rows(TradeCodec().decode(array)) == [decode_one(value) for value in values[2:6]]
    framed = [None if value is None else _HEADER + value for value in values]
    codec = TradeCodec(confluent_wire=True)
    assert rows(codec.decode(pa.array(framed, pa.binary())[2:6])) == rows(
        TradeCodec().decode(array)
    )


@pytest.mark.parametrize("message_format", FORMATS)
def test_the_stored_scale_does_not_change_the_columns(message_format: str) -> None:
    variants = [(525, 2), (5_250, 3), (525_000_000, 8), (525 * 10**10, 12), (525 * 10**16, 18)]
    make = MAKE[message_format]
    values: list[bytes | None] = [
        make(
            price=Decimal(unscaled=unscaled, scale=scale),
            quantity=Decimal(unscaled=unscaled, scale=scale),
        )
        for unscaled, scale in variants
    ]
    decoded = decode(values, message_format)
    assert decoded.columns["price"].tolist() == [525_000_000] * 5
    assert decoded.columns["quantity"].tolist() == [525_000_000] * 5
    assert decode([make(price=Decimal(unscaled=2, scale=-3))], message_format).columns[
        "price"
    ].tolist() == [2_000 * 10**8]


def test_an_unknown_instrument_id_negative_included_is_an_ordinary_key() -> None:
    ids = [-7, 0, 12_345, 2**31 - 1, -(2**31)]
    decoded = decode([report(instrument_id=i) for i in ids], "order_execution_report")
    assert decoded.reasons.tolist() == [0] * 5
    assert [decoded.key_names[code] for code in decoded.key_codes] == [str(i) for i in ids]
    assert decoded.columns["seq"].tolist() == [0] * 5


@pytest.mark.parametrize("liquidation", ["", "M", "T", "MT"])
def test_a_liquidation_trade_decodes_like_any_other(liquidation: str) -> None:
    assert rows(decode([trade(liquidation=liquidation)])) == rows(decode([trade()]))


def test_fields_of_the_exchange_feed_and_of_newer_schemas_change_nothing() -> None:
    extra = {
        "index_price": _FIVE, "mark_price": Decimal(unscaled=-1, scale=-40), "iv": Decimal(),
        "block_trade_id": "b", "tick_direction": 3,
    }  # fmt: skip
    newer = field(200, 5) + trade(**extra) + field(201, b"\xff\x00")
    assert rows(decode([newer])) == rows(decode([trade()]))


def test_an_empty_batch_has_empty_columns() -> None:
    for message_format, framed in _CODECS:
        decoded = decode([], message_format, framed=framed)
        assert rows(decoded) == []
        assert decoded.key_names == []
        assert {name: column.dtype.str[1:] for name, column in decoded.columns.items()} == {
            "price": "i8",
            "quantity": "i8",
            "side": "i1",
            "seq": "i8",
        }


def test_the_judge_is_the_same_uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    values = [case.value for case in CASES if case.message_format == "trade"]
    compiled = decode(values).reasons.tolist()
    monkeypatch.setattr(trades, "_judge", trades._judge.py_func)
    with np.errstate(over="ignore"):
        assert decode(values).reasons.tolist() == compiled
