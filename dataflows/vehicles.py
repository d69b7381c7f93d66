"""Vehicles: change data capture of two tables to one aggregate, a vehicle with its engine.

    PostgreSQL slot ──┐
                      ├──▶ transactions ──▶ vehicles ──▶ Kafka vehicles, PostgreSQL vehicles
    Debezium topics ──┘          └─ rejected ──────────▶ Kafka vehicles.rejected, rejected

Run it: `python -m bytewax.run dataflows.vehicles`. Settings: `docs/settings.md`; what is
published when: `docs/vehicles.md`.
"""

import bytewax.operators as op
from bytewax.dataflow import Dataflow

from dataflows.vehicles_settings import VehiclesSettings
from dataflows.vehicles_wiring import VehiclesWiring
from dataflows.wiring import guarded
from operators.vehicles import vehicles
from schemas.registry import framed
from schemas.tables import VEHICLES
from schemas.vehicles import encode_changes
from schemas.vehicles_pb2 import Change

__all__ = ["flow"]


@guarded()
def flow() -> Dataflow:
    """The dataflow, from the settings in the environment."""
    settings = VehiclesSettings.load()
    wiring = VehiclesWiring("vehicles", settings)
    encode = framed(settings.registry, [settings.topic], Change, encode_changes)
    source = wiring.prepare(encode, VEHICLES)

    dataflow = Dataflow(wiring.flow_id)
    captured = op.input("captured", dataflow, source)
    wiring.output(vehicles("vehicles", captured, flow="vehicles"))
    return dataflow
