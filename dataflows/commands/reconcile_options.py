"""What the command `reconcile` is told on its command line, typed and checked."""

import argparse
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Literal

from sources.deribit_chart import RESOLUTIONS

__all__ = ["Options", "parse_options"]

_ENDPOINT = re.compile(r"simulated|test|production|wss?://[^/].*")


@dataclass(frozen=True, slots=True)
class Options:
    """See `--help`, or `docs/reconcile.md`.

    Attributes:
        start_ms: epoch ms; None: a day before the end.
        end_ms: epoch ms; None: as late as possible.
        instruments: names; None: those of the feed's settings.
        interval: of the candles.
        endpoint: of the exchange; None: that of the feed's settings.
        only: what alone to compare; None: both.
        tolerance_ppm: up to which values count as equal.
        worst: how many mismatches to list.
        settle_s: candles that closed later than so long ago are left out.
        wait_s: how long our 24-hour windows may take to reach the ticker's time.
        stale_s: a window that ended so long before the ticker counts as missing.
        as_json: print JSON.
    """

    start_ms: int | None
    end_ms: int | None
    instruments: tuple[str, ...] | None
    interval: str
    endpoint: str | None
    only: Literal["candles", "statistics"] | None
    tolerance_ppm: Decimal
    worst: int
    settle_s: float
    wait_s: float
    stale_s: float
    as_json: bool


def parse_options(arguments: Sequence[str] | None) -> Options:
    """The options in `arguments`, or in those of the process; ends it with status 2 if wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m dataflows.commands.reconcile",
        description="Compare the tables candles and statistics_24h with the exchange's own.",
        epilog="Exit status: 0 all equal within the tolerance, 1 mismatches, 2 could not "
        "compare. The database is DATABASE_URL, as for the flows.",
    )
    add = parser.add_argument
    add(
        "--from",
        dest="start_ms",
        type=_time,
        metavar="TIME",
        help="first candle, ISO-8601, UTC if without a zone; default: a day before the end",
    )
    add(
        "--to",
        dest="end_ms",
        type=_time,
        metavar="TIME",
        help="end of the last candle; default: as late as possible",
    )
    add(
        "--instruments",
        type=_names,
        metavar="NAME,NAME",
        help="default: DERIBIT_INSTRUMENTS",
    )
    add("--interval", choices=tuple(RESOLUTIONS), default="1m", help="default: 1m")
    add(
        "--endpoint",
        type=_endpoint,
        metavar="WHERE",
        help="simulated, test, production or a URL; default: DERIBIT_ENDPOINT",
    )
    add("--only", choices=("candles", "statistics"), help="default: both")
    add(
        "--tolerance-ppm",
        type=_ppm,
        default=Decimal(0),
        metavar="N",
        help="up to which difference values count as equal; default: 0",
    )
    add("--worst", type=_count, default=10, metavar="N", help="mismatches to list; default: 10")
    for name, default, text in (
        ("settle", 60.0, "leave out candles that closed less than so long ago"),
        ("wait", 10.0, "how long the 24-hour windows may take to reach the ticker's time"),
        ("stale", 120.0, "a window that ended so long before the ticker counts as missing"),
    ):
        help_text = f"{text}; default: {default:g}"
        add(f"--{name}-s", type=_seconds, default=default, metavar="N", help=help_text)
    add("--json", dest="as_json", action="store_true", help="print one JSON object")
    return Options(**vars(parser.parse_args(arguments)))


def _time(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no time such as 2026-11-20T00:00Z")
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(round(moment.timestamp() * 1000), 0)


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(filter(None, map(str.strip, text.split(",")))))


def _endpoint(text: str) -> str:
    if not _ENDPOINT.fullmatch(text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not simulated, test, production or a URL with ws:// or wss://"
        )
    return text


def _ppm(text: str) -> Decimal:
    try:
        number = Decimal(text)
    except InvalidOperation:
        number = Decimal(-1)
    if not number.is_finite() or number < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 0 on")
    return number


def _seconds(text: str) -> float:
    number = float(text)
    if not math.isfinite(number) or number < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds from 0 on")
    return number


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no count")
    return number
