"""Compare our candles and 24-hour figures with the exchange's own.

    tables candles, statistics_24h ──┐
                                     ├──▶ checks ──▶ report, exit status
    exchange: chart, ticker ─────────┘

Run it: `python -m dataflows.commands.reconcile --help`. Exit status: 0 all equal within the
tolerance, 1 mismatches, 2 could not compare. It only reads; a page of candles at a time, so
memory does not depend on the span. What is compared with what: `docs/reconcile.md`.
"""

import logging
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Self

from typing_extensions import override

from dataflows.commands.comparison import (
    LeftOut,
    Meaning,
    Tally,
    candle_checks,
    day_checks,
    meaning_of,
)
from dataflows.commands.reconcile_options import Options, parse_options
from dataflows.commands.report import DayLag, Outcome, as_json, as_text
from dataflows.commands.stored import StoredFigures
from dataflows.deribit_settings import DeribitSettings
from schemas.candles import INTERVALS_MS
from schemas.errors import FlowError
from schemas.tables import STATISTICS_24H
from sinks.embedded_postgres import embedded_postgres
from sources.deribit_calls import Calls
from sources.deribit_chart import PAGE, candles, clock_ms, listed, ticker
from sources.deribit_socket import TextSocket
from sources.exchange.market import ExchangeMarket
from sources.exchange.server import ExchangeServer
from sources.market import opening

__all__ = ["main"]

EQUAL, DIFFERENT, NOT_COMPARED = 0, 1, 2
_DAY_MS = 86_400_000
_POLL_S = 0.25


