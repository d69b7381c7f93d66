"""The exchange's messages: exact figures, and nothing that arrives raises."""

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.market_pb2 import Trade
from schemas.trade_rows import TradeRow, decimal_parts, encode_trades, trade_rows
from schemas.trades import decode_one
from sources.deribit_protocol import (
    Heartbeat,
    Reply,
    Trades,
    Unknown,
    history_request,
    read,
    subscribe_request,
)

PLAIN = (
    '{"trade_seq":30289442,"trade_id":"48079269","timestamp":1590484512188,"tick_direction":2,'
    '"price":8950,"mark_price":8948.9,"instrument_name":"BTC-PERPETUAL","index_price":8955.880,'
    '"direction":"sell","amount":10.0}'
)
DIGITS = st.text("0123456789", min_size=1, max_size=17)


def notification(*trades: str) -> bytes:
    data = ",".join(trades)
    return (
        '{"jsonrpc":"2.0","method":"subscription","params":{"channel":"trades.BTC-PERPETUAL.raw",'
        f'"data":[{data}]}}}}'
    ).encode()


def with_fields(**fields: Any) -> str:
    return json.dumps(json.loads(PLAIN) | fields)


def with_price(text: str) -> str:
    return PLAIN.replace('"price":8950', f'"price":{text}')


def only(text: str) -> TradeRow:
    message = read(notification(text))
    assert isinstance(message, Trades)
    assert not message.malformed
    (trade,) = message.trades
    return trade


def test_a_trade_as_the_exchange_sends_it() -> None:
    assert only(PLAIN) == TradeRow(
        "BTC-PERPETUAL", 30289442, 1590484512188, "8950", "10.0", "sell", "48079269",
        "8955.880", "8948.9", None, None, None, 2,
    )  # fmt: skip
    option = only(with_fields(iv=55.25, liquidation="MT", block_trade_id="BLOCK-1", contracts=3))
    assert option.iv == "55.25"
    assert option.liquidation == "MT"
    assert option.block_trade_id == "BLOCK-1"


def test_optional_fields_reach_the_message_and_absent_ones_do_not() -> None:
    rows = trade_rows([only(PLAIN), only(with_fields(iv=55.25, liquidation="M"))])
    first, second = map(Trade.FromString, encode_trades(rows).to_pylist())
    assert (first.price.unscaled, first.price.scale) == (8950, 0)
    assert (first.index_price.unscaled, first.index_price.scale) == (8955880, 3)
    assert not first.HasField("iv")
    assert first.liquidation == ""
    assert (second.iv.unscaled, second.iv.scale) == (5525, 2)
    assert second.liquidation == "M"
    assert first.tick_direction == 2
    # What the feed writes, the candles flow reads.
    assert decode_one(first.SerializeToString()).price == 8950 * 10**8
    assert decode_one(first.SerializeToString()).side == 1


@given(DIGITS, st.text("0123456789", max_size=17), st.sampled_from(["", "-"]))
def test_a_figure_is_what_was_sent_to_the_last_digit(whole: str, fraction: str, sign: str) -> None:
    text = sign + str(int(whole)) + (f".{fraction}" if fraction else "")
    exact = Decimal(text)
    unscaled, scale = exact.as_tuple().exponent, len(fraction)
    trades = read(notification(with_price(text)))
    assert isinstance(trades, Trades)
    if abs(int(exact.scaleb(scale).to_integral_value())) >= 2**63 or len(text) > 28:
        return
    assert unscaled == -scale
    (trade,) = trades.trades
    assert Decimal(trade.price) == exact
    message = Trade.FromString(encode_trades(trade_rows([trade]))[0].as_py())
    assert Decimal(message.price.unscaled).scaleb(-message.price.scale) == exact


