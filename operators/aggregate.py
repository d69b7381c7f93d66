"""Mergeable aggregates: what a pane holds of one key.

An aggregate is a record dtype, functions over single records of it, and the two ends:
`lift` makes partials of events, `lower` makes rows of finished windows. Kernels in
`operators.windows` are written once against the names below; for a given dtype the
functions registered for it are compiled in (and called as they are when a kernel runs
uncompiled).

Contract of an aggregate:
* `merge(into, other)` is commutative and associative on every field, bit for bit.
* `carry(gap, previous)` makes `gap`, a record without events, follow `previous`; returns
  whether that changed its row.
* `link(record, previous)` sets what a record says of its predecessor and returns whether
  that changed it; `previous` is the record itself when there is none.
* the dtype has the fields of its `Aggregate.dtype`, and `count` among them: 0 is a gap.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numba import types
from numba.extending import overload
from numpy.typing import NDArray

from operators.panes import Groups
from schemas.stream import Events

__all__ = ["Aggregate", "carry", "cell_dtype", "link", "merge", "partial_dtype", "register"]


@dataclass(frozen=True, slots=True)
class Aggregate:
    """An aggregate.

    Attributes:
        name: unique; becomes a marker field of the dtype.
        fields: NumPy fields of the aggregate, `count` among them.
        merge: `(into, other) -> None`.
        carry: `(gap, previous) -> bool`.
        link: `(record, previous) -> bool`.
        lift: `(events, groups) -> partials`: an (m,) array of the partial dtype, one per
            group, filled from the events' columns.
        lower: `(cells, names, intervals_ms, closed) -> rows`.
    """

    name: str
    fields: tuple[tuple[str, str], ...]
    merge: Callable[[Any, Any], None]
    carry: Callable[[Any, Any], bool]
    link: Callable[[Any, Any], bool]
    lift: Callable[[Events, Groups], NDArray[Any]]
    lower: Callable[[NDArray[Any], Sequence[str], Sequence[int], bool], pa.RecordBatch]

    @property
    def marker(self) -> str:
        """The dtype field by which functions find this aggregate."""
        return f"is_{self.name}"


_REGISTRY: dict[str, Aggregate] = {}


def register(aggregate: Aggregate) -> Aggregate:
    """Make kernels accept records of this aggregate."""
    _REGISTRY[aggregate.marker] = aggregate
    return aggregate


def _dtype(aggregate: Aggregate, head: list[tuple[str, str]]) -> np.dtype[Any]:
    return np.dtype([*head, *aggregate.fields, (aggregate.marker, "u1")], align=True)


def partial_dtype(aggregate: Aggregate) -> np.dtype[Any]:
    """Record of a partial: the aggregate of one (key, pane, effective tick).

    `key` indexes a list of names that travels with the array; `pane` is the pane's start
    and `tick` the effective tick, both int64 ms.
    """
    return _dtype(aggregate, [("key", "i4"), ("pane", "i8"), ("tick", "i8")])


def cell_dtype(aggregate: Aggregate) -> np.dtype[Any]:
    """Record of a window of one key, a cell in `operators.windows`' table.

    `interval` is an index; `start`, `end` and `tick` (of the last emission) are ms; `since`
    is the end of the last window with events, up to this one; `newer` and `older` link the
    cells of a (key, interval) by start, -1 for none; `emitted` counts emissions, so the next
    one has that revision.
    """
    return _dtype(
        aggregate,
        [
            ("key", "i4"),
            ("interval", "i4"),
            ("start", "i8"),
            ("end", "i8"),
            ("tick", "i8"),
            ("since", "i8"),
            ("newer", "i4"),
            ("older", "i4"),
            ("emitted", "i4"),
            ("used", "u1"),
            ("is_open", "u1"),
            ("dirty", "u1"),
        ],
    )


def _of_record(record: Any) -> Aggregate:  # noqa: ANN401  # a NumPy record
    return next(a for marker, a in _REGISTRY.items() if marker in record.dtype.names)


def merge(into: Any, other: Any) -> None:  # noqa: ANN401  # NumPy records
    """Add what `other` holds to `into`."""
    _of_record(into).merge(into, other)


def carry(gap: Any, previous: Any) -> bool:  # noqa: ANN401  # NumPy records
    """Let a gap follow `previous`; whether that changed its row."""
    return _of_record(gap).carry(gap, previous)


def link(record: Any, previous: Any) -> bool:  # noqa: ANN401  # NumPy records
    """Compare a record with its predecessor; whether that changed it."""
    return _of_record(record).link(record, previous)


def _implementation(record: types.Type, name: str) -> Callable[..., Any] | None:
    names = getattr(record, "fields", {})
    for marker, aggregate in _REGISTRY.items():
        if marker in names:
            function: Callable[..., Any] = getattr(aggregate, name)
            return getattr(function, "py_func", function)
    return None


@overload(merge, strict=False)
def _merge(into: types.Type, other: types.Type) -> Callable[..., Any] | None:  # noqa: ARG001
    return _implementation(into, "merge")


@overload(carry, strict=False)
def _carry(gap: types.Type, previous: types.Type) -> Callable[..., Any] | None:  # noqa: ARG001
    return _implementation(gap, "carry")


@overload(link, strict=False)
def _link(record: types.Type, previous: types.Type) -> Callable[..., Any] | None:  # noqa: ARG001
    return _implementation(record, "link")
