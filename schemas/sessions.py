"""Rows of the sessions flow: their columns, and their Avro form.

`SESSION_SCHEMA` has the columns of the table `sessions`, in its order, and the fields of
`sessions.avsc`. A re-keyed event has its own bytes.
"""

import pyarrow as pa
import pyruhvro

from schemas.avro_files import avro_text

__all__ = ["SENSOR", "SESSION_EVENT_SCHEMA", "SESSION_SCHEMA", "encode_session"]

_UTC_MS = pa.timestamp("ms", tz="UTC")
_TEXT = avro_text("sessions.avsc")
_AVRO: pa.Schema = pyruhvro.avro_to_arrow_schema(_TEXT)

SENSOR = pa.struct(
    [
        ("count", pa.int64()),
        ("min", pa.float64()),
        ("max", pa.float64()),
        ("mean", pa.float64()),
        ("last", pa.float64()),
    ]
)

SESSION_SCHEMA = pa.schema(
    [
        ("device", pa.string()),
        ("session_id", pa.string()),
        ("started_at", _UTC_MS),
        ("ended_at", _UTC_MS),
        ("reason", pa.string()),
        ("event_count", pa.int64()),
        ("sensors", pa.map_(pa.string(), SENSOR)),  # in the order of the names' bytes
        ("revision", pa.int32()),
    ]
)

SESSION_EVENT_SCHEMA = pa.schema(
    [("key", pa.string()), ("event_time", _UTC_MS), ("value", pa.large_binary())]
)
"""Re-keyed events; the bytes are those of the input."""


def encode_session(rows: pa.RecordBatch) -> pa.BinaryArray:
    """(n,) Avro values of (n,) rows, by `sessions.avsc`."""
    columns = [column.cast(field.type) for column, field in zip(rows.columns, _AVRO, strict=True)]
    (values,) = pyruhvro.serialize_record_batch(pa.record_batch(columns, schema=_AVRO), _TEXT, 1)
    return values
