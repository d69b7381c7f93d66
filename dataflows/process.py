"""What every flow does of its settings alone: telemetry, fail points, brokers, database, state."""

import logging

from dataflows import build_info, logs, metrics_host
from dataflows.connections import ConnectionSettings
from dataflows.settings import FlowSettings
from dataflows.telemetry_settings import TelemetrySettings
from schemas import failpoints
from schemas.errors import FlowError
from schemas.hidden import Hidden
from sinks.embedded_postgres import embedded_postgres

__all__ = ["kafka_config", "needed_kafka_config", "prepare_process", "state_name", "tables_url"]

_LOGGER = logging.getLogger(__name__)


def prepare_process(name: str, settings: FlowSettings) -> None:
    """Arm the fail points, and have the flow traced and metrics served, if asked to."""
    build_info.announce(name, settings.flow_version)
    failpoints.configure(settings.failpoints)
    logs.name_flow(name)
    _LOGGER.info(
        "Flow %s, version %s",
        name,
        settings.flow_version,
        extra={"version": settings.flow_version},
    )
    telemetry = TelemetrySettings.load()
    if telemetry.otel_exporter_otlp_endpoint is not None:
        # Untraced, a flow does without these libraries.
        from dataflows import tracing  # noqa: PLC0415

        tracing.start(
            telemetry.otel_exporter_otlp_endpoint,
            flow=name,
            version=settings.flow_version,
            share=telemetry.otel_traces_sampler_arg,
            step_share=telemetry.trace_steps,
        )
    if settings.metrics_port is not None:
        metrics_host.prepare(settings.metrics_port, settings.metrics_host)


def kafka_config(settings: ConnectionSettings) -> dict[str, str | int]:
    """The librdkafka settings of every client; passwords in it have no `repr`."""
    protocol = settings.kafka_security_protocol
    config: dict[str, str | int] = {
        "bootstrap.servers": settings.kafka_bootstrap_servers or "",
        "security.protocol": protocol,
    }
    if protocol.startswith("SASL_"):
        config["sasl.mechanism"] = settings.kafka_sasl_mechanism
        config["sasl.username"] = settings.kafka_sasl_username or ""
        config["sasl.password"] = Hidden(settings.kafka_sasl_password or "")
    for name in ("ca_location", "certificate_location", "key_location"):
        path = getattr(settings, f"kafka_ssl_{name}")
        if path is not None:
            config[f"ssl.{name.replace('_', '.')}"] = str(path)
    if settings.kafka_ssl_key_password is not None:
        config["ssl.key.password"] = Hidden(settings.kafka_ssl_key_password)
    return config


def needed_kafka_config(settings: ConnectionSettings) -> dict[str, str | int]:
    """The same for a command that is nothing without brokers.

    Raises:
        FlowError: None are set.
    """
    if settings.kafka_bootstrap_servers is None:
        raise FlowError("KAFKA_BOOTSTRAP_SERVERS is not set", "Set it to the brokers.")
    return kafka_config(settings)


def state_name(name: str, settings: FlowSettings, *, has_tables: bool) -> str:
    """Whose state it is in a recovery store.

    A flow that writes no tables has a state of its own: were it shared, tables that are
    switched on again would begin where the flow is, with a hole before.
    """
    suffix = "" if has_tables else "-without-tables"
    return f"{name}-v{settings.flow_version}{suffix}"


def tables_url(settings: ConnectionSettings) -> str | None:
    """The database for tables; None for none. May start the embedded server."""
    url = settings.database_url
    if url == "off":
        return None
    return url or embedded_postgres(settings.data_dir / "postgres")
