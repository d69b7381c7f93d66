"""The instruments of the simulated market: names, base prices, and how they are quoted."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from math import floor, log10

__all__ = ["MAX_INSTRUMENTS", "Instrument", "list_instruments"]

MAX_INSTRUMENTS = 10_000

_LISTED = {
    "BTC": 64_250.0,
    "ETH": 3_140.0,
    "SOL": 152.0,
    "XRP": 0.62,
    "DOGE": 0.158,
    "BNB": 585.0,
    "ADA": 0.447,
    "AVAX": 36.4,
    "LINK": 14.7,
    "TRX": 0.121,
    "DOT": 6.91,
    "LTC": 83.6,
    "BCH": 462.0,
    "UNI": 7.83,
    "ATOM": 8.56,
    "XLM": 0.109,
    "NEAR": 6.72,
    "APT": 9.18,
    "FIL": 5.87,
    "ETC": 26.3,
}

_MEDIAN_NOTIONAL = 300.0
_PRICE_DIGITS, _QUANTITY_DIGITS, _MAX_SCALE = 5, 3, 8


@dataclass(frozen=True, slots=True)
class Instrument:
    """One instrument of the market.

    Attributes:
        name: such as BTC-USD; the key of its records.
        price: base price in ticks, integer of 10**-price_scale.
        price_scale: decimal places of a price.
        quantity: median quantity, integer of 10**-quantity_scale.
        quantity_scale: decimal places of a quantity.
    """

    name: str
    price: int
    price_scale: int
    quantity: int
    quantity_scale: int


def _instrument(name: str, price: float) -> Instrument:
    quantity = _MEDIAN_NOTIONAL / price
    price_scale = min(max(_PRICE_DIGITS - floor(log10(price)), 0), _MAX_SCALE)
    quantity_scale = min(max(_QUANTITY_DIGITS - floor(log10(quantity)), 0), _MAX_SCALE)
    return Instrument(
        name,
        round(price * 10**price_scale),
        price_scale,
        round(quantity * 10**quantity_scale),
        quantity_scale,
    )


def list_instruments(count: int) -> Sequence[Instrument]:
    """The first `count` instruments, most popular first; the same for every seed."""
    listed = [(f"{name}-USD", price) for name, price in _LISTED.items()]
    for number in range(len(listed) + 1, count + 1):
        name = f"SIM{number:05d}-USD"
        spread = int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "little")
        exponent = spread % 500 / 100 - 2  # 0.01 to 1,000
        listed.append((name, float(f"{10**exponent:.4g}")))
    return [_instrument(name, price) for name, price in listed[:count]]
