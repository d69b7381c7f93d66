"""Decodes what PostgreSQL's plugin pgoutput sends, protocol version 1, into transactions.

Source of the format: PostgreSQL documentation, "Logical Replication Message Formats". A message
is one byte of kind and fields in network order; texts end with a zero byte. A transaction comes
whole, between Begin and Commit, and transactions come in order of their commits.

Contract: a change that cannot be used is set aside with its bytes and a reason, and does not
disturb its transaction. Only the key of a deleted row is looked at: what else the message may
hold of it means nothing unless the table's replica identity is FULL.
"""

import struct
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from schemas.transactions import (
    INVALID_VALUE,
    SCHEMA_CHANGE,
    TRUNCATE,
    UNCHANGED,
    UNKNOWN_OP,
    CapturedTable,
    Column,
    RowChange,
    Transaction,
)

__all__ = ["PG_EPOCH_US", "Decoded", "PgOutput", "RejectedMessage"]

PG_EPOCH_US = 946_684_800_000_000
"""PostgreSQL counts microseconds from 2000-01-01 on; in microseconds since 1970."""

_COMMIT = struct.Struct("!xBqqq")
_RELATION = struct.Struct("!xi")
_COLUMN = struct.Struct("!ii")
_COUNT = struct.Struct("!h")
_LENGTH = struct.Struct("!i")
_TRUNCATE = struct.Struct("!xiB")
_QUIET = frozenset(b"OYM")  # origin, type, message: nothing to capture


class RejectedMessage(NamedTuple):
    """A change that could not be used.

    Attributes:
        lsn: its place in the source's log.
        reason: why.
        message: as it came.
    """

    lsn: int
    reason: str
    message: bytes


class Decoded(NamedTuple):
    """A transaction, and what of it could not be used."""

    transaction: Transaction
    rejected: list[RejectedMessage]


class _Relation(NamedTuple):
    table: CapturedTable | None  # None for one that is not captured
    names: list[str]
    key: int  # index of the key; -1 without
    columns: list[tuple[int, Callable[[bytes], Any]]] | None  # index and reader of each
    read_key: Callable[[bytes], Any]


class _UnusableError(Exception):
    """Carries a reason."""


def _text(value: bytes) -> str:
    return value.decode()


_READERS: dict[str, Callable[[bytes], Any]] = {"int": int, "text": _text, "uuid": _text}


