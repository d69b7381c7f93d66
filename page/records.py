"""Records of the result topics as rows: the same rows as in the tables, to the letter."""

import io
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import fastavro
import pyarrow as pa
from google.protobuf.message import DecodeError, Message

from page.kinds import Kind, Row, make_row
from page.values import time_text
from schemas import market_pb2
from schemas.avro_files import avro_text
from schemas.wire import strip_header

__all__ = ["Decode", "decoder"]

Decode = Callable[[Sequence[bytes]], tuple[list[Row], int]]
"""Values to rows, and how many of them could not be read."""

_MESSAGES: dict[str, type[Message]] = {
    "candle": market_pb2.Candle,
    "preview": market_pb2.Candle,
    "statistics": market_pb2.Statistics,
    "ewma": market_pb2.Ewma,
}
_HEADER_BYTES = 5
_SESSION = fastavro.parse_schema(json.loads(avro_text("sessions.avsc")))
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def decoder(kind: Kind, *, is_framed: bool) -> Decode:
    """How to read the values of a kind.

    Args:
        kind: of all records in a topic.
        is_framed: whether values carry the schema registry's header; sales never do.
    """
    read = _reader(kind, is_framed=is_framed)

    def decode(values: Sequence[bytes]) -> tuple[list[Row], int]:
        if is_framed and kind.name in _MESSAGES:
            values = strip_header(pa.array(values, pa.binary()))[0].to_pylist()
        rows, unreadable = [], 0
        for value in values:
            try:
                rows.append(make_row(kind, read(value)))
            except (DecodeError, ValueError, LookupError, TypeError, EOFError):
                unreadable += 1
        return rows, unreadable

    return decode


def _reader(kind: Kind, *, is_framed: bool) -> Callable[[bytes], dict[str, Any]]:
    if kind.name == "session":
        start = _HEADER_BYTES if is_framed else 0
        return lambda value: _from_avro(kind, value[start:])
    if kind.name == "sales":
        return lambda value: _from_json(kind, value)
    message = _MESSAGES[kind.name]
    return lambda value: _from_message(kind, message.FromString(value))


def _from_message(kind: Kind, message: Message) -> dict[str, Any]:
    """A message has 0 or the empty text where a table has null."""
    if not getattr(message, kind.group[0]):
        raise ValueError("no key")
    values = {}
    for column in kind.table.columns:
        is_time = f"{column.name}_ms" in message.DESCRIPTOR.fields_by_name
        value: Any = getattr(message, f"{column.name}_ms" if is_time else column.name)
        if not value and column.nullable:
            value = None
        elif is_time:
            value = time_text(value)
        values[column.name] = value
    return values


def _from_json(kind: Kind, value: bytes) -> dict[str, Any]:
    given = json.loads(value)
    return {column.name: given[column.name] for column in kind.table.columns}


def _from_avro(kind: Kind, value: bytes) -> dict[str, Any]:
    given: Any = fastavro.schemaless_reader(io.BytesIO(value), _SESSION, None)
    return {
        name: time_text((part - _EPOCH) // _MILLISECOND) if isinstance(part, datetime) else part
        for name, part in ((column.name, given[column.name]) for column in kind.table.columns)
    }


_MILLISECOND = datetime.resolution * 1_000
