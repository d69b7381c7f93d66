"""Vehicles and engines as the source has them, and what consumers were told of each vehicle.

What it computes: after each transaction, every vehicle that it touched is compared with its last
published state. A vehicle is published when both it and its engine are known (it is cohesive),
when a published one loses its engine, and when it is deleted; so consumers never see half a
vehicle, and never keep an engine that is gone. Otherwise nothing is said until it is cohesive
again; then the field mask names all that differs from the last published state.

Ownership is kept by engine, from its own rows: what a deletion says of the row that was there is
not looked at. Of several engines with one vehicle, which the source's unique constraint admits
only within a transaction, the last one assigned is the vehicle's.

Contract: the outcome depends on the transactions alone, not on how they are batched, nor on the
order of changes to different rows; a transaction that comes again, or part of a snapshot that
does, changes nothing. Memory: a few hundred bytes per vehicle with its engine, and per deleted
vehicle that was ever published its uuid and revision.
"""

from typing import Any, Literal, NamedTuple

from operators.buckets import Blocks, Buckets
from operators.metrics import StateSize
from schemas.stream import NEVER
from schemas.transactions import UNCHANGED, RowChange, Transaction
from schemas.vehicles import (
    ENGINES,
    EngineRow,
    PublishedChange,
    PublishedState,
    VehicleRow,
)

__all__ = ["VehicleTable", "VehicleTableState"]


class _Vehicle(NamedTuple):
    row: VehicleRow | None = None
    engine_uuid: str | None = None
    revision: int = 0
    published: PublishedState | None = None


_UNKNOWN = _Vehicle()


class VehicleTableState(NamedTuple):
    """Snapshot: the last transaction applied, and both mappings."""

    lsn: int
    vehicles: Blocks
    engines: Blocks


class VehicleTable:
    """The state of the flow; see the module.

    Args:
        state: where to go on.
    """

    def __init__(self, state: VehicleTableState | None = None) -> None:
        self._lsn = state.lsn if state else NEVER
        self._vehicles: Buckets[_Vehicle] = Buckets(state.vehicles if state else None)
        self._engines: Buckets[EngineRow] = Buckets(state.engines if state else None)
        self._touched: set[str] = set()

    def apply(self, transaction: Transaction) -> list[PublishedChange]:
        """What a transaction makes public, sorted by vehicle; nothing when it was applied."""
        if transaction.lsn <= self._lsn:
            return []
        self._lsn = transaction.lsn
        for change in transaction.changes:
            if change.table == ENGINES.name:
                self._change_engine(change)
            else:
                self._change_vehicle(change)
        touched = sorted(self._touched)
        self._touched.clear()
        published = []
        for uuid in touched:
            told = self._publish(uuid, transaction)
            if told is not None:
                published.append(told)
        return published

    def size(self) -> StateSize:
        """How much it holds, in bytes as of the last snapshot; any thread may ask."""
        size_bytes = self._vehicles.stored_bytes + self._engines.stored_bytes
        return StateSize(None, len(self._vehicles), None, size_bytes)

    def snapshot(self) -> VehicleTableState:
        """All of it, immutable."""
        return VehicleTableState(self._lsn, self._vehicles.snapshot(), self._engines.snapshot())

    def _change_vehicle(self, change: RowChange) -> None:
        vehicle = self._vehicles.get(change.key) or _UNKNOWN
        row = None if change.row is None else _filled(change.row, vehicle.row)
        self._put(change.key, _Vehicle(row, *vehicle[1:]))

    def _change_engine(self, change: RowChange) -> None:
        before = self._engines.get(change.key)
        after = None if change.row is None else _filled(change.row, before)
        self._engines.put(change.key, after)
        owner = before[0] if before else None
        if after and after[0] is not None:
            self._equip(after[0], self._vehicles.get(after[0]) or _UNKNOWN, change.key)
        if owner is not None and (after is None or after[0] != owner):
            vehicle = self._vehicles.get(owner) or _UNKNOWN
            if vehicle.engine_uuid == change.key:
                self._equip(owner, vehicle, None)

    def _equip(self, uuid: str, vehicle: _Vehicle, engine_uuid: str | None) -> None:
        self._put(uuid, _Vehicle(vehicle.row, engine_uuid, vehicle.revision, vehicle.published))

    def _put(self, uuid: str, vehicle: _Vehicle) -> None:
        self._vehicles.put(uuid, None if vehicle == _UNKNOWN else vehicle)
        self._touched.add(uuid)

    def _publish(self, uuid: str, transaction: Transaction) -> PublishedChange | None:
        vehicle = self._vehicles.get(uuid) or _UNKNOWN
        before, after = vehicle.published, self._state(vehicle)
        event: Literal["created", "updated", "deleted"]
        mask: list[str] = []
        if after is None:
            if before is None:
                return None
            event = "deleted"
        elif before is None:
            if after.engine is None:
                return None
            event = "created"
        else:
            mask = before.differences(after)
            if not mask or (after.engine is None and before.engine is None):
                return None
            event = "updated"
        revision = vehicle.revision + 1
        self._vehicles.put(uuid, _Vehicle(vehicle.row, vehicle.engine_uuid, revision, after))
        return PublishedChange(
            transaction.lsn, transaction.committed_us, uuid, revision, event, after, tuple(mask)
        )

    def _state(self, vehicle: _Vehicle) -> PublishedState | None:
        if vehicle.row is None:
            return None
        uuid = vehicle.engine_uuid
        engine = None if uuid is None else self._engines.get(uuid)
        return PublishedState(vehicle.row, uuid, engine)


def _filled(row: tuple[Any, ...], before: tuple[Any, ...] | None) -> tuple[Any, ...]:
    """A row with what the source did not repeat; null where the row was not known."""
    if UNCHANGED not in row:
        return row
    known = before or (None,) * len(row)
    return tuple(old if new is UNCHANGED else new for old, new in zip(known, row, strict=True))
