"""Writers' schemas of device events: ours, and those that can be read as ours.

A schema that differs from `devices.avsc` only in names and in the order of the union is read
by the compiled reader. Any other that Avro's resolution rules bring together with ours is
left to fastavro, record by record: about 5 us each, against 60 ns.
"""

import io
import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import fastavro
import numpy as np
from fastavro.read import SchemaResolutionError
from numpy.typing import NDArray

from schemas.avro_files import avro_text
from schemas.device_wire import ALL_DATA_SENT, DATA_RECEIVED, KINDS

__all__ = [
    "FOREIGN",
    "INCOMPATIBLE",
    "OURS",
    "UNKNOWN",
    "LibraryEvent",
    "WriterSchemas",
    "read_by_library",
]

OURS = 0
"""Index of our own schema among those of a `WriterSchemas`."""

UNKNOWN, INCOMPATIBLE, FOREIGN = -1, -2, -3
"""Instead of an index: no such schema; one that is no envelope; one for the library."""

_MOST_SCHEMAS = 10_000
_MILLIS = (None, "timestamp-millis")
_ALIASES = {"AllDataReceived": ALL_DATA_SENT}
_KIND_OF = {name: kind for kind, name in enumerate(KINDS)} | _ALIASES
_NONE_OF_OURS = -1


def _plain(schema: Any) -> Any:  # noqa: ANN401  # JSON
    """Without logical types: a time is a number then."""
    if isinstance(schema, dict):
        return {name: _plain(part) for name, part in schema.items() if name != "logicalType"}
    return [_plain(part) for part in schema] if isinstance(schema, list) else schema


_ENVELOPE = fastavro.parse_schema(_plain(json.loads(avro_text("devices.avsc"))))


class LibraryEvent(NamedTuple):
    """One value as fastavro reads it."""

    kind: int
    sensor: str
    value: float
    time_ms: int


def read_by_library(value: bytes, writer: Any = _ENVELOPE) -> LibraryEvent | None:  # noqa: ANN401
    """One value of a writer's schema; None when it is none, to the last byte.

    The library is more lenient than the compiled reader: it takes -1 for the last branch of
    a union, and varints of any length.

    Args:
        value: without header.
        writer: parsed by fastavro, without logical types.

    Raises:
        SchemaResolutionError: It cannot be read as an envelope.
    """
    rest = io.BytesIO(value)
    try:
        message: Any = fastavro.schemaless_reader(rest, writer, _ENVELOPE, return_record_name=True)
    except SchemaResolutionError:
        raise
    except Exception:  # noqa: BLE001  # the library names no class for what bytes can do to it
        return None
    if rest.tell() != len(value):
        return None
    name, fields = message["event"]
    kind = KINDS.index(name.rpartition(".")[2])
    if kind != DATA_RECEIVED:
        return LibraryEvent(kind, "", 0.0, message["timestamp"])
    return LibraryEvent(kind, fields["name"], fields["value"], message["timestamp"])


class WriterSchemas:
    """The schemas of a batch's values, looked up once.

    Args:
        lookup: text of an Avro schema by its id, None when there is none; see
            `schemas.avro_registry.AvroRegistry`. None without a registry: all values are of
            our own schema.
    """

    def __init__(self, lookup: Callable[[int], str | None] | None = None) -> None:
        self._lookup = lookup
        self._forget()

    def _forget(self) -> None:
        self._index: dict[int, int] = {}
        self._foreign: dict[int, Any] = {}
        self._kinds = [list(range(len(KINDS)))]
        self.kind_of = _table(self._kinds)

    def start_batch(self) -> None:
        """Let go of all schemas where they have become very many."""
        if len(self._index) >= _MOST_SCHEMAS:
            self._forget()

    def index(self, schema_id: int) -> int:
        """Which of `kind_of` the schema is; or `UNKNOWN`, `INCOMPATIBLE` or `FOREIGN`."""
        index = self._index.get(schema_id)
        if index is None:
            text = None if self._lookup is None else self._lookup(schema_id)
            index = self._index[schema_id] = UNKNOWN if text is None else self._add(schema_id, text)
        return index

    def can_read(self, text: str) -> bool:
        """Whether values of an Avro schema can be events of ours."""
        return WriterSchemas(lambda _: text).index(0) != INCOMPATIBLE

    def foreign(self, schema_id: int) -> Any:  # noqa: ANN401  # parsed by fastavro
        """A schema whose index is `FOREIGN`, for `read_by_library`."""
        return self._foreign[schema_id]

    def _add(self, schema_id: int, text: str) -> int:
        try:
            schema = json.loads(text)
            kinds = _kinds(schema)
            if kinds is None:
                if not _counts_milliseconds(schema):
                    return INCOMPATIBLE
                self._foreign[schema_id] = fastavro.parse_schema(_plain(schema))
                return FOREIGN
        except (
            ValueError,
            KeyError,
            TypeError,
            AttributeError,
            fastavro.schema.SchemaParseException,
        ):
            return INCOMPATIBLE
        if kinds not in self._kinds:
            self._kinds.append(kinds)
            self.kind_of = _table(self._kinds)
        return self._kinds.index(kinds)


def _table(kinds: list[list[int]]) -> NDArray[np.int8]:
    """(s, b) kinds by schema and index in the union, filled up with what is none."""
    table = np.full((len(kinds), max(map(len, kinds))), _NONE_OF_OURS, np.int8)
    for row, own in zip(table, kinds, strict=True):
        row[: len(own)] = own
    return table


def _kinds(schema: Any) -> list[int] | None:  # noqa: ANN401  # JSON
    """Kinds by index in the union of a schema of our shape; None of another shape."""
    if not _is_record(schema, "event", "timestamp") or not _counts_milliseconds(schema):
        return None
    union, timestamp = (field["type"] for field in schema["fields"])
    if _plain(timestamp) not in ("long", {"type": "long"}) or not isinstance(union, list):
        return None
    kinds = [_kind(branch) for branch in union]
    return None if None in kinds else [kind for kind in kinds if kind is not None]


def _kind(branch: Any) -> int | None:  # noqa: ANN401  # JSON
    """What a branch of the union is; None for what is no event of ours."""
    if not isinstance(branch, dict):
        return None
    kind = _KIND_OF.get(str(branch.get("name")).rpartition(".")[2])
    if kind != DATA_RECEIVED:
        return kind if _is_record(branch) else None
    if not _is_record(branch, "name", "value"):
        return None
    types = [field["type"] for field in branch["fields"]]
    return kind if types in (["string", "double"], [_JAVA_STRING, "double"]) else None


_JAVA_STRING: Mapping[str, str] = {"type": "string", "avro.java.string": "String"}


def _is_record(schema: Any, *fields: str) -> bool:  # noqa: ANN401  # JSON
    return (
        isinstance(schema, dict)
        and schema.get("type") == "record"
        and [field["name"] for field in schema["fields"]] == list(fields)
    )


def _counts_milliseconds(schema: Any) -> bool:  # noqa: ANN401  # JSON
    """Whether the timestamp has our unit, which resolution would not look at."""
    for field in schema["fields"]:
        if field["name"] == "timestamp" and isinstance(field["type"], dict):
            return field["type"].get("logicalType") in _MILLIS
    return True
