"""Candles as input: what our own encoder wrote comes back exactly; what is wrong is said."""

from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.candle_codec import CANDLE_REASONS, CandleCodec, _decimals
from schemas.market_pb2 import Candle
from schemas.wire import add_header, header
from tests.oracle import text

BASE = 1_700_000_040_000
CODEC = CandleCodec("1m")


def candle(**fields: object) -> Candle:
    given = {
        "instrument": "A",
        "interval": "1m",
        "open_time_ms": BASE,
        "close_time_ms": BASE + 60_000,
        "open": "5.25",
        "high": "7",
        "low": "0.00000001",
        "close": "6",
        "volume": "3",
        "quote_volume": "15.7500000000000001",
        "vwap": "5.25",
        "trade_count": 3,
        "first_trade_seq": 11,
        "last_trade_seq": 13,
        "open_trade_time_ms": BASE,
        "high_trade_time_ms": BASE + 2,
        "low_trade_time_ms": BASE + 1,
        "close_trade_time_ms": BASE + 59_999,
        "is_closed": True,
        "complete": True,
    }
    return Candle(**{**given, **fields})  # type: ignore[arg-type]


def decode(*values: bytes | None, codec: CandleCodec = CODEC) -> tuple[list[str], dict]:
    decoded = codec.decode(pa.array(values, pa.binary()))
    reasons = ["" if code == 0 else codec.reasons[code - 1] for code in decoded.reasons]
    columns = {name: column.tolist() for name, column in decoded.columns.items()}
    columns["key"] = [decoded.key_names[code] for code in decoded.key_codes]
    columns["time"] = decoded.event_time_ms.tolist()
    return reasons, columns


def test_a_candle_comes_back_exactly_and_happens_in_its_last_millisecond() -> None:
    reasons, columns = decode(candle().SerializeToString())
    assert reasons == [""]
    assert {name: column[0] for name, column in columns.items()} == {
        "key": "A", "time": BASE + 59_999,
        "open": 525_000_000, "high": 700_000_000, "low": 1, "close": 600_000_000,
        "volume_low": 300_000_000, "volume_high": 0,
        "quote_low": 15_7500000000000001 % 2**64, "quote_high": 0,
        "count": 3, "first_seq": 11, "last_seq": 13,
        "open_time": BASE, "high_time": BASE + 2, "low_time": BASE + 1,
        "close_time": BASE + 59_999,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"instrument": ""}, "missing_instrument"),
        ({"instrument": "a\n"}, "invalid_instrument"),
        ({"instrument": "x" * 256}, "invalid_instrument"),
        ({"interval": "5m"}, "other_interval"),
        ({"is_closed": False}, "not_closed"),
        ({"open_time_ms": BASE + 1, "close_time_ms": BASE + 60_001}, "invalid_time"),
        ({"close_time_ms": BASE + 120_000}, "invalid_time"),
        ({"open_time_ms": -60_000, "close_time_ms": 0}, "invalid_time"),
        ({"open": ""}, "invalid_price"),
        ({"open": "0"}, "invalid_price"),
        ({"open": "-1"}, "invalid_price"),
        ({"open": "1e3"}, "invalid_price"),
        ({"open": "5."}, "invalid_price"),
        ({"open": ".5"}, "invalid_price"),
        ({"open": "1.2.3"}, "invalid_price"),
        ({"open": "NaN"}, "invalid_price"),
        ({"open": "1.123456789"}, "invalid_price"),
        ({"high": "92233720368.54775808"}, "invalid_price"),
        ({"high": "9" * 60}, "invalid_price"),
        ({"close": "7.00000001"}, "invalid_price"),
        ({"low": "6.5"}, "invalid_price"),
        ({"volume": "0"}, "invalid_volume"),
        ({"volume": "x"}, "invalid_volume"),
        ({"volume": str(2**96 // 10**8 + 1)}, "invalid_volume"),
        ({"quote_volume": str(2**108 // 10**16 + 1)}, "invalid_volume"),
        ({"trade_count": -1}, "invalid_count"),
        ({"trade_count": 2**32}, "invalid_count"),
        ({"high_trade_time_ms": BASE - 1}, "invalid_trade_time"),
        ({"close_trade_time_ms": BASE + 60_000}, "invalid_trade_time"),
    ],
)
def test_what_is_wrong_with_a_candle_is_said_and_its_neighbours_are_read(
    fields: dict, reason: str
) -> None:
    good = candle().SerializeToString()
    reasons, columns = decode(good, candle(**fields).SerializeToString(), good)
    assert reasons == ["", reason, ""]
    assert columns["open"][0] == columns["open"][2] == 525_000_000


@pytest.mark.parametrize("bad", [b"\xff", b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", b"\x0b"])
def test_undecodable_bytes_and_tombstones_harm_no_neighbour(bad: bytes) -> None:
    good = candle().SerializeToString()
    reasons, columns = decode(bad, good, None, good)
    assert reasons == ["undecodable", "", "no_value", ""]
    assert columns["close"][1] == columns["close"][3] == 600_000_000


def test_a_long_value_is_read_by_the_stock_library() -> None:
    unknown = b"\xa2\x06\x88\x27" + b"x" * 5_000  # field 100, of a newer writer
    reasons, columns = decode(candle().SerializeToString() + unknown)
    assert (reasons, columns["open"]) == ([""], [525_000_000])


def test_a_candle_without_trades_has_no_figures_and_needs_none() -> None:
    gap = candle(
        trade_count=0, volume="0", quote_volume="0", vwap="", gap_filled=True, open_trade_time_ms=0
    )
    reasons, columns = decode(gap.SerializeToString())
    assert reasons == [""]
    figures = {name: column for name, column in columns.items() if name not in ("key", "time")}
    assert set(map(tuple, figures.values())) == {(0,)}


def test_the_wire_header_is_asked_for() -> None:
    codec = CandleCodec("1m", confluent_wire=True)
    framed = add_header(pa.array([candle().SerializeToString()], pa.binary()), header(7, [4]))
    reasons, _ = decode(framed[0].as_py(), candle().SerializeToString(), None, codec=codec)
    assert reasons == ["", "no_wire_header", "no_value"]


def test_an_empty_batch_is_empty() -> None:
    assert decode()[0] == []
    assert len(CANDLE_REASONS) == len(set(CANDLE_REASONS))


@given(
    st.lists(st.integers(0, 10**38 - 1)),
    st.sampled_from([0, 8, 16]),
)
def test_decimal_text_is_read_exactly(numbers: list[int], places: int) -> None:
    texts = [text(Decimal(number).scaleb(-places)) for number in numbers]
    low, high, valid = _decimals(pa.array(texts, pa.string()), places)
    assert valid.all()
    assert [int(x) + (int(y) << 64) for x, y in zip(low, high, strict=True)] == numbers


@given(st.lists(st.text("0123456789.-e x", max_size=50)))
def test_only_plain_decimals_are_read(texts: list[str]) -> None:
    _, _, valid = _decimals(pa.array(texts, pa.string()), 8)
    for given_text, good in zip(texts, np.asarray(valid).tolist(), strict=True):
        whole, _, fraction = given_text.partition(".")
        plain = whole.isdigit() and (fraction.isdigit() if "." in given_text else True)
        fits = len(whole) + 8 <= 38 and len(fraction) <= 8
        assert good == (plain and fits), given_text
