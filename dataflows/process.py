"""What every flow does of its settings alone: metrics, fail points, brokers, database, state."""

from dataflows import build_info, metrics_host
from dataflows.connections import ConnectionSettings
from dataflows.settings import FlowSettings
from schemas import failpoints
from schemas.errors import FlowError
from schemas.hidden import Hidden
from sinks.embedded_postgres import embedded_postgres

__all__ = ["kafka_config", "needed_kafka_config", "prepare_process", "state_name", "tables_url"]


def prepare_process(name: str, settings: FlowSettings) -> None:
    """Arm the fail points of a flow and have its metrics served, if asked to."""
    build_info.announce(name, settings.flow_version)
    failpoints.configure(settings.failpoints)
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
