"""A trade as a line for a terminal, with the columns of `schemas.trade_rows.TRADE_SCHEMA`.

Times are UTC. Green is a buy and red a sell, of the taker.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from rich.text import Text

__all__ = ["trade_line"]

_STYLES = {"buy": "green", "sell": "red"}


def trade_line(row: Mapping[str, Any]) -> Text:
    """When, what, which way, how much, at which price, and its number."""
    moment: datetime = row["timestamp"].astimezone(UTC)
    text = Text(f"{moment:%H:%M:%S.%f}"[:-3])
    text.append(f"  {row['instrument']:<20}")
    text.append(f"{row['side']:>5}", style=_STYLES[row["side"]])
    text.append(f"{row['quantity']:>12} at {row['price']:<10} #{row['trade_seq']}")
    return text
