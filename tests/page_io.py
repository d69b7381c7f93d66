"""What the tests of the page write into the tables that flows write: one row, one commit."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import NullPool, Table, create_engine
from sqlalchemy.dialects.postgresql import insert

from schemas.candles import INTERVALS_MS
from schemas.tables import (
    AGGREGATED_SALES,
    CANDLES,
    CANDLES_LIVE,
    EWMA,
    METADATA,
    SESSIONS,
    STATISTICS_24H,
)
from sinks.postgres_connection import connect

MINUTE = timedelta(minutes=1)


def this_minute() -> datetime:
    return datetime.now(UTC).replace(second=0, microsecond=0)


class PageTables:
    """All tables of a database; each method commits its rows."""

    def __init__(self, url: str) -> None:
        self._engine = create_engine(
            "postgresql+psycopg://",
            creator=lambda: connect(url, autocommit=False),
            poolclass=NullPool,
        )
        METADATA.create_all(self._engine)

    def write(self, table: Table, *rows: Mapping[str, Any]) -> None:
        """Insert, or replace by primary key, in one transaction."""
        statement = insert(table)
        others = {c.name: statement.excluded[c.name] for c in table.columns if not c.primary_key}
        upsert = statement.on_conflict_do_update(
            index_elements=list(table.primary_key), set_=others
        )
        with self._engine.begin() as connection:
            connection.execute(upsert, [dict(row) for row in rows])

    def candles(
        self,
        instrument: str,
        *,
        until: datetime,
        count: int,
        interval: str = "1m",
        price: int = 100,
    ) -> None:
        """Closed candles, the last of which ends at `until`; they rise by 1 each."""
        step = timedelta(milliseconds=INTERVALS_MS[interval])
        self.write(
            CANDLES,
            *(
                candle(instrument, until - n * step, interval, close=f"{price + count - n}.25")
                for n in range(count, 0, -1)
            ),
        )

    def preview(self, instrument: str, open_time: datetime, close: str, **more: Any) -> None:
        """The candle still forming."""
        row = candle(instrument, open_time, more.pop("interval", "1m"), close=close)
        self.write(CANDLES_LIVE, row | {"is_closed": False} | more)

    def statistics(self, instrument: str, close_time: datetime, **more: Any) -> None:
        """The 24 hours that end at `close_time`."""
        row = {
            **dict.fromkeys(("open", "high", "low", "last"), "100.5"),
            "instrument": instrument,
            "open_time": close_time - timedelta(days=1),
            "close_time": close_time,
            "price_change": "1.5",
            "price_change_percent": "1.51515152",
            "volume": "12345.678",
            "quote_volume": "1234567.891",
            "weighted_average_price": "100.00000001",
            "trade_count": 4321,
            "first_trade_id": 1,
            "last_trade_id": 2,
            "high_time": close_time,
            "low_time": close_time,
        }
        self.write(STATISTICS_24H, row | more)

    def average(self, instrument: str, window_end: datetime, value: float) -> None:
        """An EWMA."""
        row = {
            "instrument": instrument,
            "window_start": window_end - MINUTE,
            "window_end": window_end,
            "alpha": 0.5,
            "halflife_s": None,
            "value": value,
            "trade_count": 10,
            "volume": "1",
            "last_price": "1",
            "revision": 0,
        }
        self.write(EWMA, row)

    def sales(self, seller: str, start: datetime, amount: str, **more: Any) -> None:
        """The sales of a seller in a minute."""
        row = {
            "seller_id": seller,
            "window_start": start,
            "window_end": start + MINUTE,
            "aggregated_amount": amount,
            "sale_count": 3,
            "min_amount": "1",
            "max_amount": "9",
            "mean_amount": "3.33333333",
            "revision": 0,
        }
        self.write(AGGREGATED_SALES, row | more)

    def session(self, device: str, ended_at: datetime, reason: str, **more: Any) -> None:
        """A session of 12.5 s."""
        sensor = {"count": 4, "min": 20.5, "max": 22.0, "mean": 21.25, "last": 21.0}
        row = {
            "device": device,
            "session_id": f"{ended_at.timestamp():.0f}-0-7",
            "started_at": ended_at - timedelta(seconds=12.5),
            "ended_at": ended_at,
            "reason": reason,
            "event_count": 9,
            "sensors": {"temperature": sensor},
            "revision": 0,
        }
        self.write(SESSIONS, row | more)


def candle(
    instrument: str, open_time: datetime, interval: str = "1m", *, close: str, **more: Any
) -> dict[str, Any]:
    """A row of the table `candles`."""
    close_time = open_time + timedelta(milliseconds=INTERVALS_MS[interval])
    return {
        "instrument": instrument,
        "interval": interval,
        "open_time": open_time,
        "close_time": close_time,
        "open": "100.5",
        "high": max("100.5", close, key=float),
        "low": min("100.5", close, key=float),
        "close": close,
        "volume": "7.5",
        "quote_volume": "750.125",
        "vwap": "100.01666667",
        "trade_count": 12,
        "taker_buy_volume": "3",
        "taker_buy_quote_volume": "300",
        "first_trade_seq": 1,
        "last_trade_seq": 12,
        **{f"{name}_trade_time": open_time for name in ("open", "high", "low")},
        "close_trade_time": datetime.now(UTC),
        "is_closed": True,
        "revision": 0,
        "gap_filled": False,
        "complete": True,
    } | more
