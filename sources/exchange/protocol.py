"""The server's side of the protocol: requests of one client and what they are answered.

Methods, fields, limits and error codes are those of the real exchange (docs.deribit.com):
credits that refill, of which a request takes some; 10028 when they are used up, after which
the session ends. Pure: text in, text out.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sources.exchange.chart import RESOLUTIONS_MS, chart_json, ticker_json
from sources.exchange.faults import Faults
from sources.exchange.market import ExchangeMarket, Listed

__all__ = ["Answer", "Client", "Limits"]

INTERVALS = ("100ms", "agg2", "raw")
_PAGE, _DEFAULT_PAGE = 1_000, 10
_CHART_TRADES = 20_000_000  # seconds of computing; the real exchange has no such limit
_NO_METHOD, _BAD_PARAMS, _BAD_JSON = -32601, -32602, -32700
_NO_INSTRUMENT, _TOO_MANY, _RAW_NEEDS_LOGIN, _BAD_LOGIN = 13020, 10028, 13778, 13004
_LOGIN_LASTS_S = 900
_LATEST_MS = 2**53
_CREDITS, _REFILL_PER_S = 50_000, 10_000


@dataclass(frozen=True, slots=True)
class Limits:
    """What the exchange grants a client.

    Attributes:
        request_credits: a request takes; 50,000 are there at most, 10,000 a second come in.
        subscribe_credits: a subscribe request takes.
        least_heartbeat_s: shortest heartbeat interval.
        credentials: the only id and secret that may log in.
    """

    request_credits: int = 500
    subscribe_credits: int = 3_000
    least_heartbeat_s: float = 10.0
    credentials: tuple[str, str] = ("simulated", "simulated")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request is answered.

    Attributes:
        text: the reply.
        late_s: send it so much later.
        ends: end the session after it.
    """

    text: str
    late_s: float = 0.0
    ends: bool = False


class _Json(str):
    """Text that is JSON already."""

    __slots__ = ()


class _RefusedError(Exception):
    def __init__(self, code: int, message: str, reason: str = "") -> None:
        super().__init__(code, message, reason)


