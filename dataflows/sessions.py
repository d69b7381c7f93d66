"""Sessions of devices: events to the sessions they belong to, and a row per session.

    events ──▶ scatter ──▶ sessions ──┬─ events under their session ─▶ Kafka session-events
                  │                   └─ sessions that have ended ───▶ Kafka sessions,
                  └─ late, rejected ─▶ results                         PostgreSQL sessions

Run it: `python -m bytewax.run dataflows.sessions`. Settings: `docs/settings.md`; rules and
fields: `docs/sessions.md`.
"""

import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import bytewax.operators as op
import pyarrow as pa
from bytewax.dataflow import Dataflow

from dataflows.log_input import LogInput, simulated_length
from dataflows.sessions_settings import SessionsSettings
from dataflows.wiring import Wiring, guarded
from operators.compiled import compile_sessions
from operators.ordered import ordered
from operators.ordered_scatter import ScatterRule, scatter
from operators.session_table import SessionTable
from schemas.avro_registry import avro_framed, avro_header
from schemas.device_events import DeviceEventCodec
from schemas.device_registry import registered_writers
from schemas.sessions import encode_session
from schemas.tables import SESSIONS
from sinks.routes import MessageRoute
from sources.devices import Devices
from sources.market import opening
from sources.simulated import SimulatedLog

__all__ = ["flow"]


@guarded(compile_sessions)
def flow() -> Dataflow:
    """The dataflow, from the settings in the environment."""
    settings = SessionsSettings.load()
    log = LogInput("sessions", settings, "events", lambda _: _simulated(settings), with_keys=True)
    registry, rule = settings.registry, settings.rule
    wiring = Wiring("sessions", settings, log, output=settings.output, definition=asdict(rule))
    codec = DeviceEventCodec(registered_writers(registry, wiring.topic) if registry else None)
    encode = avro_framed(registry, [settings.output], "sessions.avsc", encode_session)
    if registry:
        avro_header(registry, [settings.events_output], "devices.avsc")
    scattering = ScatterRule("sessions", wiring.topic, settings.shards, with_values=True)

    dataflow = Dataflow(log.flow_id)
    read = log.read("events", dataflow, codec)
    events, asides = scatter("scatter", read, rule, scattering)
    sessions = ordered(
        "sessions", events, rule, flow="sessions", partitions=wiring.partitions, table=SessionTable
    )
    wiring.output(
        op.merge("sessions_outputs", sessions, asides),
        messages=MessageRoute(
            None, {"": settings.output}, "device", "ended_at", encode, settings.shards
        ),
        besides={
            "events": MessageRoute(
                None, {"": settings.events_output}, "key", "event_time", _unchanged, settings.shards
            )
        },
        table=SESSIONS,
        line=_line,
    )
    return dataflow


def _simulated(settings: SessionsSettings) -> SimulatedLog:
    prefix = b""
    if settings.registry:
        prefix = avro_header(settings.registry, ["events"], "devices.avsc")
    count, partitions = settings.session_devices, settings.market_partitions
    return SimulatedLog(
        "events",
        Devices(count, partitions, settings.market_seed, prefix),
        opening(settings.data_dir, int(time.time() * 1000)),
        seed=settings.market_seed,
        partitions=partitions,
        rate=settings.market_rate,
        records=simulated_length(settings),
        definition={"devices": count},
    )


def _unchanged(rows: pa.RecordBatch) -> pa.LargeBinaryArray:
    return rows["value"]


def _line(row: Mapping[str, Any]) -> str:
    figures = "  ".join(
        f"{name} {sensor['mean']:.3g} ({sensor['count']})" for name, sensor in row["sensors"]
    )
    lasted_s = (row["ended_at"] - row["started_at"]).total_seconds()
    return (
        f"{row['ended_at']:%Y-%m-%d %H:%M:%S}  {row['device']:<12} {row['reason']:<10}"
        f" {lasted_s:7.3f} s  {row['event_count']:>3} events  {figures}"
    )
