"""Vehicles and their engines: the captured tables, published changes, and their rows.

`change_rows` makes of published changes both the current state, for the table `vehicles`, and
the message `Change` of `schemas/vehicles.proto`, for the topic. Cost: about 10 us a change.
"""

from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any, Literal, NamedTuple

import pyarrow as pa

from schemas.transactions import CapturedTable, Column
from schemas.vehicles_pb2 import Change, Engine, Vehicle

__all__ = [
    "CAPTURED",
    "CHANGE_SCHEMA",
    "ENGINES",
    "VEHICLES_CAPTURED",
    "EngineRow",
    "PublishedChange",
    "PublishedState",
    "VehicleRow",
    "change_line",
    "change_message",
    "change_rows",
    "encode_changes",
]

VEHICLES_CAPTURED = CapturedTable(
    "vehicles",
    Column("vehicle_uuid", "uuid"),
    (Column("year_of_manufacture", "int"), Column("model", "text")),
)
ENGINES = CapturedTable(
    "engines",
    Column("engine_uuid", "uuid"),
    (
        Column("vehicle_uuid", "uuid"),  # the owner comes first: see OWNER
        Column("year_of_manufacture", "int"),
        Column("manufacturer", "text"),
        Column("maximum_engine_speed", "int"),
        Column("maximum_mileage_resource", "int"),
        Column("remaining_mileage_resource", "int"),
    ),
)
CAPTURED = {table.name: table for table in (VEHICLES_CAPTURED, ENGINES)}
"""The captured tables by name."""

VehicleRow = tuple[Any, ...]
"""Values of `VEHICLES_CAPTURED.columns`."""

EngineRow = tuple[Any, ...]
"""Values of `ENGINES.columns`; the first is the uuid of the vehicle, or None."""

_VEHICLE_FIELDS = [column.name for column in VEHICLES_CAPTURED.columns]
_ENGINE_FIELDS = [column.name for column in ENGINES.columns][1:]
_US = 1_000_000


class PublishedState(NamedTuple):
    """A vehicle as consumers know it.

    Attributes:
        vehicle: its row.
        engine_uuid: None without an engine.
        engine: row of the engine; None without.
    """

    vehicle: VehicleRow
    engine_uuid: str | None
    engine: EngineRow | None

    def differences(self, other: "PublishedState") -> list[str]:
        """Paths of a field mask: where `other` differs."""
        paths = _changed(_VEHICLE_FIELDS, self.vehicle, other.vehicle)
        if self.engine_uuid != other.engine_uuid:
            return [*paths, "engine"]
        if self.engine is not None and other.engine is not None:
            fields = _changed(_ENGINE_FIELDS, self.engine[1:], other.engine[1:])
            paths += [f"engine.{name}" for name in fields]
        return paths


def _changed(names: Sequence[str], before: VehicleRow, after: VehicleRow) -> list[str]:
    return [n for n, old, new in zip(names, before, after, strict=True) if old != new]


class PublishedChange(NamedTuple):
    """One change as it is told to consumers.

    Attributes:
        lsn: of the transaction.
        changed_us: its commit time, microseconds since the epoch.
        vehicle_uuid: whose.
        revision: rises by one per published change of the vehicle, from 1.
        event: what happened.
        state: as it is now; None when deleted.
        mask: of an update.
    """

    lsn: int
    changed_us: int
    vehicle_uuid: str
    revision: int
    event: Literal["created", "updated", "deleted"]
    state: PublishedState | None
    mask: Sequence[str] = ()


def change_message(change: PublishedChange) -> Change:
    """The message of a change."""
    uuid, state = change.vehicle_uuid, change.state
    message = Change(entity_uuid=uuid, revision_number=change.revision)
    message.changed_at.seconds, micros = divmod(change.changed_us, _US)
    message.changed_at.nanos = micros * 1000
    if state is None:
        message.vehicle_deleted.vehicle_uuid = uuid
        message.vehicle_deleted.revision = change.revision
        return message
    year, model = state.vehicle
    vehicle = Vehicle(vehicle_uuid=uuid, year_of_manufacture=year, model=model)
    if state.engine is not None:
        _, built, maker, speed, resource, remaining = state.engine
        vehicle.engine.CopyFrom(
            Engine(
                engine_uuid=state.engine_uuid,
                year_of_manufacture=built,
                manufacturer=maker,
                maximum_engine_speed=speed,
                maximum_mileage_resource=resource,
                remaining_mileage_resource=remaining,
            )
        )
    if change.event == "created":
        message.vehicle_created.vehicle.CopyFrom(vehicle)
    else:
        message.vehicle_updated.vehicle.CopyFrom(vehicle)
        message.vehicle_updated.field_mask.paths.extend(change.mask)
    message.resulting_state.CopyFrom(vehicle)
    return message


CHANGE_SCHEMA = pa.schema(
    [
        ("vehicle_uuid", pa.string()),
        ("revision", pa.int64()),
        ("changed_at", pa.timestamp("us", tz="UTC")),
        ("deleted", pa.bool_()),
        ("year_of_manufacture", pa.int64()),
        ("model", pa.string()),
        ("engine_uuid", pa.string()),
        ("engine_year_of_manufacture", pa.int64()),
        ("engine_manufacturer", pa.string()),
        ("engine_maximum_engine_speed", pa.int64()),
        ("engine_maximum_mileage_resource", pa.int64()),
        ("engine_remaining_mileage_resource", pa.int64()),
        ("event", pa.string()),
        ("mask", pa.string()),
        ("change", pa.binary()),
    ]
)
"""Rows of published changes: the columns of the table `vehicles`, then what happened, the field
mask with commas, and the message."""

_NO_VEHICLE: VehicleRow = (None, None)
_NO_ENGINE: EngineRow = (None,) * 6


def change_rows(changes: Sequence[PublishedChange]) -> pa.RecordBatch:
    """Rows of `CHANGE_SCHEMA`."""
    rows = [_row(change) for change in changes]
    columns = [
        pa.array(map(itemgetter(n), rows), field.type) for n, field in enumerate(CHANGE_SCHEMA)
    ]
    return pa.record_batch(columns, schema=CHANGE_SCHEMA)


def _row(change: PublishedChange) -> tuple[Any, ...]:
    state = change.state
    vehicle, uuid, engine = (_NO_VEHICLE, None, None) if state is None else state
    return (
        change.vehicle_uuid,
        change.revision,
        change.changed_us,
        state is None,
        *vehicle,
        uuid,
        *(engine or _NO_ENGINE)[1:],
        change.event,
        ",".join(change.mask),
        change_message(change).SerializeToString(),
    )


def encode_changes(rows: pa.RecordBatch) -> pa.BinaryArray:
    """The messages of rows."""
    return rows["change"]


def change_line(row: Mapping[str, Any]) -> str:
    """A published change as a line of text."""
    what = {"created": "created", "deleted": "deleted"}.get(row["event"]) or row["mask"]
    return f"{row['changed_at']:%H:%M:%S} {row['vehicle_uuid']} r{row['revision']:<4} {what}"
