"""What every flow does of its settings alone: metrics, fail points, brokers, database, state."""

from dataflows import metrics_host
from dataflows.settings import FlowSettings
from schemas import failpoints
from sinks.embedded_postgres import embedded_postgres

__all__ = ["kafka_config", "prepare_process", "state_name", "tables_url"]


def prepare_process(settings: FlowSettings) -> None:
    """Arm the fail points and have metrics served, if asked to."""
    failpoints.configure(settings.failpoints)
    if settings.metrics_port is not None:
        metrics_host.prepare(settings.metrics_port, settings.metrics_host)


def kafka_config(settings: FlowSettings) -> dict[str, str | int]:
    """The librdkafka settings of every client."""
    return {"bootstrap.servers": settings.kafka_bootstrap_servers or ""}


def state_name(name: str, settings: FlowSettings, *, has_tables: bool) -> str:
    """Whose state it is in a recovery store.

    A flow that writes no tables has a state of its own: were it shared, tables that are
    switched on again would begin where the flow is, with a hole before.
    """
    suffix = "" if has_tables else "-without-tables"
    return f"{name}-v{settings.flow_version}{suffix}"


def tables_url(settings: FlowSettings) -> str | None:
    """The database for tables; None for none. May start the embedded server."""
    url = settings.database_url
    if url == "off":
        return None
    return url or embedded_postgres(settings.data_dir / "postgres")
