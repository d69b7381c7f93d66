"""Decodes what Debezium's PostgreSQL connector writes: change events and transaction markers.

Source of the format: Debezium documentation, "Debezium connector for PostgreSQL", data change
events and transaction metadata. Values are JSON with or without the schema beside the payload,
or Avro behind the wire format's header of a registry.

Contract: what cannot be used gives a reason, never an exception; only a registry that does not
answer is one, since that is no fault of the record. Tombstones, heartbeats and
BEGIN markers are nothing. Of a deleted row only the key is looked at: under the default replica
identity all else is null and means nothing.
"""

import io
import json
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, NamedTuple

import fastavro
from confluent_kafka.schema_registry.error import SchemaRegistryError

from schemas.errors import FlowError
from schemas.registry import Registry
from schemas.registry_client import client_of
from schemas.transactions import (
    INVALID_VALUE,
    TRUNCATE,
    UNCHANGED,
    UNKNOWN_OP,
    CapturedTable,
    RowChange,
)

__all__ = [
    "UNDECODABLE",
    "WITHOUT_TRANSACTION",
    "AvroValues",
    "End",
    "Event",
    "Rejected",
    "as_json",
    "decode_end",
    "decode_event",
]

UNDECODABLE = "undecodable"
WITHOUT_TRANSACTION = "without_transaction"
"""Reasons for a reject: bytes or an envelope that cannot be read; a change that names no
transaction, as when the connector runs without `provide.transaction.metadata`."""

_UNAVAILABLE = "__debezium_unavailable_value"
_DURING_STREAM = ("incremental", "false")


class Event(NamedTuple):
    """A change event.

    Attributes:
        change: of a row; None when it cannot be used.
        transaction: id of its transaction; None for a row of a snapshot.
        order: its place among the events of its transaction.
        lsn: of the change; of the snapshot's moment for a row of one.
        committed_us: commit time of the transaction, or time of the snapshot.
        op: c, u, d, r or another.
        snapshot: the mark of a row of the initial snapshot, such as first, true or last; empty
            for every other event.
    """

    change: RowChange | None
    transaction: int | None
    order: int
    lsn: int
    committed_us: int
    op: str
    snapshot: str = ""


class End(NamedTuple):
    """The end of a transaction.

    Attributes:
        transaction: its id.
        lsn: end of its commit.
        counts: number of events by table, such as `public.engines`.
    """

    transaction: int
    lsn: int
    counts: dict[str, int]


class Rejected(NamedTuple):
    """Why a record cannot be used, and what of it still counts for its transaction."""

    reason: str
    event: Event | None = None


Read = Callable[[bytes], Any]
"""From bytes to the payload; raises whatever it likes."""


def as_json(value: bytes) -> Any:  # noqa: ANN401  # anything that JSON holds
    """The payload of a JSON value, with or without its schema."""
    found = json.loads(value)
    if isinstance(found, dict) and found.keys() == {"schema", "payload"}:
        return found["payload"]
    return found


class AvroValues:
    """Reads Avro values with the schemas of a registry, each fetched once.

    Args:
        registry: where they are.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._schemas: dict[int, Any] = {}

    def __call__(self, value: bytes) -> Any:  # noqa: ANN401  # a record of the schema
        """The record in a value.

        Raises:
            FlowError: The registry does not answer, which is no fault of the value.
            Exception: It is none, or the registry does not know its schema.
        """
        if value[0] != 0:
            raise ValueError("no wire format")
        number = int.from_bytes(value[1:5], "big")
        if number not in self._schemas:
            self._schemas[number] = fastavro.parse_schema(self._fetch(number))
        return fastavro.schemaless_reader(io.BytesIO(value[5:]), self._schemas[number])

    def _fetch(self, number: int) -> Any:  # noqa: ANN401  # a schema as JSON
        try:
            with client_of(self._registry) as client:
                return json.loads(client.get_schema(number).schema_str or "")
        except SchemaRegistryError as error:
            if error.http_status_code == HTTPStatus.NOT_FOUND:
                raise
            reason = error.error_message
        except Exception as error:  # noqa: BLE001  # the client lets its HTTP library's through
            reason = str(error)
        raise FlowError(
            f"The schema registry at SCHEMA_REGISTRY_URL does not give schema {number} ({reason})",
            "Start it or correct the address, then start again: the flow goes on where it was.",
        )


def decode_event(value: bytes | None, table: CapturedTable, read: Read) -> Event | Rejected | None:
    """A record of a table's topic; None when it has no effect."""
    if value is None:
        return None
    try:
        payload = read(value)
        if payload is None or (isinstance(payload, dict) and payload.keys() == {"ts_ms"}):
            return None  # a tombstone with its schema, or a heartbeat
        source, op = payload["source"], payload["op"]
        mark = str(source.get("snapshot") or "false")
        told = payload.get("transaction") or {"id": "", "total_order": 0}
        number = str(told["id"]).partition(":")[0]
        micros = source.get("ts_us") or int(source["ts_ms"]) * 1_000
        event = Event(
            None,
            int(number) if number else None,
            int(told["total_order"]),
            int(source["lsn"]),
            int(micros),
            str(op),
            "" if mark in _DURING_STREAM else mark,
        )
    except FlowError:
        raise
    except Exception:  # noqa: BLE001  # whatever the bytes make of any reader
        return Rejected(UNDECODABLE)
    if event.transaction is None and op != "r":
        return Rejected(WITHOUT_TRANSACTION)
    change = _change(table, op, payload)
    if isinstance(change, str):
        return Rejected(change, event)
    return event._replace(change=change)


def _change(table: CapturedTable, op: str, payload: dict[str, Any]) -> RowChange | str:
    if op == "t":
        return TRUNCATE
    if op not in ("c", "u", "r", "d"):
        return UNKNOWN_OP
    row = payload.get("before" if op == "d" else "after")
    if not isinstance(row, dict):
        return INVALID_VALUE
    if op == "d":
        return table.deletion(row)
    if _UNAVAILABLE in row.values():
        row = {n: UNCHANGED if v == _UNAVAILABLE else v for n, v in row.items()}
    return table.change(row)


def decode_end(value: bytes | None, read: Read) -> End | Rejected | None:
    """A record of the transaction topic; None when it has no effect."""
    if value is None:
        return None
    try:
        payload = read(value)
        if payload is None or payload.get("status") == "BEGIN":
            return None
        if payload["status"] != "END":
            return Rejected(UNKNOWN_OP)
        number, _, lsn = str(payload["id"]).partition(":")
        counts = {
            str(one["data_collection"]): int(one["event_count"])
            for one in payload.get("data_collections") or ()
        }
        return End(int(number), int(lsn), counts)
    except FlowError:
        raise
    except Exception:  # noqa: BLE001  # whatever the bytes make of any reader
        return Rejected(UNDECODABLE)
