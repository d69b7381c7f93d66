"""What a finite run has published of sessions before its time, and what becomes of it.

A session is known by the place of its first event, an event by its own. Contract: the last
that is said of a session or an event is what the whole log says, wherever runs ended.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from operators.ordered_buffer import InOrder
from operators.sessions import CELL, ROW, WITHDRAWN, Folded
from schemas.stream import Int64s

__all__ = ["EarlySessions", "EarlySnapshot"]

_FIGURES = ["ended", "count", "sensor_count", "reason"]


class EarlySnapshot(NamedTuple):
    """Everything an `EarlySessions` is."""

    rows: bytes = b""
    sensors: bytes = b""
    events: bytes = b""
    sessions: bytes = b""


class EarlySessions:
    """Rows and events that left early.

    Args:
        snapshot: where to go on.
    """

    def __init__(self, snapshot: EarlySnapshot) -> None:
        self._rows = np.frombuffer(snapshot.rows, ROW)
        self._sensors = np.frombuffer(snapshot.sensors, CELL)
        self._events = np.frombuffer(snapshot.events, np.int64)  # places, rising
        self._sessions = np.frombuffer(snapshot.sessions, np.int64)

    def __len__(self) -> int:
        return len(self._rows) + len(self._events)

    @property
    def keys(self) -> Int64s:
        """Key codes of the rows."""
        return self._rows["key"].astype(np.int64)

    def leave(self, events: InOrder, folded: Folded) -> tuple[Folded, NDArray[np.bool_]]:
        """What of a flush is news; it is noted as having left.

        Args:
            events: (n,) all that wait.
            folded: what there would be if the log ended here.

        Returns:
            Its rows that are new or have changed, and those withdrawn; (n,) which events are
            new or have changed their session.
        """
        is_news = self._is_news(events, folded)
        by_place = np.argsort(events.place)
        self._events, self._sessions = events.place[by_place], folded.places[by_place]
        rows = folded.rows
        before = _find(self._rows["place"], rows["place"])
        changed = np.array(
            [i < 0 or self._differs(i, row, folded) for i, row in zip(before, rows, strict=True)],
            bool,
        )
        seen = before >= 0
        rows["revision"][seen] = self._rows["revision"][before[seen]] + changed[seen]
        absent = _find(rows["place"], self._rows["place"]) < 0
        withdrawn = _withdrawn(self._rows[absent])
        news = np.concatenate((rows[changed], withdrawn))
        was_withdrawn = self._rows[absent & (self._rows["reason"] == WITHDRAWN)]
        self._rows = np.concatenate((rows, withdrawn, was_withdrawn))
        self._sensors = folded.sensors
        return folded._replace(rows=news), is_news

    def settle(
        self, events: InOrder, folded: Folded, states: NDArray[Any]
    ) -> tuple[Folded, NDArray[np.bool_]]:
        """What is truly due, seen from what has left early; that is then forgotten.

        Args:
            events: (n,) those folded, all among them that have left early.
            folded: what came of them.
            states: of all keys, afterwards.

        Returns:
            Its rows with their revisions, and those withdrawn, which have no tick; (n,) which
            events have not left, or as of another session.
        """
        is_news = self._is_news(events, folded)
        self._events = self._sessions = np.empty(0, np.int64)
        rows = folded.rows
        before = _find(self._rows["place"], rows["place"])
        seen = before >= 0
        rows["revision"][seen] = self._rows["revision"][before[seen]] + 1
        rest = self._rows[_find(rows["place"], self._rows["place"]) < 0]
        own = states[rest["key"]]
        is_open = (own["count"] > 0) & (own["place"] == rest["place"])
        self._rows = rest[is_open]
        withdrawn = _withdrawn(rest[~is_open])
        return folded._replace(rows=np.concatenate((rows, withdrawn))), is_news

    def snapshot(self, codes: Int64s) -> EarlySnapshot:
        """An immutable copy; key k becomes `codes[k]`."""
        rows = self._rows.copy()
        rows["key"] = codes[rows["key"]]
        sensors = self._sensors if len(rows) else self._sensors[:0]
        return EarlySnapshot(
            rows.tobytes(), sensors.tobytes(), self._events.tobytes(), self._sessions.tobytes()
        )

    def _is_news(self, events: InOrder, folded: Folded) -> NDArray[np.bool_]:
        before = _find(self._events, events.place)
        is_news: NDArray[np.bool_] = before < 0
        left = np.flatnonzero(~is_news)
        is_news[left] = self._sessions[before[left]] != folded.places[left]
        return is_news

    def _differs(self, i: int, row: Any, folded: Folded) -> bool:  # noqa: ANN401  # a record
        before = self._rows[i]
        if any(before[name] != row[name] for name in _FIGURES):
            return True
        first, other, n = before["sensors"], row["sensors"], row["sensor_count"]
        mine, theirs = self._sensors[first : first + n], folded.sensors[other : other + n]
        return mine.tobytes() != theirs.tobytes()


def _withdrawn(rows: NDArray[Any]) -> NDArray[Any]:
    """The rows that take back those of sessions that do not come about."""
    rows = rows[rows["reason"] != WITHDRAWN].copy()
    rows["reason"] = WITHDRAWN
    rows["revision"] += 1
    rows["ended"] = rows["start"]
    rows["count"] = rows["sensor_count"] = 0
    return rows


def _find(places: Int64s, wanted: Int64s) -> Int64s:
    """(w,) index in `places` of each wanted one; -1 where it is not there."""
    if not len(places):
        return np.full(len(wanted), -1)
    order = np.argsort(places)
    at = np.minimum(np.searchsorted(places, wanted, sorter=order), len(places) - 1)
    found = order[at]
    return np.where(places[found] == wanted, found, -1)