class _Settings(DeribitSettings):
    """The feed's settings, of which the endpoint and the instruments matter here."""

    @override
    def check(self) -> None:
        """Nothing yet: the command's options come on top."""

    def with_endpoint(self, endpoint: str | None) -> Self:
        """With what the command was told; checked.

        Raises:
            FlowError: The values do not go together.
        """
        told = {"stop_at_end": False} | ({"deribit_endpoint": endpoint} if endpoint else {})
        settings = self.model_copy(update=told)
        super(_Settings, settings).check()
        return settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit status."""
    options = parse_options(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        outcome = _compared(options)
    except FlowError as error:
        sys.stderr.write(f"error: {error}\n")
        return NOT_COMPARED
    except Exception:  # Python's own status for it is 1, which says that figures differ
        logging.getLogger(__name__).exception("The comparison failed")
        return NOT_COMPARED
    sys.stdout.write(f"{as_json(outcome)}\n" if options.as_json else as_text(outcome))
    return DIFFERENT if outcome.tally.different else EQUAL


def _compared(options: Options) -> Outcome:
    settings = _Settings.load().with_endpoint(options.endpoint)
    instruments = options.instruments or settings.subscription.instruments
    if not instruments:
        raise FlowError(
            "No instrument is named",
            "Give --instruments, such as BTC-PERPETUAL,ETH-PERPETUAL.",
        )
    with (
        _exchange(settings) as url,
        closing(Calls(lambda: TextSocket(url))) as calls,
        closing(StoredFigures(_database(settings))) as stored,
    ):
        meanings = {name: meaning_of(listed(calls, name)) for name in instruments}
        tally = Tally(options.tolerance_ppm, options.worst)
        start_ms, end_ms = _span(options, clock_ms(calls))
        days: list[DayLag] = []
        notes: list[str] = []
        if options.only != "statistics":
            for name, meaning in meanings.items():
                _compare_candles(name, meaning, options.interval, start_ms, end_ms,
                                 stored, calls, tally)  # fmt: skip
        if options.only != "candles":
            if options.only == "statistics" or stored.has_statistics():
                days = _compare_days(meanings, options, stored, calls, tally)
            else:
                notes.append(f"24 hours: not compared, there is no table {STATISTICS_24H.name}.")
    if not tally.fields:
        raise FlowError(
            f"There is nothing to compare: nobody has a trade of {', '.join(instruments)} in "
            f"that time",
            "See that --from, --to and --interval are those of candles in your database.",
        )
    left_out: dict[LeftOut, list[str]] = {}
    for name, meaning in meanings.items():
        for one in meaning.left_out:
            if any(of == one.of for of, _ in tally.fields):
                left_out.setdefault(one, []).append(name)
    return Outcome(
        settings.deribit_endpoint or "simulated", instruments, options.interval, start_ms, end_ms,
        options.tolerance_ppm, tally, days, left_out, notes,
    )  # fmt: skip


def _span(options: Options, exchange_ms: int) -> tuple[int, int]:
    """The whole candles of the span that have closed and settled."""
    length_ms = INTERVALS_MS[options.interval]
    settled_ms = exchange_ms - round(options.settle_s * 1000)
    end_ms = settled_ms if options.end_ms is None else min(options.end_ms, settled_ms)
    end_ms = end_ms // length_ms * length_ms
    start_ms = end_ms - _DAY_MS if options.start_ms is None else options.start_ms
    start_ms = -(-start_ms // length_ms) * length_ms
    if start_ms >= end_ms and options.only != "statistics":
        raise FlowError(
            f"The span from --from to --to holds no {options.interval} candle that has closed at "
            f"least {options.settle_s:g} s ago",
            "Give an earlier --from, a later --to, or a shorter --settle-s.",
        )
    return start_ms, end_ms


def _compare_candles(
    instrument: str,
    meaning: Meaning,
    interval: str,
    start_ms: int,
    end_ms: int,
    stored: StoredFigures,
    calls: Calls,
    tally: Tally,
) -> None:
    length_ms = INTERVALS_MS[interval]
    for page_ms in range(start_ms, end_ms, PAGE * length_ms):
        until_ms = min(page_ms + PAGE * length_ms, end_ms)
        theirs = candles(calls, instrument, interval, page_ms, until_ms, length_ms)
        ours = stored.candles(instrument, interval, page_ms, until_ms)
        for check in candle_checks(instrument, ours, theirs, meaning.candle):
            tally.add(check)


def _compare_days(
    meanings: dict[str, Meaning],
    options: Options,
    stored: StoredFigures,
    calls: Calls,
    tally: Tally,
) -> list[DayLag]:
    """Take the tickers, let our flow come as far, and compare."""
    tickers = {name: ticker(calls, name) for name in meanings}
    wanted_ms = max(one.time_ms for one in tickers.values()) // 1000 * 1000
    until_s = time.monotonic() + options.wait_s
    while stored.newest_day_ms(list(meanings)) < wanted_ms and time.monotonic() < until_s:
        time.sleep(_POLL_S)
    days = []
    for name, theirs in tickers.items():
        oldest_ms = theirs.time_ms - round(options.stale_s * 1000)
        ours = stored.day(name, oldest_ms, theirs.time_ms)
        for check in day_checks(name, ours, theirs, meanings[name].day):
            tally.add(check)
        days.append(DayLag(name, theirs.time_ms, ours and ours.time_ms))
    return days


def _database(settings: DeribitSettings) -> str:
    if settings.database_url == "off":
        raise FlowError(
            "DATABASE_URL=off: there are no tables to compare",
            "Set DATABASE_URL to the database that the flows write.",
        )
    return settings.database_url or embedded_postgres(settings.data_dir / "postgres")


@contextmanager
def _exchange(settings: DeribitSettings) -> Iterator[str]:
    """Where to connect; a simulated exchange is started, the same that the feed has."""
    url = settings.endpoint_url
    if url is not None:
        yield url
        return
    if not (settings.data_dir / "market.json").exists():
        raise FlowError(
            f"No simulated exchange has run with DATA_DIR={settings.data_dir}",
            "Run the flow deribit first, name its DATA_DIR, or give --endpoint.",
        )
    market = ExchangeMarket(
        opening(settings.data_dir, time.time_ns() // 1_000_000),
        seed=settings.market_seed,
        instruments=settings.market_instruments,
        rate=settings.market_rate,
    )
    server = ExchangeServer(market).start()
    try:
        yield server.url
    finally:
        server.stop()


if __name__ == "__main__":
    sys.exit(main())