class PgOutput:
    """One stream's decoder; begin anew with each connection.

    Args:
        tables: what to capture, by name.
        schema: where the tables are.
    """

    def __init__(self, tables: Mapping[str, CapturedTable], schema: str = "public") -> None:
        self._tables = tables
        self._schema = schema
        self._relations: dict[int, _Relation] = {}
        self._changes: list[RowChange] = []
        self._rejected: list[RejectedMessage] = []

    def take(self, lsn: int, message: bytes) -> Decoded | None:
        """Take in a message; a transaction when it is complete.

        Args:
            lsn: place of the message in the source's log.
            message: its bytes.
        """
        kind = message[0]
        try:
            if kind in b"IUD":
                self._change(kind, message)
            elif kind == ord("B"):
                self._changes, self._rejected = [], []
            elif kind == ord("C"):
                return self._commit(message)
            elif kind == ord("R"):
                self._describe(message)
            elif kind == ord("T"):
                self._truncate(message)
            elif kind not in _QUIET:
                raise _UnusableError(UNKNOWN_OP)  # noqa: TRY301  # one place sets aside
        except _UnusableError as error:
            self._rejected.append(RejectedMessage(lsn, error.args[0], message))
        except (ValueError, IndexError, struct.error):
            self._rejected.append(RejectedMessage(lsn, INVALID_VALUE, message))
        return None

    def _commit(self, message: bytes) -> Decoded:
        _, _, end_lsn, committed_us = _COMMIT.unpack_from(message)
        transaction = Transaction(end_lsn, committed_us + PG_EPOCH_US, self._changes)
        decoded = Decoded(transaction, self._rejected)
        self._changes, self._rejected = [], []
        return decoded

    def _describe(self, message: bytes) -> None:
        """A relation: sent before its first change, and again after its columns changed."""
        (oid,) = _RELATION.unpack_from(message)
        schema, at = _string(message, _RELATION.size)
        name, at = _string(message, at)
        (count,) = _COUNT.unpack_from(message, at + 1)  # behind the replica identity
        at += 1 + _COUNT.size
        names = []
        for _ in range(count):
            column, at = _string(message, at + 1)  # behind the flags
            names.append(column)
            at += _COLUMN.size
        table = self._tables.get(name) if schema == self._schema else None
        self._relations[oid] = _relation(table, names)

    def _change(self, kind: int, message: bytes) -> None:
        (oid,) = _RELATION.unpack_from(message)
        relation = self._relations[oid] if oid in self._relations else _relation(None, [])
        table, at = relation.table, _RELATION.size
        if table is None:
            return
        if relation.key < 0 or relation.columns is None:
            raise _UnusableError(SCHEMA_CHANGE)
        old = None
        if message[at] in b"KO":
            old, at = _values(message, at + 1)
        if kind == ord("D"):
            self._delete(table, relation, old)
            return
        values, _ = _values(message, at + 1)
        key = self._key(relation, table.key, values[relation.key])
        row = tuple(
            [
                read(value) if isinstance(value := values[index], bytes) else value
                for index, read in relation.columns
            ]
        )
        for column, value in zip(table.columns, row, strict=True):
            if column.kind == "int" and not column.holds(value):
                raise _UnusableError(INVALID_VALUE)
        if old is not None and self._key(relation, table.key, old[relation.key]) != key:
            self._delete(table, relation, old)  # another key: another row
        self._changes.append(RowChange(table.name, key, row))

    def _delete(self, table: CapturedTable, relation: _Relation, old: list[Any] | None) -> None:
        if old is None:
            raise _UnusableError(SCHEMA_CHANGE)  # no replica identity
        key = self._key(relation, table.key, old[relation.key])
        self._changes.append(RowChange(table.name, key, None))

    def _key(self, relation: _Relation, column: Column, value: object) -> str:
        key = relation.read_key(value) if isinstance(value, bytes) else value
        if not isinstance(key, str) or not column.holds(key):
            raise _UnusableError(INVALID_VALUE)
        return key

    def _truncate(self, message: bytes) -> None:
        count, _ = _TRUNCATE.unpack_from(message)
        oids = struct.unpack_from(f"!{count}i", message, _TRUNCATE.size)
        if any(oid in self._relations and self._relations[oid].table for oid in oids):
            raise _UnusableError(TRUNCATE)


def _relation(table: CapturedTable | None, names: list[str]) -> _Relation:
    if table is None:
        return _Relation(None, names, -1, None, _text)
    key = names.index(table.key.name) if table.key.name in names else -1
    columns = None
    if all(column.name in names for column in table.columns):
        columns = [(names.index(c.name), _READERS[c.kind]) for c in table.columns]
    return _Relation(table, names, key, columns, _READERS[table.key.kind])


def _string(message: bytes, at: int) -> tuple[str, int]:
    end = message.index(0, at)
    return message[at:end].decode(), end + 1


def _values(message: bytes, at: int) -> tuple[list[Any], int]:
    """A row's values as text, None or UNCHANGED; and where it ends."""
    (count,) = _COUNT.unpack_from(message, at)
    at += _COUNT.size
    values: list[Any] = []
    for _ in range(count):
        kind = message[at]
        at += 1
        if kind == 116:  # t, by far the most frequent  # noqa: PLR2004
            (length,) = _LENGTH.unpack_from(message, at)
            at += _LENGTH.size
            values.append(message[at : at + length])
            at += length
        elif kind == ord("n"):
            values.append(None)
        elif kind == ord("u"):
            values.append(UNCHANGED)
        else:
            raise _UnusableError(UNKNOWN_OP)
    return values, at
