"""Our figures beside the exchange's: what is compared with what, by how much it differs.

Pure. Differences are exact decimals, in parts per million of the exchange's value. A change in
percent is a ratio already: its difference counts in ppm of the price it is relative to, after
ours was rounded to the four places that the exchange gives. What only one side has, and a
difference from 0, is infinite.
"""

import heapq
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal
from typing import Literal, NamedTuple

from sources.deribit_chart import Figures, ListedInstrument

__all__ = [
    "INFINITE",
    "TRADES",
    "Check",
    "FieldTally",
    "LeftOut",
    "Meaning",
    "Of",
    "Pair",
    "Tally",
    "candle_checks",
    "day_checks",
    "meaning_of",
    "ppm_between",
]

Of = Literal["candle", "24h"]

INFINITE = Decimal("Infinity")
TRADES = "trades"
"""The field that says whether there were any; its values are 1 and 0."""

_EXACT = Context(prec=200)  # sums of ours have up to 128 bits and 16 places
_MILLION = Decimal(1_000_000)
_CHANGE = "price_change"
_CHANGE_STEP = Decimal("0.0001")
_PPM_PER_PERCENT = Decimal(10_000)


class Pair(NamedTuple):
    """A field of the report, and its name here and there."""

    field: str
    ours: str
    theirs: str


class LeftOut(NamedTuple):
    """A field that is not compared, and why."""

    of: Of
    field: str
    reason: str


class Meaning(NamedTuple):
    """What of an instrument's figures can be compared."""

    candle: Sequence[Pair]
    day: Sequence[Pair]
    left_out: Sequence[LeftOut]


_PRICES = tuple(Pair(name, name, name) for name in ("open", "high", "low", "close"))
_DAY_PRICES = (
    *(Pair(name, name, name) for name in ("high", "low", "last")),
    Pair(_CHANGE, "price_change_percent", "price_change"),
)
_BASE = Pair("volume", "volume", "volume")

_DOLLARS_ONLY = "amounts of inverse futures are US dollars; the exchange gives the base currency"
_OTHER_RATE = "the exchange gives US dollars, at a rate of its own"
_NO_COST = "the exchange does not say at which rate it values options"


def meaning_of(instrument: ListedInstrument) -> Meaning:
    """What a trade's amount is, and so which of our sums is which of the exchange's.

    An inverse future is traded in US dollars: the sum of amounts is the exchange's `cost` and
    `volume_usd`, and its volume, the sum of amount / price, cannot be had from ours. Everything
    else is traded in its base currency.
    """
    is_option = instrument.kind.startswith("option")
    if instrument.is_reversed and not is_option:
        return Meaning(
            (*_PRICES, Pair("quote_volume", "volume", "cost")),
            (*_DAY_PRICES, Pair("quote_volume", "volume", "volume_usd")),
            (
                LeftOut("candle", "volume", _DOLLARS_ONLY),
                LeftOut("24h", "volume", _DOLLARS_ONLY),
            ),
        )
    day = (*_DAY_PRICES, _BASE)
    day_left_out = LeftOut("24h", "quote_volume", _OTHER_RATE)
    if is_option:
        left_out = (LeftOut("candle", "quote_volume", _NO_COST), day_left_out)
        return Meaning((*_PRICES, _BASE), day, left_out)
    candle = (*_PRICES, _BASE, Pair("quote_volume", "quote_volume", "cost"))
    return Meaning(candle, day, (day_left_out,))


class Check(NamedTuple):
    """One value of ours beside one of the exchange's.

    Attributes:
        of: a candle or a window of 24 hours.
        field: name in the report; `TRADES` for whether there were any.
        instrument: name.
        time_ms: epoch ms: a candle's start, the ticker's time.
        ours: None where there is none.
        theirs: the same.
        ppm: difference; 0 for equal values.
        is_complete: whether no trade is known to be missing here.
    """

    of: Of
    field: str
    instrument: str
    time_ms: int
    ours: Decimal | None
    theirs: Decimal | None
    ppm: Decimal
    is_complete: bool


