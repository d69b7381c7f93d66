"""What a change data capture hands on: whole transactions of a source database, in order.

A `Transaction` is the unit: its changes took effect together in the source and are to become
visible together. Sources of every kind give the same stream of transactions for the same
history, so what is computed from them does not depend on how they were captured.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal, NamedTuple

from schemas.origin import Origin
from schemas.stream import Output

__all__ = [
    "INVALID_VALUE",
    "SCHEMA_CHANGE",
    "TRUNCATE",
    "UNCHANGED",
    "UNKNOWN_OP",
    "Captured",
    "CapturedTable",
    "Column",
    "RowChange",
    "Transaction",
    "Unchanged",
]

TRUNCATE = "truncate"
SCHEMA_CHANGE = "schema_change"
UNKNOWN_OP = "unknown_op"
INVALID_VALUE = "invalid_value"
"""Reasons for a reject that every capture knows: the table was emptied as a whole; a column is
missing; another kind of change; a value that is none of its column's."""

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Unchanged(Enum):
    """Stands for a value that the source did not repeat, since it did not change."""

    UNCHANGED = "unchanged"


UNCHANGED = Unchanged.UNCHANGED


class RowChange(NamedTuple):
    """One row as a transaction left it.

    Whether it was inserted, updated or read from a snapshot makes no difference: what comes
    again has no effect.

    Attributes:
        table: name, without schema.
        key: primary key as text.
        row: values in the order of the table's columns, each None, UNCHANGED or of the
            column's kind; None when the row was deleted.
    """

    table: str
    key: str
    row: tuple[Any, ...] | None


class Transaction(NamedTuple):
    """What one transaction did.

    Attributes:
        lsn: end of its commit in the source's log; rises from transaction to transaction.
            An initial snapshot counts as a transaction at the place where it was taken.
        committed_us: commit time by the source's clock, microseconds since the epoch.
        changes: in the order in which they were made.
    """

    lsn: int
    committed_us: int
    changes: Sequence[RowChange]


class Captured(NamedTuple):
    """What a source hands on at a time.

    Attributes:
        transactions: in order of `lsn`.
        rejected: rows for the dead letters, see `schemas.tables.REJECTED`.
        origin: of what came at a time, for metrics and traces; no part of what is computed.
    """

    transactions: Sequence[Transaction]
    rejected: Sequence[Output]
    origin: Origin | None = None


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a captured table.

    Attributes:
        name: as in the source.
        kind: of its values: int (64 bits), text, or uuid (text in its canonical form).
    """

    name: str
    kind: Literal["int", "text", "uuid"]

    def holds(self, value: object) -> bool:
        """Whether a value is one of this column; null is."""
        if value is None or value is UNCHANGED:
            return True
        if self.kind == "int":
            return type(value) is int and -(2**63) <= value < 2**63
        if not isinstance(value, str):
            return False
        return self.kind == "text" or _UUID.fullmatch(value) is not None


@dataclass(frozen=True, slots=True)
class CapturedTable:
    """A table of the source.

    Attributes:
        name: without schema.
        key: its primary key.
        columns: those that matter besides; others may come and go.
    """

    name: str
    key: Column
    columns: tuple[Column, ...]

    def change(self, after: Mapping[str, object]) -> RowChange | str:
        """A row as it is now, from its values by column name; the reason when it is none."""
        try:
            key = after[self.key.name]
            row = tuple([after[column.name] for column in self.columns])
        except KeyError:
            return SCHEMA_CHANGE
        if not isinstance(key, str) or not self.key.holds(key):
            return INVALID_VALUE
        for column, value in zip(self.columns, row, strict=True):
            if not column.holds(value):
                return INVALID_VALUE
        return RowChange(self.name, key, row)

    def deletion(self, before: Mapping[str, object]) -> RowChange | str:
        """A row that is gone, from its key: other values mean nothing, whatever they are."""
        key = before.get(self.key.name)
        if key is None:
            return SCHEMA_CHANGE
        if not isinstance(key, str) or not self.key.holds(key):
            return INVALID_VALUE
        return RowChange(self.name, key, None)
