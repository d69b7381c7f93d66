"""What the exchange itself says of an instrument: its kind, candles, and the last 24 hours.

Requests and fields as in the exchange's API documentation, version 2 (docs.deribit.com):
`public/get_instrument`, `public/get_tradingview_chart_data`, `public/ticker`. Contract: figures
are the numbers that were sent, to the last digit; an answer that cannot be read is a
`FlowError` and never half an answer.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from typing import Any, NamedTuple

from schemas.errors import FlowError
from sources.deribit_calls import Calls, RefusedError

__all__ = [
    "PAGE",
    "RESOLUTIONS",
    "Figures",
    "ListedInstrument",
    "candles",
    "clock_ms",
    "listed",
    "ticker",
]

RESOLUTIONS = {"1m": "1", "5m": "5", "1h": "60", "1d": "1D"}
"""Our intervals that the exchange has too, and their names there; it has none of 1 s."""

PAGE = 1_000
"""Candles to ask for at a time; the exchange cuts answers off at some thousand."""

_CANDLE = ("open", "high", "low", "close", "volume", "cost")
_LARGEST_EXPONENT = 64


class Figures(NamedTuple):
    """One candle, or one window of 24 hours.

    Attributes:
        time_ms: epoch ms: a candle's start, a window's end.
        figures: by name; None where there is none.
        is_traded: whether it holds trades.
        is_complete: whether no trade is known to be missing.
    """

    time_ms: int
    figures: Mapping[str, Decimal | None]
    is_traded: bool
    is_complete: bool = True


class ListedInstrument(NamedTuple):
    """What an instrument's amounts depend on.

    Attributes:
        kind: future, option, spot, future_combo or option_combo.
        is_reversed: whether it is settled in its base currency.
    """

    kind: str
    is_reversed: bool


def clock_ms(calls: Calls) -> int:
    """The exchange's clock, epoch ms.

    Raises:
        FlowError: It does not say.
    """
    with _reading("public/get_time"):
        return _whole(calls.call("public/get_time"))


def listed(calls: Calls, instrument: str) -> ListedInstrument:
    """An instrument as it is listed.

    Raises:
        FlowError: The exchange does not know it, or does not answer.
    """
    with _reading("public/get_instrument", instrument):
        found = calls.call("public/get_instrument", instrument_name=instrument)
        kind, type_ = found["kind"], found.get("instrument_type")  # spot may have none
        if not isinstance(kind, str):
            raise TypeError(f"kind {kind!r}")
        return ListedInstrument(kind, type_ == "reversed")


def candles(
    calls: Calls, instrument: str, interval: str, start_ms: int, end_ms: int, length_ms: int
) -> list[Figures]:
    """Candles that open from `start_ms` on and before `end_ms`, in order.

    `volume` is in base currency, `cost` in quote currency. Where nothing was traded there is a
    candle at the close before, with a volume of 0, or none.

    Args:
        calls: requests.
        instrument: name.
        interval: one of `RESOLUTIONS`.
        start_ms: epoch ms, a multiple of `length_ms`.
        end_ms: the same, at most `PAGE` candles later.
        length_ms: of a candle.

    Raises:
        FlowError: The exchange refuses, does not answer, or what it answers makes no sense.
    """
    with _reading("public/get_tradingview_chart_data", instrument):
        chart = calls.call(
            "public/get_tradingview_chart_data",
            instrument_name=instrument,
            # The exchange does not promise a candle that opens at the start asked for.
            start_timestamp=max(start_ms - length_ms, 0),
            end_timestamp=end_ms - 1,
            resolution=RESOLUTIONS[interval],
        )
        if chart["status"] == "no_data":
            return []
        found: dict[int, Figures] = {}
        rows = zip(chart["ticks"], *(chart[name] for name in _CANDLE), strict=True)
        for tick, *figures in rows:
            time_ms = _whole(tick)
            if time_ms % length_ms:
                raise ValueError(f"a candle of {interval} opens at {time_ms}")
            if start_ms <= time_ms < end_ms:
                candle = {
                    name: _figure(value) for name, value in zip(_CANDLE, figures, strict=True)
                }
                is_traded = candle["volume"] > 0 or candle["cost"] > 0
                found[time_ms] = Figures(time_ms, candle, is_traded)
        return [found[time_ms] for time_ms in sorted(found)]


def ticker(calls: Calls, instrument: str) -> Figures:
    """The 24 hours up to the ticker's timestamp: high, low, last, volume, volume_usd, price_change.

    `price_change` is in percent; `volume` is in base currency, `volume_usd` in US dollars.

    Raises:
        FlowError: The exchange refuses, does not answer, or what it answers makes no sense.
    """
    with _reading("public/ticker", instrument):
        found = calls.call("public/ticker", instrument_name=instrument)
        stats = found["stats"]
        figures = {
            name: None if value is None else _figure(value)
            for name, value in (
                ("last", found["last_price"]),
                ("volume_usd", stats.get("volume_usd")),
                ("price_change", stats.get("price_change")),
                *((name, stats[name]) for name in ("high", "low", "volume")),
            )
        }
        return Figures(_whole(found["timestamp"]), figures, bool(figures["volume"]))


@contextmanager
def _reading(method: str, instrument: str = "") -> Iterator[None]:
    """Turn what goes wrong with an answer into a `FlowError`."""
    asked = f"{method} for {instrument}" if instrument else method
    try:
        yield
    except RefusedError as error:
        raise FlowError(
            f"The exchange refuses {asked} ({error})",
            "See that the instrument is spelled as the exchange lists it and has not expired.",
        ) from error
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise FlowError(
            f"What the exchange answers to {asked} cannot be read ({type(error).__name__} {error})",
            "See that the endpoint is Deribit's API version 2.",
        ) from error


def _whole(value: Any) -> int:  # noqa: ANN401  # whatever JSON holds
    if type(value) is not int or value < 0:
        raise ValueError(f"{value!r:.40} is no time")
    return value


def _figure(value: Any) -> Decimal:  # noqa: ANN401  # whatever JSON holds
    if type(value) is not int and type(value) is not Decimal:
        raise TypeError(f"{value!r:.40} is no number")
    figure = Decimal(value)
    if abs(figure.adjusted()) > _LARGEST_EXPONENT:
        raise ValueError(f"{value!r:.40} is no figure of a market")
    return figure
