"""The exchange's messages: JSON-RPC 2.0 requests as text, and what comes back as values.

Contract: `read` never raises, whatever arrives. Numbers never become binary floats: a
fraction is kept as the text it was sent as. Method and field names are those of the
exchange's API documentation, version 2 (docs.deribit.com).
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from schemas.trade_rows import SIDES, TradeRow, decimal_parts

__all__ = [
    "NOT_FOUND",
    "TOO_MANY_REQUESTS",
    "WRONG_CREDENTIALS",
    "Heartbeat",
    "Reply",
    "Trades",
    "Unknown",
    "alive_request",
    "auth_request",
    "channel_name",
    "heartbeat_request",
    "history_request",
    "read",
    "request",
    "subscribe_request",
]

TOO_MANY_REQUESTS = 10028
"""The error after which the exchange ends the session."""
NOT_FOUND = frozenset({10020, 13020})
"""Errors that say that there is no such instrument (any more)."""
WRONG_CREDENTIALS = frozenset({13004, 13009})

_INSTRUMENT = re.compile(r"[A-Za-z0-9_.-]{1,100}")
_SAFE_DIGITS = 18  # so many always fit an int64
_LONGEST_SCALE = 64
_INT64 = 2**63
_INT32 = 2**31
_SHOWN_BYTES = 200


class _Number(str):
    """A number with a fraction or an exponent, as it was sent; a JSON text is a plain `str`."""

    __slots__ = ()


_decode = json.JSONDecoder(parse_float=_Number).decode


@dataclass(frozen=True, slots=True)
class Trades:
    """Trades of a notification or of a page of history, in the order they came.

    Attributes:
        trades: the good ones.
        malformed: what was wrong with the others, one text each.
    """

    trades: Sequence[TradeRow]
    malformed: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Reply:
    """What answers a request.

    Attributes:
        request_id: of the request.
        code: 0, or the error's.
        text: the error's message; empty without.
        channels: of a subscribe request.
        page: of a history request.
        has_more: whether the page is not the last.
    """

    request_id: int
    code: int = 0
    text: str = ""
    channels: Sequence[str] = ()
    page: Trades | None = None
    has_more: bool = False


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """A sign of life; with `wants_answer` the server closes unless it is answered at once."""

    wants_answer: bool


@dataclass(frozen=True, slots=True)
class Unknown:
    """Anything else, shortened for a log line."""

    shown: str


def read(text: bytes) -> Trades | Reply | Heartbeat | Unknown:
    """What a text message says."""
    try:
        known = _message(_decode(text.decode()))
    except (ValueError, RecursionError):  # no JSON, or JSON that nobody means well by
        known = None
    return known or Unknown(text[:_SHOWN_BYTES].decode(errors="replace"))


def _message(message: Any) -> Trades | Reply | Heartbeat | None:  # noqa: ANN401
    match message:
        case {"method": "subscription", "params": {"channel": str(name), "data": list(data)}}:
            return _trades(data) if name.startswith("trades.") else None
        case {"method": "heartbeat", "params": {"type": str(kind)}}:
            return Heartbeat(kind == "test_request")
        case {"id": int(number), "error": {"code": int(code), **rest}}:
            return Reply(number, code, f"{rest.get('message', '')} {rest.get('data', '')}".strip())
        case {"id": int(number), "result": result}:
            return _reply(number, result)
    return None


def _reply(number: int, result: Any) -> Reply:  # noqa: ANN401
    match result:
        case {"trades": list(data), **rest}:
            return Reply(number, page=_trades(data), has_more=rest.get("has_more") is True)
        case list(channels):
            return Reply(number, channels=[str(channel) for channel in channels])
    return Reply(number)


def _trades(data: Sequence[Any]) -> Trades:
    trades: list[TradeRow] = []
    malformed: list[str] = []
    for one in data:
        try:
            trades.append(_trade(one))
        except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
            malformed.append(f"{type(error).__name__} {error} in {one!r:.{_SHOWN_BYTES}}")
    return Trades(trades, malformed)


def _trade(one: Mapping[str, Any]) -> TradeRow:
    """A trade as the exchange sends it.

    Raises:
        KeyError: A field is missing.
        ValueError: One holds what it cannot hold.
    """
    get = one.get
    index, mark, iv = get("index_price"), get("mark_price"), get("iv")
    liquidation, block, tick = get("liquidation"), get("block_trade_id"), get("tick_direction")
    side, instrument = one["direction"], one["instrument_name"]
    if side not in SIDES:
        raise ValueError(f"direction {side!r}")
    if _INSTRUMENT.fullmatch(instrument) is None:
        raise ValueError(f"instrument {instrument!r}")
    return TradeRow(
        instrument,
        _whole(one["trade_seq"], 1, _INT64),
        _whole(one["timestamp"], 1, _INT64 // 1_000_000),
        _figure(one["price"]),
        _figure(one["amount"]),
        side,
        str(one["trade_id"]),
        None if index is None else _figure(index),
        None if mark is None else _figure(mark),
        None if iv is None else _figure(iv),
        None if liquidation is None else str(liquidation),
        None if block is None else str(block),
        None if tick is None else _whole(tick, 0, _INT32),
    )


def _whole(value: Any, low: int, end: int) -> int:  # noqa: ANN401  # whatever JSON holds
    if type(value) is not int or not low <= value < end:
        raise ValueError(f"{value!r} is no whole number from {low}")
    return value


def _figure(value: Any) -> str:  # noqa: ANN401  # whatever JSON holds
    """Plain decimal text of a JSON number, exactly."""
    kind = type(value)
    if kind is int:
        text = str(value) if abs(value) < _INT64 else ""
    elif kind is _Number:
        text = str(value)
        if "e" in text or "E" in text:
            number = Decimal(text)
            text = f"{number:f}" if abs(number.adjusted()) < _LONGEST_SCALE else ""
    else:
        text = ""
    if len(text) > _SAFE_DIGITS:
        unscaled, scale = decimal_parts(text)
        if abs(unscaled) >= _INT64 or scale > _LONGEST_SCALE:
            text = ""
    if not text:
        raise ValueError(f"{value!r:.40} is no number that can be kept exactly")
    return text


def channel_name(what: str, interval: str) -> str:
    """Channel of an instrument, or of `kind.currency`, at an interval."""
    return f"trades.{what}.{interval}"


def request(request_id: int, method: str, **params: object) -> str:
    """Any method of the exchange."""
    body = {"jsonrpc": "2.0", "id": request_id, "method": method, "params": params}
    return json.dumps(body, separators=(",", ":"))


def auth_request(request_id: int, client_id: str, client_secret: str) -> str:
    """Log this connection in."""
    return request(
        request_id,
        "public/auth",
        grant_type="client_credentials",
        client_id=client_id,
        client_secret=client_secret,
    )


def heartbeat_request(request_id: int, interval_s: float) -> str:
    """Ask for heartbeats; the exchange wants whole seconds from 10."""
    whole = int(interval_s) if interval_s == int(interval_s) else interval_s
    return request(request_id, "public/set_heartbeat", interval=whole)


def alive_request(request_id: int) -> str:
    """Answer a heartbeat that wants an answer."""
    return request(request_id, "public/test")


def subscribe_request(request_id: int, channels: Sequence[str]) -> str:
    """Subscribe to channels; the reply lists those that exist."""
    return request(request_id, "public/subscribe", channels=list(channels))


def history_request(
    request_id: int, instrument: str, first: int, last: int | None, count: int
) -> str:
    """A page of an instrument's trades from sequence `first` to `last`, upwards."""
    end = {} if last is None else {"end_seq": last}
    return request(
        request_id,
        "public/get_last_trades_by_instrument",
        instrument_name=instrument,
        start_seq=first,
        count=count,
        sorting="asc",
        **end,
    )
