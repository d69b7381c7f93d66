"""What must be published of vehicles: slow and obvious, from the rows after each transaction.

After every transaction all vehicles that there ever were are looked at, none is followed from
change to change.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from schemas.transactions import RowChange
from schemas.vehicles_pb2 import Change

VEHICLE = ("year_of_manufacture", "model")
ENGINE = (
    "year_of_manufacture",
    "manufacturer",
    "maximum_engine_speed",
    "maximum_mileage_resource",
    "remaining_mileage_resource",
)


class Told(NamedTuple):
    """A published change; `state` maps paths of the field mask to values."""

    vehicle: str
    revision: int
    event: str
    state: dict[str, Any] | None
    mask: frozenset[str] = frozenset()


def aggregate(
    uuid: str, vehicles: dict[str, tuple[Any, ...]], engines: dict[str, tuple[Any, ...]]
) -> dict[str, Any] | None:
    if uuid not in vehicles:
        return None
    state: dict[str, Any] = dict(zip(VEHICLE, vehicles[uuid], strict=True))
    for engine, (owner, *values) in engines.items():
        if owner == uuid:
            state["engine"] = engine
            state |= {f"engine.{n}": v for n, v in zip(ENGINE, values, strict=True)}
    return state


def mask(before: dict[str, Any], after: dict[str, Any]) -> frozenset[str]:
    changed = {p for p in before.keys() | after.keys() if before.get(p) != after.get(p)}
    if "engine" in changed:
        changed = {path for path in changed if not path.startswith("engine.")}
    return frozenset(changed)


def expected(history: Iterable[Sequence[RowChange]]) -> list[list[Told]]:
    """What each transaction of a history makes public, sorted by vehicle."""
    vehicles: dict[str, tuple[Any, ...]] = {}
    engines: dict[str, tuple[Any, ...]] = {}
    last: dict[str, dict[str, Any] | None] = {}
    revisions: dict[str, int] = {}
    out = []
    for changes in history:
        for change in changes:
            rows = engines if change.table == "engines" else vehicles
            if change.row is None:
                rows.pop(change.key, None)
            else:
                rows[change.key] = change.row
        told = []
        for uuid in sorted(vehicles.keys() | last.keys()):
            state, known = aggregate(uuid, vehicles, engines), last.get(uuid)
            if state is None:
                event = "deleted" if known is not None else ""
            elif known is None:
                event = "created" if "engine" in state else ""
            elif "engine" not in state and "engine" not in known:
                event = ""
            else:
                event = "updated" if state != known else ""
            if event:
                revisions[uuid] = revisions.get(uuid, 0) + 1
                last[uuid] = state
                paths = mask(known or {}, state or {}) if event == "updated" else frozenset()
                told.append(Told(uuid, revisions[uuid], event, state, paths))
        out.append(told)
    return out


def state_of(message: Any) -> dict[str, Any]:
    state = {name: getattr(message, name) for name in VEHICLE if message.HasField(name)}
    if message.HasField("engine"):
        engine = message.engine
        state["engine"] = engine.engine_uuid
        state |= {f"engine.{n}": getattr(engine, n) for n in ENGINE if engine.HasField(n)}
    return state


def told_of(change: Change) -> Told:
    """A message as the model would say it; checks what every message must hold."""
    assert change.entity_uuid
    assert change.changed_at.seconds > 0
    event = change.WhichOneof("event")
    if event == "vehicle_deleted":
        assert not change.HasField("resulting_state")
        assert change.vehicle_deleted.vehicle_uuid == change.entity_uuid
        assert change.vehicle_deleted.revision == change.revision_number
        return Told(change.entity_uuid, change.revision_number, "deleted", None)
    told = getattr(change, event)
    assert told.vehicle == change.resulting_state
    assert told.vehicle.vehicle_uuid == change.entity_uuid
    paths = told.field_mask.paths if event == "vehicle_updated" else []
    return Told(
        change.entity_uuid,
        change.revision_number,
        event.removeprefix("vehicle_"),
        state_of(change.resulting_state),
        frozenset(paths),
    )
