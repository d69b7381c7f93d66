"""What a snapshot is made of: the newest rows of every series, and whether a row is news.

Contract. `take` says which rows change what is known; a row that was there already, or of an
older revision, is none. So a reader may look at the same rows again and again. The memory is
bounded: by rows of a series, by series of a kind, and by the rows of a kind altogether.
"""

from bisect import insort
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from page.kinds import Row

__all__ = ["Memory"]

_MOST_SERIES = 20_000
_MOST_ROWS = 250_000


@dataclass(slots=True)
class _Series:
    rows: dict[tuple[str, ...], Row] = field(default_factory=dict)
    places: list[tuple[str, ...]] = field(default_factory=list)


class Memory:
    """The newest rows, by kind and series.

    Args:
        depth: rows of a series to keep, by kind; a kind that is missing here keeps one.
        most_rows: of a kind; many series are kept less deep.
        most_series: of a kind; the one that heard nothing for longest goes.
    """

    def __init__(
        self,
        depth: dict[str, int],
        *,
        most_rows: int = _MOST_ROWS,
        most_series: int = _MOST_SERIES,
    ) -> None:
        self._depth = depth
        self._most_rows = most_rows
        self._most_series = most_series
        self._kinds: dict[str, OrderedDict[tuple[str, ...], _Series]] = {}

    def take(self, rows: Iterable[Row]) -> list[Row]:
        """Keep what is new, and say what was; in the order given."""
        return [row for row in rows if self._is_news(row)]

    def newest(self, kind: str) -> dict[tuple[str, ...], str]:
        """The time of the newest row of each series of a kind."""
        return {group: one.places[-1][0] for group, one in self._kinds.get(kind, {}).items()}

    def tail(
        self, kind: str, wanted: Callable[[Row], bool], depth: int | None, most_rows: int
    ) -> Iterator[Row]:
        """The newest rows of each series of a kind, in order.

        Args:
            kind: which.
            wanted: asked with one row of a series for all of them.
            depth: rows of a series; None: all that are kept.
            most_rows: of all together; the depth is lowered until it is kept.
        """
        series = [
            one for one in self._kinds.get(kind, {}).values() if wanted(one.rows[one.places[-1]])
        ]
        shares = max(1, most_rows // max(1, len(series)))
        for one in series:
            for place in one.places[-min(depth or shares, shares) :]:
                yield one.rows[place]

    def _is_news(self, row: Row) -> bool:
        series = self._kinds.setdefault(row.kind, OrderedDict())
        one = series.get(row.group)
        if one is None:
            one = series[row.group] = _Series()
            if len(series) > self._most_series:
                series.popitem(last=False)
        stored = one.rows.get(row.place)
        if stored is not None:
            if row.revision < stored.revision or row.text == stored.text:
                return False
            one.rows[row.place] = row
            series.move_to_end(row.group)
            return True
        depth = min(self._depth.get(row.kind, 1), max(1, self._most_rows // len(series)))
        if len(one.places) >= depth and row.place < one.places[0]:
            return True  # older than what is kept: news, but nothing to keep
        insort(one.places, row.place)
        one.rows[row.place] = row
        while len(one.places) > depth:
            del one.rows[one.places.pop(0)]
        series.move_to_end(row.group)
        return True