def ppm_between(field: str, ours: Decimal | None, theirs: Decimal | None) -> Decimal:
    """Difference in ppm; see the module."""
    if ours is None or theirs is None:
        return Decimal(0) if ours is theirs else INFINITE
    if field == _CHANGE:
        rounded = ours.quantize(_CHANGE_STEP, context=_EXACT)
        return _EXACT.multiply(_EXACT.abs(_EXACT.subtract(rounded, theirs)), _PPM_PER_PERCENT)
    if ours == theirs:
        return Decimal(0)
    if theirs == 0:
        return INFINITE
    difference = _EXACT.abs(_EXACT.subtract(ours, theirs))
    return _EXACT.divide(_EXACT.multiply(difference, _MILLION), abs(theirs))


def candle_checks(
    instrument: str, ours: Sequence[Figures], theirs: Sequence[Figures], pairs: Sequence[Pair]
) -> Iterator[Check]:
    """Compare candles of the same span, by the time they open at.

    Where one side has no trades, that alone is told. A candle without trades is the same as no
    candle; if both have one, as when gaps are filled, their figures are compared.
    """
    here = {candle.time_ms: candle for candle in ours}
    there = {candle.time_ms: candle for candle in theirs}
    for time_ms in sorted(here.keys() | there.keys()):
        own, other = here.get(time_ms), there.get(time_ms)
        yield from _checks("candle", instrument, time_ms, own, other, pairs)


def day_checks(
    instrument: str, ours: Figures | None, theirs: Figures, pairs: Sequence[Pair]
) -> Iterator[Check]:
    """Compare a window of 24 hours with the ticker; an empty one has no figures to compare."""
    compared = pairs if theirs.is_traded else ()
    return _checks("24h", instrument, theirs.time_ms, ours, theirs, compared)


def _checks(
    of: Of,
    instrument: str,
    time_ms: int,
    ours: Figures | None,
    theirs: Figures | None,
    pairs: Sequence[Pair],
) -> Iterator[Check]:
    is_complete = ours is None or ours.is_complete
    here = ours is not None and ours.is_traded
    there = theirs is not None and theirs.is_traded
    if here or there:
        ppm = Decimal(0) if here == there else INFINITE
        flags = Decimal(here), Decimal(there)
        yield Check(of, TRADES, instrument, time_ms, *flags, ppm, is_complete)
    if ours is None or theirs is None or here != there:
        return
    for field, own_name, other_name in pairs:
        own, other = ours.figures[own_name], theirs.figures[other_name]
        ppm = ppm_between(field, own, other)
        yield Check(of, field, instrument, time_ms, own, other, ppm, is_complete)


@dataclass(slots=True)
class FieldTally:
    """What came of one field.

    Attributes:
        compared: values.
        different: those beyond the tolerance.
        largest: the largest difference, within the tolerance or not; None without any.
    """

    compared: int = 0
    different: int = 0
    largest: Check | None = None


class Tally:
    """Counts checks; memory does not depend on how many there are.

    Args:
        tolerance_ppm: up to which values count as equal.
        most: how many of the worst mismatches to keep.

    Attributes:
        fields: by what and field, in the order they came first.
        incomplete: candles of ours that miss a trade.
    """

    def __init__(self, tolerance_ppm: Decimal, most: int) -> None:
        self.fields: dict[tuple[Of, str], FieldTally] = {}
        self.incomplete = 0
        self._tolerance_ppm = tolerance_ppm
        self._most = most
        self._order = itertools.count()
        self._worst: list[tuple[Decimal, int, Check]] = []

    def add(self, check: Check) -> None:
        """Count one."""
        tally = self.fields.setdefault((check.of, check.field), FieldTally())
        tally.compared += 1
        self.incomplete += check.field == TRADES and not check.is_complete
        if check.ppm and (tally.largest is None or check.ppm > tally.largest.ppm):
            tally.largest = check
        if check.ppm <= self._tolerance_ppm:
            return
        tally.different += 1
        entry = (check.ppm, -next(self._order), check)  # of equal ones the earliest stays
        if len(self._worst) < self._most:
            heapq.heappush(self._worst, entry)
        elif self._most:
            heapq.heappushpop(self._worst, entry)

    @property
    def different(self) -> int:
        """Mismatches."""
        return sum(tally.different for tally in self.fields.values())

    @property
    def worst(self) -> list[Check]:
        """The largest mismatches, the largest first."""
        return [check for _, _, check in sorted(self._worst, reverse=True)]
