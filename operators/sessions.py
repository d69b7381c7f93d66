"""Sessions of devices: a device's events in order, cut where a session begins or ends.

What it computes. Over a device's events in (event time, place in the log) order:

* `DeviceWokeUp` begins a session; one that is open ends, superseded.
* `DataReceived` belongs to the open session, and begins one where there is none.
* `AllDataSent` completes the open session; where there is none it is a session of its own.
  Another one less than the timeout after it, with nothing in between, belongs to it too.
* A session without an event for the timeout has ended by then. An event at the very end of
  the timeout no longer belongs to it.

So each event belongs to one session, which is named by the device and its first event. A
session's row is made when nothing can join it any more: a new session has begun, or the
timeout has passed since its last event or, once it is complete, since its completion.

Contract. Sessions and rows are a function of the device's events in order, not of how they
are cut into calls. A row's tick is the first one at which all events before its end are
known; ticks of a device's rows do not fall. Floats are added up in the order of events.

Cost: about 60 ns an event, and one look at each key per call.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from operators.cells import room
from operators.ordered_buffer import InOrder
from operators.ordered_fold import row_dtype
from operators.watermark import NO_TIME, first_tick_after
from schemas.device_wire import (
    ALL_DATA_SENT,
    DATA_RECEIVED,
    DEVICE_WOKE_UP,
    SENSOR_BYTES,
    SENSOR_TYPE,
)
from schemas.stream import Int64s

__all__ = [
    "CELL",
    "COMPLETED",
    "REASONS",
    "ROW",
    "STATE",
    "SUPERSEDED",
    "TIMED_OUT",
    "WITHDRAWN",
    "Folded",
    "SessionRule",
    "fold",
    "pack",
]

COMPLETED, SUPERSEDED, TIMED_OUT, WITHDRAWN = range(4)
REASONS = ("completed", "superseded", "timeout", "withdrawn")

_NONE, _OPEN, _COMPLETE = range(3)

STATE = np.dtype(
    [
        ("start", "i8"),  # event time of the session's first event
        ("place", "i8"),  # and its place in the log
        ("last", "i8"),  # event time of the newest one; once complete, of the completion
        ("count", "i8"),
        ("sensors", "i8"),  # first cell; 0: none
        ("phase", "u1"),
    ],
    align=True,
)
"""A device's session; all zeros without one."""

CELL = np.dtype(
    [
        ("name", SENSOR_TYPE),
        ("count", "i8"),
        ("min", "f8"),
        ("max", "f8"),
        ("total", "f8"),  # of values times `_DOWN`, so that no sum overflows
        ("last", "f8"),
        ("next", "i8"),  # cell of the next sensor; 0: none
    ],
    align=True,
)
"""A sensor of a session. Cell 0 is none: its `next` leads the free cells, its `count` is
how many others have ever been used."""

ROW = row_dtype(
    [
        ("place", "i8"),  # of the first event: with `start` it names the session
        ("ended", "i8"),
        ("count", "i8"),
        ("sensors", "i8"),  # first of its sensors among those of the rows
        ("sensor_count", "i8"),
        ("reason", "u1"),
    ]
)

_DOWN, UP = 2.0**-40, 2.0**40
_WORDS = SENSOR_BYTES // 8


@dataclass(frozen=True, slots=True)
class SessionRule:
    """Parameters of sessions.

    Attributes:
        timeout_ms: how long a session lasts without an event, above 0.
    """

    timeout_ms: int = 4_000
    columns: ClassVar[Mapping[str, str]] = {"kind": "u1", "sensor": SENSOR_TYPE, "value": "f8"}
    sequence: ClassVar[None] = None


class Folded(NamedTuple):
    """What a call of `fold` found.

    Attributes:
        rows: (r,) records of sessions that have ended, in any order.
        sensors: (s,) cells of the rows' sensors, by name within a row.
        next_due_ms: when something is due next without a further event.
        starts: (n,) event time of the first event of each event's session.
        places: (n,) its place in the log.
    """

    rows: NDArray[Any]
    sensors: NDArray[Any]
    next_due_ms: int
    starts: Int64s
    places: Int64s


@njit(cache=True)
def _is_before(one: Any, other: Any) -> bool:  # noqa: ANN401  # cells
    for k in range(_WORDS):
        if one["name"][k] != other["name"][k]:
            return one["name"][k] < other["name"][k]  # type: ignore[no-any-return]
    return False


@njit(cache=True)
def _add(states: NDArray[Any], key: int, cells: NDArray[Any], name: Any, value: float) -> None:  # noqa: ANN401
    """Add a measurement to a session; there is room for a cell."""
    state = states[key]
    c = state["sensors"]
    while c > 0:
        same = True
        for k in range(_WORDS):
            same = same and cells[c]["name"][k] == name[k]
        if same:
            break
        c = cells[c]["next"]
    if c == 0:
        c = cells[0]["next"]
        if c > 0:
            cells[0]["next"] = cells[c]["next"]
        else:
            cells[0]["count"] += 1
            c = cells[0]["count"]
        cell = cells[c]
        for k in range(_WORDS):
            cell["name"][k] = name[k]
        cell["count"] = 0
        cell["min"] = value
        cell["max"] = value
        cell["total"] = 0.0
        cell["next"] = state["sensors"]
        state["sensors"] = c
    cell = cells[c]
    cell["count"] += 1
    cell["min"] = min(cell["min"], value)
    cell["max"] = max(cell["max"], value)
    cell["total"] += value * _DOWN
    cell["last"] = value