class Client:
    """A client as the server knows it.

    Args:
        market: what is traded.
        now_ms: the exchange's clock, epoch ms.
        clock_s: a monotonic clock, for credits.
        limits: of this client.
        faults: that may befall its requests.

    Attributes:
        channels: subscribed to.
        heartbeat_s: interval asked for; None without.
    """

    def __init__(
        self,
        market: ExchangeMarket,
        now_ms: Callable[[], int],
        clock_s: Callable[[], float],
        limits: Limits,
        faults: Faults,
    ) -> None:
        self._market = market
        self._now_ms = now_ms
        self._clock_s = clock_s
        self._limits = limits
        self._faults = faults
        self._is_logged_in = False
        self._credits, self._credits_at_s = float(_CREDITS), clock_s()
        self.channels: set[str] = set()
        self.heartbeat_s: float | None = None
        self._methods: dict[str, Callable[[dict[str, Any]], Any]] = {
            "public/auth": self._auth,
            "public/get_instrument": self._get_instrument,
            "public/get_instruments": self._get_instruments,
            "public/get_last_trades_by_instrument": self._history,
            "public/get_time": lambda _: now_ms(),
            "public/get_tradingview_chart_data": self._chart,
            "public/set_heartbeat": self._set_heartbeat,
            "public/subscribe": self._subscribe,
            "public/test": lambda _: {"version": "1.2.26"},
            "public/ticker": self._ticker,
            "public/unsubscribe": self._unsubscribe,
        }
        listed = market.listed
        groups = {f"{one.kind}.{name}" for one in listed for name in (one.currency, "any")}
        self._offered = {
            f"trades.{what}.{interval}" for what in groups | set(market.index)
            for interval in INTERVALS
        }  # fmt: skip

    def answer(self, request: bytes) -> Answer:
        """What a request is answered; any bytes are a request."""
        number: object = None
        try:
            body = json.loads(request)
            number = body.get("id")
            result = self._call(str(body.get("method")), body.get("params") or {})
        except _RefusedError as error:
            code, message, reason = error.args
            return self._refusal(number, code, message, reason)
        except (KeyError, TypeError) as error:
            return self._refusal(number, _BAD_PARAMS, "Invalid params", str(error))
        except (ValueError, AttributeError, RecursionError):
            return self._refusal(None, _BAD_JSON, "Parse error", "")
        content = result if isinstance(result, _Json) else json.dumps(result)
        return Answer(self._reply(number, "result", content), self._late_s(body))

    def _call(self, method: str, params: dict[str, Any]) -> object:
        if method not in self._methods:
            raise _RefusedError(_NO_METHOD, "Method not found", method)
        is_subscribe = method == "public/subscribe"
        limits = self._limits
        self._pay(limits.subscribe_credits if is_subscribe else limits.request_credits)
        return self._methods[method](params)

    def _late_s(self, body: dict[str, Any]) -> float:
        is_history = body.get("method") == "public/get_last_trades_by_instrument"
        late = is_history and self._faults.takes("history_late")
        return self._faults.late_s if late else 0.0

    def _pay(self, price: int) -> None:
        now_s = self._clock_s()
        gained = (now_s - self._credits_at_s) * _REFILL_PER_S
        self._credits = min(_CREDITS, self._credits + gained)
        self._credits_at_s = now_s
        if self._credits < price:
            raise _RefusedError(_TOO_MANY, "too_many_requests")
        self._credits -= price

    def _refusal(self, number: object, code: int, message: str, reason: str) -> Answer:
        error = {"code": code, "message": message, "data": {"reason": reason}}
        return Answer(self._reply(number, "error", json.dumps(error)), ends=code == _TOO_MANY)

    def _reply(self, number: object, what: str, content: str) -> str:
        us = self._now_ms() * 1000
        return (
            f'{{"jsonrpc":"2.0","id":{json.dumps(number)},"{what}":{content},'
            f'"usIn":{us},"usOut":{us},"usDiff":0,"testnet":true}}'
        )

    def _auth(self, params: dict[str, Any]) -> dict[str, Any]:
        if (params["client_id"], params["client_secret"]) != self._limits.credentials:
            raise _RefusedError(_BAD_LOGIN, "invalid_credentials")
        self._is_logged_in = True
        return {"access_token": "simulated", "expires_in": _LOGIN_LASTS_S, "token_type": "bearer"}

    def _set_heartbeat(self, params: dict[str, Any]) -> str:
        interval_s = float(params["interval"])
        if interval_s < self._limits.least_heartbeat_s:
            raise _RefusedError(_BAD_PARAMS, "Invalid params", "interval is too short")
        self.heartbeat_s = interval_s
        return "ok"

    def _subscribe(self, params: dict[str, Any]) -> list[str]:
        known = [name for name in params["channels"] if name in self._offered]
        if not self._is_logged_in and any(name.endswith(".raw") for name in known):
            raise _RefusedError(
                _RAW_NEEDS_LOGIN, "raw_subscriptions_not_available_for_unauthorized"
            )
        self.channels.update(known)
        return known

    def _unsubscribe(self, params: dict[str, Any]) -> list[str]:
        names = [name for name in params["channels"] if name in self.channels]
        self.channels.difference_update(names)
        return names

    def _get_instrument(self, params: dict[str, Any]) -> dict[str, object]:
        return _described(self._market.listed[self._index(params)])

    def _get_instruments(self, params: dict[str, Any]) -> list[dict[str, object]]:
        return [
            _described(one)
            for one in self._market.listed
            if params.get("currency", "any") in (one.currency, "any")
            and params.get("kind", one.kind) == one.kind
        ]

    def _history(self, params: dict[str, Any]) -> _Json:
        if self._faults.takes("too_many_requests"):
            raise _RefusedError(_TOO_MANY, "too_many_requests")
        if self._faults.takes("history_error"):
            raise _RefusedError(11_051, "system_maintenance")
        instrument = self._index(params)
        count = int(params.get("count", _DEFAULT_PAGE))
        if not 1 <= count <= _PAGE:
            raise _RefusedError(_BAD_PARAMS, "Invalid params", "count must be 1 to 1000")
        newest = self._market.count(instrument, self._now_ms())
        first = max(1, int(params.get("start_seq", 1)))
        last = min(newest, int(params.get("end_seq", newest)))
        if self._faults.takes("history_empty"):
            last = first - 1
        is_upwards = params.get("sorting") == "asc"
        if is_upwards:
            page = first, min(last, first + count - 1)
        else:
            page = max(first, last - count + 1), last
        trades = self._market.history(instrument, *page) if last >= first else []
        has_more = len(trades) < last - first + 1
        ordered = ",".join(trades if is_upwards else trades[::-1])
        return _Json(f'{{"trades":[{ordered}],"has_more":{json.dumps(has_more)}}}')

    def _index(self, params: dict[str, Any]) -> int:
        instrument = self._market.index.get(params["instrument_name"])
        if instrument is None:
            raise _RefusedError(_NO_INSTRUMENT, "not_found", str(params["instrument_name"]))
        return instrument

    def _chart(self, params: dict[str, Any]) -> _Json:
        instrument, now_ms = self._index(params), self._now_ms()
        length_ms = RESOLUTIONS_MS.get(str(params["resolution"]))
        if length_ms is None:
            raise _RefusedError(_BAD_PARAMS, "Invalid params", "unknown resolution")
        start_ms, end_ms = (_time_ms(params[name]) for name in ("start_timestamp", "end_timestamp"))
        if start_ms > end_ms:
            raise _RefusedError(_BAD_PARAMS, "Invalid params", "start_timestamp is the later one")
        count = self._market.count
        if count(instrument, min(end_ms, now_ms)) - count(instrument, start_ms) > _CHART_TRADES:
            raise _RefusedError(_BAD_PARAMS, "Invalid params", "the span holds too many trades")
        return _Json(chart_json(self._market, instrument, start_ms, end_ms, length_ms, now_ms))

    def _ticker(self, params: dict[str, Any]) -> _Json:
        return _Json(ticker_json(self._market, self._index(params), self._now_ms()))


def _time_ms(value: object) -> int:
    if type(value) is not int or not 0 <= value < _LATEST_MS:
        raise _RefusedError(_BAD_PARAMS, "Invalid params", f"{value!r:.40} is no timestamp")
    return value


def _described(listed: Listed) -> dict[str, object]:
    """An instrument as `public/get_instrument` has it."""
    quote = "USD" if listed.is_inverse else "USDC" if listed.kind == "future" else listed.currency
    return {
        "instrument_name": listed.name,
        "kind": listed.kind,
        "instrument_type": listed.instrument_type,
        "base_currency": listed.currency,
        "quote_currency": quote,
        "contract_size": float(listed.contract_size),
        "is_active": True,
    }
