"""Values as JSON has them: exact figures as decimal text, times as ISO-8601 text in UTC.

The same figure and the same time have one text only, wherever they were read.
"""

from datetime import UTC, datetime
from typing import Any

from psycopg import AsyncConnection
from psycopg.abc import Buffer
from psycopg.adapt import Loader

__all__ = ["exact_text", "load_as_texts", "time_text"]

_MILLIS, _MICROS = 3, 6
_WHOLE = len("2026-11-29T14:00:00")


def exact_text(text: str) -> str:
    """Decimal text without trailing zeros."""
    return text.rstrip("0").rstrip(".") if "." in text else text


def time_text(time_ms: int) -> str:
    """A time of epoch ms, such as 2026-11-29T14:00:00Z; with milliseconds where it has some."""
    seconds, millis = divmod(time_ms, 1000)
    whole = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{whole}.{millis:03d}Z" if millis else f"{whole}Z"


def load_as_texts(connection: AsyncConnection[Any]) -> None:
    """Have a connection, whose session is in UTC, give such texts."""
    connection.adapters.register_loader("numeric", _ExactLoader)
    connection.adapters.register_loader("timestamptz", _TimeLoader)


class _ExactLoader(Loader):
    def load(self, data: Buffer) -> str:
        return exact_text(bytes(data).decode())


class _TimeLoader(Loader):
    def load(self, data: Buffer) -> str:
        # As PostgreSQL writes it: 2026-11-29 14:00:00.25+00
        text = bytes(data).decode().removesuffix("+00").replace(" ", "T")
        fraction = text[_WHOLE + 1 :]
        if fraction:
            places = _MILLIS if len(fraction) <= _MILLIS else _MICROS
            text = text[: _WHOLE + 1] + fraction.ljust(places, "0")
        return f"{text}Z"