@njit(cache=True)
def _end(
    states: NDArray[Any],
    key: int,
    cells: NDArray[Any],
    reason: int,
    ended: int,
    tick: int,
    rows: NDArray[Any],
    n: int,
    sensors: NDArray[Any],
    s: int,
) -> tuple[NDArray[Any], int, NDArray[Any], int]:
    """Make the row of a key's session and let go of its state."""
    rows = room(rows, n, 1)
    state = states[key]
    row = rows[n]
    row["key"] = key
    row["revision"] = 0
    row["start"] = state["start"]
    row["tick"] = tick
    row["place"] = state["place"]
    row["ended"] = ended
    row["count"] = state["count"]
    row["reason"] = reason
    row["sensors"] = s
    c = state["sensors"]
    first = s
    while c > 0:
        sensors = room(sensors, s, 1)
        at = s
        while at > first and _is_before(cells[c], sensors[at - 1]):
            sensors[at] = sensors[at - 1]
            at -= 1
        sensors[at] = cells[c]
        sensors[at]["next"] = 0
        s += 1
        following = cells[c]["next"]
        cells[c]["next"] = cells[0]["next"]
        cells[0]["next"] = c
        c = following
    row["sensor_count"] = s - first
    states[key] = np.zeros(1, states.dtype)[0]
    return rows, n + 1, sensors, s


@njit(cache=True)
def _fold(
    keys: NDArray[np.int64],
    event_time_ms: NDArray[np.int64],
    place: NDArray[np.int64],
    kinds: NDArray[np.uint8],
    names: NDArray[np.uint64],
    values: NDArray[np.float64],
    limit_ms: int,
    timeout_ms: int,
    tick_ms: int,
    states: NDArray[Any],
    cells: NDArray[Any],
    rows: NDArray[Any],
    sensors: NDArray[Any],
    starts: NDArray[np.int64],
    places: NDArray[np.int64],
) -> tuple[NDArray[Any], int, NDArray[Any], int, int]:
    n = 0
    s = 0
    for i in range(len(keys)):
        key = keys[i]
        time = event_time_ms[i]
        state = states[key]
        phase = state["phase"]
        deadline = state["last"] + timeout_ms
        is_over = phase != _NONE and time >= deadline
        is_next = phase == _OPEN and kinds[i] == DEVICE_WOKE_UP
        is_next |= phase == _COMPLETE and kinds[i] != ALL_DATA_SENT
        if is_over or is_next:
            reason = COMPLETED
            ended = state["last"]
            if phase == _OPEN:
                reason = TIMED_OUT if is_over else SUPERSEDED
                ended = deadline if is_over else time
            end = deadline - 1 if is_over else time  # the last time at which it could change
            tick = first_tick_after(end, tick_ms)
            rows, n, sensors, s = _end(states, key, cells, reason, ended, tick, rows, n, sensors, s)
        if state["phase"] == _NONE:
            state["phase"] = _OPEN
            state["start"] = time
            state["place"] = place[i]
        if state["phase"] == _OPEN:
            state["last"] = time
        if kinds[i] == DATA_RECEIVED:
            _add(states, key, cells, names[i], values[i])
        elif kinds[i] == ALL_DATA_SENT:
            state["phase"] = _COMPLETE
        state["count"] += 1
        starts[i] = state["start"]
        places[i] = state["place"]
    next_due_ms = NO_TIME
    for key in range(len(states)):
        phase = states[key]["phase"]
        if phase != _NONE:
            deadline = states[key]["last"] + timeout_ms
            tick = first_tick_after(deadline - 1, tick_ms)
            if tick <= limit_ms:
                reason = COMPLETED if phase == _COMPLETE else TIMED_OUT
                ended = states[key]["last"] if phase == _COMPLETE else deadline
                rows, n, sensors, s = _end(
                    states, key, cells, reason, ended, tick, rows, n, sensors, s
                )
            else:
                next_due_ms = min(next_due_ms, tick)
    return rows, n, sensors, s, next_due_ms


def fold(
    rule: SessionRule,
    tick_ms: int,
    events: InOrder,
    limit_ms: int,
    states: NDArray[Any],
    cells: NDArray[Any],
) -> Folded:
    """Fold events into the sessions of their devices, then end those whose time has come.

    Args:
        rule: parameters.
        tick_ms: rows leave at multiples of it.
        events: (n,) events before `limit_ms` and not before any earlier limit.
        limit_ms: how far time has come, a multiple of the tick.
        states: (k,) records `STATE` by key code, changed.
        cells: records `CELL`, changed; with room for as many more as there are events.
    """
    starts, places = np.empty_like(events.keys), np.empty_like(events.keys)
    rows, n, sensors, s, next_due_ms = _fold(
        events.keys,
        events.event_time_ms,
        events.place,
        events.columns["kind"],
        events.columns["sensor"],
        events.columns["value"],
        limit_ms,
        rule.timeout_ms,
        tick_ms,
        states,
        cells,
        np.empty(64, ROW),
        np.empty(64, CELL),
        starts,
        places,
    )
    return Folded(rows[:n], sensors[:s], next_due_ms, starts, places)


@njit(cache=True)
def _pack(states: NDArray[Any], cells: NDArray[Any], packed: NDArray[Any]) -> int:
    n = 1
    for key in range(len(states)):
        c = states[key]["sensors"]
        if c > 0:
            states[key]["sensors"] = n
        while c > 0:
            packed[n] = cells[c]
            c = cells[c]["next"]
            packed[n]["next"] = n + 1 if c > 0 else 0
            n += 1
    return n


def pack(states: NDArray[Any], cells: NDArray[Any]) -> NDArray[Any]:
    """A copy of the cells of these states alone; the states are changed to it."""
    packed = np.zeros(int(cells[0]["count"]) + 1, CELL)
    n = _pack(states, cells, packed)
    packed[0]["count"] = n - 1
    return packed[:n]
