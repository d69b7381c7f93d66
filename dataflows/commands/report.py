"""The outcome of a reconciliation, for people and as JSON.

Figures in JSON are decimal text, times ISO-8601 in UTC, differences numbers of six digits; a
difference that is no ratio, such as that of what one side does not have, is null there.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple

from dataflows.commands.comparison import INFINITE, TRADES, Check, LeftOut, Of, Tally
from dataflows.commands.stored import time_of

__all__ = ["DayLag", "Outcome", "as_json", "as_text"]

_TITLES: tuple[tuple[Of, str], ...] = (("candle", "candles"), ("24h", "24 hours"))


class DayLag(NamedTuple):
    """How far apart two windows of 24 hours are.

    Attributes:
        instrument: name.
        exchange_ms: the ticker's time.
        ours_ms: when ours ends; None without one.
    """

    instrument: str
    exchange_ms: int
    ours_ms: int | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was compared, and what came of it.

    Attributes:
        exchange: the endpoint.
        instruments: names.
        interval: of the candles.
        start_ms: epoch ms where the first candle opens.
        end_ms: where the last one closes.
        tolerance_ppm: up to which values count as equal.
        tally: of all checks.
        days: of the windows of 24 hours that were compared.
        left_out: instruments by what is not compared of them.
        notes: what else is to be known.
    """

    exchange: str
    instruments: Sequence[str]
    interval: str
    start_ms: int
    end_ms: int
    tolerance_ppm: Decimal
    tally: Tally
    days: Sequence[DayLag]
    left_out: dict[LeftOut, list[str]]
    notes: Sequence[str]


def as_json(outcome: Outcome) -> str:
    """One JSON object."""
    tally = outcome.tally
    return json.dumps(
        {
            "equal": tally.different == 0,
            "exchange": outcome.exchange,
            "instruments": list(outcome.instruments),
            "interval": outcome.interval,
            "from": _time(outcome.start_ms),
            "to": _time(outcome.end_ms),
            "tolerance_ppm": f"{outcome.tolerance_ppm:f}",
            "fields": [
                {
                    "of": of,
                    "field": field,
                    "compared": one.compared,
                    "different": one.different,
                    "largest": None if one.largest is None else _check_json(one.largest),
                }
                for (of, field), one in tally.fields.items()
            ],
            "worst": [_check_json(check) for check in tally.worst],
            "incomplete_candles": tally.incomplete,
            "windows": [
                {
                    "instrument": day.instrument,
                    "exchange_time": _time(day.exchange_ms),
                    "our_time": None if day.ours_ms is None else _time(day.ours_ms),
                    "behind_ms": None if day.ours_ms is None else day.exchange_ms - day.ours_ms,
                }
                for day in outcome.days
            ],
            "not_compared": [
                {**one._asdict(), "instruments": names} for one, names in outcome.left_out.items()
            ],
            "notes": list(outcome.notes),
        },
        indent=2,
    )


def _check_json(check: Check) -> dict[str, object]:
    def figure(value: Decimal | None) -> str | None:
        return None if value is None else f"{value:f}"

    return {
        "of": check.of,
        "field": check.field,
        "instrument": check.instrument,
        "time": _time(check.time_ms),
        "ours": figure(check.ours),
        "exchange": figure(check.theirs),
        "ppm": None if check.ppm == INFINITE else float(f"{check.ppm:.6g}"),
        "complete": check.is_complete,
    }


def as_text(outcome: Outcome) -> str:
    """Lines for a terminal."""
    return "\n".join(_lines(outcome)) + "\n"


def _lines(outcome: Outcome) -> Iterator[str]:
    tally = outcome.tally
    yield (
        f"{outcome.interval} candles from {_time(outcome.start_ms)} to {_time(outcome.end_ms)}, "
        f"exchange {outcome.exchange}, tolerance {outcome.tolerance_ppm:f} ppm"
    )
    for of, title in _TITLES:
        fields = [(field, one) for (kind, field), one in tally.fields.items() if kind == of]
        if not fields:
            continue
        yield ""
        yield f"{title:<14} {'compared':>10} {'different':>10}  largest difference"
        for field, one in fields:
            largest = "" if one.largest is None else _told(one.largest)
            yield f"  {field:<12} {one.compared:>10,} {one.different:>10,}  {largest}".rstrip()
    if outcome.days:
        yield ""
    for day in outcome.days:
        yield f"  {day.instrument}: ticker of {_time(day.exchange_ms)}, {_behind(day)}"
    if tally.worst:
        yield ""
        yield f"The worst {len(tally.worst):,} of {tally.different:,} mismatches"
        for check in tally.worst:
            yield f"  {check.of} {check.field}: {_told(check)}"
    yield ""
    if tally.incomplete:
        yield f"{tally.incomplete:,} of our candles are incomplete: trades of them are missing."
    for left_out, names in outcome.left_out.items():
        what = f"{left_out.field} of {left_out.of}, {', '.join(names)}"
        yield f"Not compared: {what}: {left_out.reason}."
    yield from outcome.notes
    yield "equal" if tally.different == 0 else f"{tally.different:,} mismatches"


def _behind(day: DayLag) -> str:
    if day.ours_ms is None:
        return "ours is missing"
    return f"ours ends {(day.exchange_ms - day.ours_ms) / 1000:g} s before it"


def _told(check: Check) -> str:
    where = f"{check.instrument} {_time(check.time_ms)}"
    mark = "" if check.is_complete else ", incomplete here"
    if check.field == TRADES:
        return f"{where} {'missing here' if check.theirs else 'missing there'}{mark}"
    ours, theirs = (
        "nothing" if value is None else f"{value:f}" for value in (check.ours, check.theirs)
    )
    return f"{where} ours {ours}, theirs {theirs}, {_ppm(check.ppm)}{mark}"


def _ppm(ppm: Decimal) -> str:
    return "no ratio" if ppm == INFINITE else f"{float(ppm):.4g} ppm"


def _time(time_ms: int) -> str:
    text = time_of(time_ms).isoformat(timespec="milliseconds" if time_ms % 1000 else "seconds")
    return text.replace("+00:00", "Z")
