"""Candles as text for a terminal: a line for a closed one, a table of the forming ones.

A row is a mapping with the columns of `COLUMNS`, as in `schemas.candles`. Times are UTC. Green
is a rise and red a fall, of the close over the open or of a forming price since last shown.
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from rich.table import Table
from rich.text import Text

__all__ = ["COLUMNS", "closed_line", "forming_line", "forming_table"]

Row = Mapping[str, Any]

COLUMNS = [
    "instrument",
    "interval",
    "open_time",
    "close_time",
    "open",
    "high",
    "low",
    "close",
    "volume",
    "trade_count",
    "revision",
    "gap_filled",
    "complete",
]
"""What a row needs; the rest need not be made Python objects."""

_PRICES = ("open", "high", "low", "close")
_STYLES = {1: "green", 0: "", -1: "red"}
_WIDE = 100
_IN_LINE = 5
_WHOLE_VOLUME = 1_000


def _prices(row: Row) -> tuple[str, ...]:
    """Open, high, low and close with thousands marked and equally many decimal places."""
    figures = [Decimal(row[name]) for name in _PRICES]
    places = max(len(str(row[name]).partition(".")[2]) for name in _PRICES)
    return tuple(f"{figure:,.{places}f}" for figure in figures)


def _change(row: Row) -> tuple[str, str]:
    """Percent from open to close, and its style."""
    opened, closed = Decimal(row["open"]), Decimal(row["close"])
    if not opened:
        return "", ""
    change = round((closed - opened) / opened, 4)
    return f"{change:+.2%}" if change else "0.00%", _STYLES[(change > 0) - (change < 0)]


def _volume(row: Row) -> str:
    volume = Decimal(row["volume"])
    return f"{volume:,.0f}" if volume >= _WHOLE_VOLUME else f"{volume:,.3f}"


def _window(row: Row) -> str:
    """The window's beginning, to the second where a window is shorter than a minute."""
    shape = "%H:%M:%S" if str(row["interval"]).endswith("s") else "%H:%M"
    return f"{row['open_time']:{shape}}"


def closed_line(row: Row) -> Text:
    """One line: window, instrument, prices, volume, trades, and what is unusual about it."""
    opened, high, low, closed = _prices(row)
    change, style = _change(row)
    unusual = []
    if row["revision"]:
        unusual.append((f"  corrected, revision {row['revision']}", "yellow"))
    if row["gap_filled"]:
        unusual.append(("  no trades", "dim"))
    if not row["complete"]:
        unusual.append(("  trades missing", "yellow"))
    return Text.assemble(
        (f"{row['open_time']:%Y-%m-%d} {_window(row)}", "dim"),
        f" {row['interval']:>3} ",
        (f"{row['instrument']:<10}", "bold"),
        (f" {opened} → {closed} {change:>7}", style),
        f"  high {high}  low {low}  volume {_volume(row)}  trades {row['trade_count']:,}",
        *unusual,
    )


def forming_line(rows: Sequence[Row]) -> Text:
    """One line for all forming candles, where nothing can be drawn over."""
    shown = ", ".join(
        f"{row['instrument']} {row['interval']} {row['close']}" for row in rows[:_IN_LINE]
    )
    more = f", {len(rows) - _IN_LINE} more" if len(rows) > _IN_LINE else ""
    return Text(f"forming: {shown}{more}")


def forming_table(rows: Sequence[tuple[Row, int]], width: int) -> Table:
    """A line per candle still forming.

    Args:
        rows: each with whether its price rose (1), fell (-1) or neither (0).
        width: of the terminal; a narrow one goes without high and low.
    """
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    wide = width >= _WIDE
    table.add_column("Forming", style="bold", no_wrap=True)
    table.add_column("UTC", style="dim", no_wrap=True)
    table.add_column("", no_wrap=True)
    for name in ("Last", "Change", *(("High", "Low") if wide else ()), "Volume", "Trades"):
        table.add_column(name, justify="right", no_wrap=True)
    for row, direction in rows:
        _, high, low, closed = _prices(row)
        change, style = _change(row)
        table.add_row(
            str(row["instrument"]),
            _window(row),
            str(row["interval"]),
            Text(closed, style=_STYLES[direction]),
            Text(change, style=style),
            *((high, low) if wide else ()),
            _volume(row),
            f"{row['trade_count']:,}",
        )
    return table
