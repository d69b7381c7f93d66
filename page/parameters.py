"""Reads the parameters of a request; what is wrong is refused by name."""

from collections.abc import Set as AbstractSet
from datetime import UTC, datetime
from urllib.parse import unquote

from starlette.requests import Request

from page.hub import Wanted
from page.kinds import KIND_NAMES
from page.refusals import RefusedError
from schemas.candles import INTERVALS_MS

__all__ = ["Parameters"]

_MOST_NAMES = 1_000
_LONGEST = 255
_MOST_DIGITS = 9


class Parameters:
    """The query of a request.

    Args:
        request: to read.
        known: names that it may have.

    Raises:
        RefusedError: It has others, or one twice.
    """

    def __init__(self, request: Request, known: AbstractSet[str]) -> None:
        self._values = dict(request.query_params)
        unknown = sorted(set(self._values) - known)
        if unknown:
            names = ", ".join(sorted(known))
            raise RefusedError(400, f"There is no parameter {unknown[0]!r}", f"Use {names}.")
        if len(self._values) < len(request.query_params.multi_items()):
            raise RefusedError(
                400, "A parameter is there twice", "Write several values with commas."
            )

    def text(self, name: str, longest: int = _LONGEST) -> str | None:
        """One text; None when it is not there or empty."""
        value = self._values.get(name) or None
        if value is not None and (len(value) > longest or "\x00" in value):
            raise RefusedError(400, f"{name} is no name", f"Give at most {longest} characters.")
        return value

    def names(self, name: str) -> tuple[str, ...] | None:
        """Texts with commas, each percent-encoded; None when it is not there or empty."""
        given = (unquote(part.strip()) for part in self._values.get(name, "").split(","))
        parts = tuple(filter(None, given))
        if len(parts) > _MOST_NAMES or any(len(part) > _LONGEST for part in parts):
            raise RefusedError(400, f"{name} is too long", f"Name at most {_MOST_NAMES:,}.")
        return parts or None

    def number(self, name: str, default: int, least: int, most: int) -> int:
        """A whole number in a range."""
        text = self._values.get(name)
        if not text:
            return default
        if not (
            text.isascii()
            and text.isdigit()
            and len(text) <= _MOST_DIGITS
            and least <= int(text) <= most
        ):
            raise RefusedError(400, f"{name}={text!r} is not allowed", f"Give {least} to {most:,}.")
        return int(text)

    def time(self, name: str) -> datetime | None:
        """A time as ISO-8601; without an offset it is UTC."""
        text = self._values.get(name)
        if not text:
            return None
        try:
            time = datetime.fromisoformat(text)
            return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
        except (ValueError, OverflowError):
            raise RefusedError(
                400, f"{name}={text!r} is no time", "Write it as 2026-11-29T14:00:00Z."
            ) from None

    def interval(self, default: str) -> str:
        """The length of candles."""
        value = self.text("interval") or default
        self._check_intervals([value])
        return value

    def wanted(self) -> Wanted:
        """What a stream is asked for."""
        kinds, instruments, intervals = map(self.names, ("kind", "instrument", "interval"))
        for kind in kinds or ():
            if kind not in KIND_NAMES:
                known = ", ".join(KIND_NAMES)
                raise RefusedError(400, f"There is no kind {kind!r}", f"Choose from {known}.")
        self._check_intervals(intervals or ())
        return Wanted(
            tuple(dict.fromkeys(kinds)) if kinds else KIND_NAMES,
            frozenset(instruments) if instruments else None,
            frozenset(intervals) if intervals else None,
        )

    @staticmethod
    def _check_intervals(names: tuple[str, ...] | list[str]) -> None:
        for name in names:
            if name not in INTERVALS_MS:
                known = ", ".join(INTERVALS_MS)
                raise RefusedError(400, f"There is no interval {name!r}", f"Choose from {known}.")
