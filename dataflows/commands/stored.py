"""What our tables say: candles of a span, and the newest window of 24 hours.

Reads `candles` and `statistics_24h`, never more than is asked for at a time. Contract: figures
are exact; a failure is a `FlowError`.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from sqlalchemy import Integer, bindparam, func, literal_column, select

from schemas.errors import FlowError
from schemas.tables import CANDLES, STATISTICS_24H
from sinks.postgres_connection import reachable, reason_of, statement
from sources.deribit_chart import Figures

__all__ = ["StoredFigures", "time_of"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)
_CANDLE = ("open", "high", "low", "close", "volume", "quote_volume")
_DAY = ("high", "low", "last", "price_change_percent", "volume", "quote_volume")

_SELECT_CANDLES = statement(
    select(
        CANDLES.c.open_time,
        CANDLES.c.trade_count,
        CANDLES.c.complete,
        *(CANDLES.c[name] for name in _CANDLE),
    )
    .where(
        CANDLES.c.instrument == bindparam("wanted"),
        CANDLES.c.interval == bindparam("length"),
        CANDLES.c.open_time >= bindparam("first"),
        CANDLES.c.open_time < bindparam("end"),
    )
    .order_by(CANDLES.c.open_time)
)
_SELECT_DAY = statement(
    select(
        STATISTICS_24H.c.close_time,
        STATISTICS_24H.c.trade_count,
        *(STATISTICS_24H.c[name] for name in _DAY),
    )
    .where(
        STATISTICS_24H.c.instrument == bindparam("wanted"),
        STATISTICS_24H.c.close_time.between(bindparam("first"), bindparam("last")),
    )
    .order_by(STATISTICS_24H.c.close_time.desc())
    .limit(literal_column("1", Integer))
)
_SELECT_NEWEST = statement(
    select(func.max(STATISTICS_24H.c.close_time)).where(
        STATISTICS_24H.c.instrument == bindparam("wanted")
    )
)


def time_of(time_ms: int) -> datetime:
    """Epoch ms as a time in UTC."""
    return _EPOCH + time_ms * _MS


class StoredFigures:
    """A connection to the database.

    Args:
        url: libpq URL.

    Raises:
        FlowError: The URL cannot be read, or the server does not answer or refuses.
    """

    def __init__(self, url: str) -> None:
        self._connection = reachable(url)

    def has_statistics(self) -> bool:
        """Whether there is a table of 24-hour windows.

        Raises:
            FlowError: The database cannot be read.
        """
        ((found,),) = self._rows(b"SELECT to_regclass(%(name)s)", name=STATISTICS_24H.name)
        return found is not None

    def candles(self, instrument: str, interval: str, start_ms: int, end_ms: int) -> list[Figures]:
        """Candles that open from `start_ms` on and before `end_ms`, in order.

        Raises:
            FlowError: The table cannot be read.
        """
        rows = self._rows(
            _SELECT_CANDLES,
            wanted=instrument,
            length=interval,
            first=time_of(start_ms),
            end=time_of(end_ms),
        )
        return [
            Figures(
                (opened - _EPOCH) // _MS,
                dict(zip(_CANDLE, figures, strict=True)),
                trades > 0,
                complete,
            )
            for opened, trades, complete, *figures in rows
        ]

    def day(self, instrument: str, first_ms: int, last_ms: int) -> Figures | None:
        """The newest window that ends between two times; None without any.

        Raises:
            FlowError: The table cannot be read.
        """
        rows = self._rows(
            _SELECT_DAY, wanted=instrument, first=time_of(first_ms), last=time_of(last_ms)
        )
        for closed, trades, *figures in rows:
            return Figures(
                (closed - _EPOCH) // _MS, dict(zip(_DAY, figures, strict=True)), trades > 0
            )
        return None

    def newest_day_ms(self, instruments: Sequence[str]) -> int:
        """When the newest window of any of them ends; 0 without any.

        Raises:
            FlowError: The table cannot be read.
        """
        newest = [self._rows(_SELECT_NEWEST, wanted=name)[0][0] for name in instruments]
        return max(((found - _EPOCH) // _MS for found in newest if found), default=0)

    def close(self) -> None:
        """Let go of the connection."""
        self._connection.close()

    def _rows(self, query: bytes, **parameters: object) -> list[tuple[Any, ...]]:
        with _reading():
            return self._connection.execute(query, parameters).fetchall()


@contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except psycopg.errors.UndefinedTable as error:
        raise FlowError(
            f"There is nothing of ours to compare ({reason_of(error)})",
            "See that DATABASE_URL is the database that the flows write, and run the flow whose "
            "table this is.",
        ) from error
    except psycopg.Error as error:
        raise FlowError(
            f"The database cannot be read ({reason_of(error)})",
            "See that the server runs and that this user may read the tables.",
        ) from error
