"""A simulated inventory: what an application does that keeps vehicles and engines.

It creates vehicles with engines, updates them, moves engines between vehicles, takes them off and
deletes, often several of it in one transaction over both tables. What the next transaction does
is a function of the seed and of the rows that are there.
"""

import random
import uuid
from typing import Any

from schemas.transactions import RowChange
from schemas.vehicles import ENGINES, VEHICLES_CAPTURED, EngineRow, VehicleRow

__all__ = ["Inventory"]

_MODELS = ("Actros", "Arocs", "Atego", "Econic", "eActros", "Zetros")
_MAKERS = ("Bosch", "Cummins", "Detroit", "MAN", "Scania")
_TO_A_TRANSACTION = (1, 1, 1, 2, 3)
_NO_ENGINE: EngineRow = (None,)


class Inventory:
    """What happens next, and the rows as they are after it.

    Args:
        seed: of the choices.
        size: number of vehicles around which it settles.

    Attributes:
        vehicles: rows by uuid.
        engines: the same.
    """

    def __init__(self, seed: int = 1, size: int = 1_000) -> None:
        self.vehicles: dict[str, VehicleRow] = {}
        self.engines: dict[str, EngineRow] = {}
        self._random = random.Random(seed)  # noqa: S311  # a simulation
        self._size = size
        self._gone: list[str] = []
        self._engine_by_vehicle: dict[str, str] = {}

    def know(self, change: RowChange) -> None:
        """Take in how a row is."""
        if change.table == VEHICLES_CAPTURED.name:
            _put(self.vehicles, change)
            return
        owner = self.engines.get(change.key, _NO_ENGINE)[0]
        if owner is not None and self._engine_by_vehicle.get(owner) == change.key:
            del self._engine_by_vehicle[owner]
        if change.row is not None and change.row[0] is not None:
            self._engine_by_vehicle[change.row[0]] = change.key
        _put(self.engines, change)

    def transaction(self) -> list[RowChange]:
        """The changes of the next transaction; what they say of a row holds from then on."""
        changes: list[RowChange] = []
        for _ in range(self._random.choice(_TO_A_TRANSACTION)):
            self._act(changes)
        return changes

    def _act(self, changes: list[RowChange]) -> None:
        growing = self._random.random() * self._size > len(self.vehicles)
        if not self.vehicles or (growing and self._chance(0.7)):
            self._create(changes)
            return
        choose = self._random.choices
        act = choose(
            (self._drive, self._rename, self._move, self._detach, self._spare, self._delete),
            (60, 15, 8, 4, 4, 9),
        )[0]
        act(changes, self._any(self.vehicles))

    def _create(self, changes: list[RowChange]) -> None:
        reused = bool(self._gone) and self._chance(0.2)
        vehicle = self._gone.pop() if reused else self._uuid()
        row = (self._random.randint(1990, 2026), self._random.choice(_MODELS))
        both = [RowChange(VEHICLES_CAPTURED.name, vehicle, row), self._new_engine(vehicle)]
        if self._chance(0.3):
            both.reverse()
        for change in both[: 1 if self._chance(0.1) else 2]:
            self._do(changes, change)

    def _drive(self, changes: list[RowChange], vehicle: str) -> None:
        engine = self._engine_of(vehicle)
        if engine is None:
            self._attach_any(changes, vehicle)
            return
        *rest, left = self.engines[engine]
        left = max(0, left - self._random.randint(1, 500))
        self._do(changes, RowChange(ENGINES.name, engine, (*rest, left)))

    def _rename(self, changes: list[RowChange], vehicle: str) -> None:
        year, _ = self.vehicles[vehicle]
        row = (year + self._random.choice((0, 0, 1)), self._random.choice(_MODELS))
        self._do(changes, RowChange(VEHICLES_CAPTURED.name, vehicle, row))

    def _move(self, changes: list[RowChange], vehicle: str) -> None:
        engine = self._engine_of(vehicle)
        target = self._any(self.vehicles)
        if engine is None or target == vehicle:
            return
        self._take_off(changes, target)
        self._assign(changes, engine, target)

    def _detach(self, changes: list[RowChange], vehicle: str) -> None:
        self._take_off(changes, vehicle)

    def _spare(self, changes: list[RowChange], _: str) -> None:
        self._do(changes, self._new_engine(None))

    def _delete(self, changes: list[RowChange], vehicle: str) -> None:
        engine = self._engine_of(vehicle)
        if engine is not None and self._chance(0.75):
            if self._chance(0.5):
                self._assign(changes, engine, None)
            else:
                self._do(changes, RowChange(ENGINES.name, engine, None))
        if self._chance(0.75):
            self._do(changes, RowChange(VEHICLES_CAPTURED.name, vehicle, None))
            self._gone.append(vehicle)

    def _attach_any(self, changes: list[RowChange], vehicle: str) -> None:
        spare = next((e for e, row in self.engines.items() if row[0] is None), None)
        if spare is None:
            self._do(changes, self._new_engine(vehicle))
        else:
            self._assign(changes, spare, vehicle)

    def _take_off(self, changes: list[RowChange], vehicle: str) -> None:
        engine = self._engine_of(vehicle)
        if engine is not None:
            self._assign(changes, engine, None)

    def _assign(self, changes: list[RowChange], engine: str, vehicle: str | None) -> None:
        row = (vehicle, *self.engines[engine][1:])
        self._do(changes, RowChange(ENGINES.name, engine, row))

    def _new_engine(self, vehicle: str | None) -> RowChange:
        if vehicle is not None and self._engine_of(vehicle) is not None:
            vehicle = None  # one that was left behind by a former vehicle of this uuid
        resource = self._random.randint(200, 900) * 1_000
        row = (
            vehicle,
            self._random.randint(1990, 2026),
            self._random.choice(_MAKERS),
            self._random.randint(20, 60) * 100,
            resource,
            resource,
        )
        return RowChange(ENGINES.name, self._uuid(), row)

    def _do(self, changes: list[RowChange], change: RowChange) -> None:
        self.know(change)
        changes.append(change)

    def _engine_of(self, vehicle: str) -> str | None:
        return self._engine_by_vehicle.get(vehicle)

    def _chance(self, share: float) -> bool:
        return self._random.random() < share

    def _any(self, rows: dict[str, Any]) -> str:
        return self._random.choice(list(rows))

    def _uuid(self) -> str:
        return str(uuid.UUID(int=self._random.getrandbits(128), version=4))


def _put(rows: dict[str, tuple[Any, ...]], change: RowChange) -> None:
    if change.row is None:
        rows.pop(change.key, None)
    else:
        rows[change.key] = change.row
