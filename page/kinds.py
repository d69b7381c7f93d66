"""The kinds of rows that the page sends, and one row of them.

A kind names a table, the columns that tell its series apart, and the time that orders the
rows of a series. Everything else, from the queries to the snapshot, follows from these.
"""

import json
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from sqlalchemy import Table

from schemas.tables import (
    AGGREGATED_SALES,
    CANDLES,
    CANDLES_LIVE,
    EWMA,
    SESSIONS,
    statistics_table,
)

__all__ = ["HEALTH", "KIND_NAMES", "RANGED", "Kind", "Row", "health_row", "kinds", "make_row"]

HEALTH = "health"
RANGED = frozenset({"candle", "ewma"})
"""Kinds of whose series a reader says how many rows it wants at first."""
KIND_NAMES = ("candle", "preview", "statistics", "ewma", "sales", "session", HEALTH)

_SALES_WINDOWS = 60
_SESSIONS = 500


class Kind(NamedTuple):
    """One kind of row.

    Attributes:
        name: in the protocol.
        table: where its rows are, and the names of their fields.
        group: columns that name a series; none: all rows are one series.
        order: column of times, by which a series is ordered.
        depth: rows of a series in a snapshot; None: as many as the reader asks for.
        is_latest: whether a newer row makes the older ones of its series meaningless.
    """

    name: str
    table: Table
    group: tuple[str, ...]
    order: str
    depth: int | None
    is_latest: bool = False


class Row(NamedTuple):
    """One row as it is sent.

    Attributes:
        kind: name of its kind.
        group: values of the columns that name its series.
        place: its primary key within the series, the time first; sorts as the series does.
        revision: of two rows in one place the higher one counts.
        text: the row as a JSON object.
        instrument: None for a row that has none.
        interval: None for a row that has none.
    """

    kind: str
    group: tuple[str, ...]
    place: tuple[str, ...]
    revision: int
    text: str
    instrument: str | None = None
    interval: str | None = None


def kinds(statistics_window: str) -> dict[str, Kind]:
    """All kinds that lie in tables, by name.

    Args:
        statistics_window: length of the rolling windows to show, such as `24h`.
    """
    by_interval, by_instrument = ("instrument", "interval"), ("instrument",)
    statistics = statistics_table(statistics_window)
    every = (
        Kind("candle", CANDLES, by_interval, "open_time", None),
        Kind("preview", CANDLES_LIVE, by_interval, "open_time", 1, is_latest=True),
        Kind("statistics", statistics, by_instrument, "close_time", 1),
        Kind("ewma", EWMA, by_instrument, "window_start", None),
        Kind("sales", AGGREGATED_SALES, ("seller_id",), "window_start", _SALES_WINDOWS),
        Kind("session", SESSIONS, (), "ended_at", _SESSIONS),
    )
    return {kind.name: kind for kind in every}


def make_row(kind: Kind, values: Mapping[str, Any]) -> Row:
    """A row of values as JSON has them: texts for exact figures and for times."""
    # Without its last letter, so that a time sorts before those with a fraction.
    ordered = str(values[kind.order]).removesuffix("Z")
    rest = (c.name for c in kind.table.primary_key if c.name not in (*kind.group, kind.order))
    return Row(
        kind.name,
        tuple(str(values[name]) for name in kind.group),
        # The preview's key has no time: there is one row, whatever its time.
        ("",) if kind.is_latest else (ordered, *(str(values[name]) for name in rest)),
        # Nor is one a revision of the candle before.
        0 if kind.is_latest else int(values.get("revision") or 0),
        _json({"kind": kind.name, **values}),
        values.get("instrument"),
        values.get("interval"),
    )


def health_row(values: Mapping[str, Any]) -> Row:
    """The health of one flow."""
    name = str(values["flow"])
    return Row(HEALTH, (name,), ("",), 0, _json({"kind": HEALTH, **values}))


def _json(values: Mapping[str, Any]) -> str:
    finite = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in values.items()
    }
    return json.dumps(finite, separators=(",", ":"), ensure_ascii=False)