@given(st.floats(allow_nan=False, allow_infinity=False, min_value=-1e9, max_value=1e9))
def test_a_number_with_an_exponent_is_exact_or_refused(number: float) -> None:
    message = read(notification(with_price(repr(number))))
    assert isinstance(message, Trades)
    for trade in message.trades:
        assert Decimal(trade.price) == Decimal(repr(number))
        unscaled, scale = decimal_parts(trade.price)
        assert abs(unscaled) < 2**63
        assert scale <= 80


def test_a_tenth_is_a_tenth() -> None:
    assert only(with_price("0.1")).price == "0.1"
    assert only(with_price("1e-05")).price == "0.00001"
    assert only(with_price("1.50E+2")).price == "150"


@pytest.mark.parametrize(
    "fields",
    [
        {"price": "8950"},
        {"price": True},
        {"price": None},
        {"price": 2**63},
        {"trade_seq": 0},
        {"trade_seq": 1.5},
        {"trade_seq": "7"},
        {"timestamp": -1},
        {"direction": "short"},
        {"direction": ["buy"]},
        {"instrument_name": "a/b"},
        {"instrument_name": ""},
        {"instrument_name": 7},
        {"amount": {}},
        {"tick_direction": 2**40},
    ],
)
def test_a_malformed_trade_costs_its_neighbours_nothing(fields: dict[str, Any]) -> None:
    message = read(notification(PLAIN, with_fields(**fields), PLAIN))
    assert isinstance(message, Trades)
    assert len(message.trades) == 2
    assert len(message.malformed) == 1


@pytest.mark.parametrize("text", ["1e400", "1e-400", "1e99999999999999999999", "NaN", "Infinity"])
def test_numbers_that_cannot_be_kept(text: str) -> None:
    message = read(notification(with_price(text)))
    assert isinstance(message, Trades)
    assert len(message.malformed) == 1


def test_a_trade_without_a_field() -> None:
    for name in ("price", "amount", "trade_seq", "instrument_name", "direction", "timestamp"):
        fields = json.loads(PLAIN)
        del fields[name]
        message = read(notification(json.dumps(fields), "7", "null"))
        assert isinstance(message, Trades)
        assert len(message.malformed) == 3


def test_replies_and_heartbeats() -> None:
    assert read(b'{"id":7,"result":["a","b"]}') == Reply(7, channels=["a", "b"])
    assert read(b'{"id":7,"result":"ok","usIn":1}') == Reply(7)
    error = read(b'{"id":7,"error":{"code":10028,"message":"too_many_requests"}}')
    assert error == Reply(7, 10028, "too_many_requests")
    page = read(f'{{"id":8,"result":{{"trades":[{PLAIN}],"has_more":true}}}}'.encode())
    assert page == Reply(8, page=Trades([only(PLAIN)], []), has_more=True)
    beat = '{{"method":"heartbeat","params":{{"type":"{}"}}}}'
    assert read(beat.format("test_request").encode()) == Heartbeat(wants_answer=True)
    assert read(beat.format("heartbeat").encode()) == Heartbeat(wants_answer=False)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["id", "method", "params", "result", "error", "trades", "data", "type"])
            | st.text(max_size=3),
            inner,
            max_size=4,
        )
    ),
    max_leaves=10,
)


@given(_JSON.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=50))
def test_nothing_that_arrives_raises(text: bytes) -> None:
    assert isinstance(read(text), Trades | Reply | Heartbeat | Unknown)


def test_deep_nesting_is_an_unknown_message() -> None:
    assert isinstance(read(b"[" * 100_000), Unknown)


def test_requests() -> None:
    assert json.loads(subscribe_request(3, ["trades.A.raw"])) == {
        "jsonrpc": "2.0",
        "id": 3,
        "method": "public/subscribe",
        "params": {"channels": ["trades.A.raw"]},
    }
    params = json.loads(history_request(4, "A", 5, 9, 1000))["params"]
    assert params == {
        "instrument_name": "A", "start_seq": 5, "end_seq": 9, "count": 1000, "sorting": "asc",
    }  # fmt: skip
    assert "end_seq" not in json.loads(history_request(4, "A", 5, None, 1000))["params"]
