"""Settings of the flow `vehicles`, besides those of every flow."""

import re
from typing import Literal

from pydantic import Field
from typing_extensions import override

from dataflows.settings import FlowSettings
from schemas.errors import FlowError

__all__ = ["VehiclesSettings"]

_TOPIC = r"^[a-zA-Z0-9._-]{1,200}$"


class VehiclesSettings(FlowSettings):
    """What the flow on vehicles takes besides."""

    vehicles_source: Literal["slot", "debezium"] | None = Field(
        None,
        description="slot: SOURCE_DATABASE_URL itself; debezium: its topics; unset: slot, or "
        "debezium where KAFKA_BOOTSTRAP_SERVERS is set and SOURCE_DATABASE_URL is not",
    )
    source_database_url: str | None = Field(
        None,
        repr=False,
        pattern=r"^postgres(ql)?://.*",
        description="libpq URL of the database to capture; unset: an embedded server with a "
        "simulated inventory",
    )
    vehicles_slot: str | None = Field(
        None,
        pattern=r"^[a-z0-9_]{1,63}$",
        description="replication slot, made when missing; unset: tidemark_vehicles_ and "
        "FLOW_VERSION",
    )
    vehicles_publication: str = Field(
        "tidemark_vehicles",
        pattern=r"^[a-z_][a-z0-9_]{0,62}$",
        description="publication, made when missing",
    )
    vehicles_topic_prefix: str = Field(
        "inventory", pattern=_TOPIC, description="topic.prefix of the Debezium connector"
    )
    vehicles_format: Literal["json", "avro"] = Field(
        "json",
        description="of the Debezium topics: json, with or without schemas; avro needs "
        "SCHEMA_REGISTRY_URL",
    )
    inventory_rate: float = Field(
        20, gt=0, le=100_000, description="simulated inventory: transactions per second"
    )
    inventory_size: int = Field(
        1_000, ge=1, le=1_000_000, description="simulated inventory: vehicles, about"
    )
    inventory_seed: int = Field(1, ge=0, description="simulated inventory: seed")

    @override
    def check(self) -> None:
        """See `FlowSettings.check`."""
        if self.input_topic is not None:
            raise FlowError(
                f"INPUT_TOPIC={self.input_topic} means nothing here: the flow reads several topics",
                "Set VEHICLES_TOPIC_PREFIX to what the connector has as topic.prefix.",
            )
        if self.captures_topics and self.kafka_bootstrap_servers is None:
            raise FlowError(
                "VEHICLES_SOURCE=debezium needs Kafka, and KAFKA_BOOTSTRAP_SERVERS is not set",
                "Set it, or capture the database itself with VEHICLES_SOURCE=slot.",
            )
        if self.captures_topics and self.source_database_url is not None:
            raise FlowError(
                "VEHICLES_SOURCE=debezium does not read SOURCE_DATABASE_URL, which is set",
                "Unset one of the two.",
            )
        if self.vehicles_format == "avro" and self.schema_registry_url is None:
            raise FlowError(
                "VEHICLES_FORMAT=avro needs the schemas, and SCHEMA_REGISTRY_URL is not set",
                "Set it to the registry that the connector's converter writes to.",
            )
        if self.source_database_url is not None and self.source_database_url == self.database_url:
            raise FlowError(
                "SOURCE_DATABASE_URL and DATABASE_URL are the same database, and both have a "
                "table vehicles",
                "Write the results to another database.",
            )

    @property
    def captures_topics(self) -> bool:
        """Whether Debezium's topics are read, rather than the database itself."""
        if self.vehicles_source is not None:
            return self.vehicles_source == "debezium"
        return self.kafka_bootstrap_servers is not None and self.source_database_url is None

    @property
    def slot(self) -> str:
        """Name of the slot: each version of the flow has its own."""
        version = re.sub(r"[^a-z0-9_]", "_", self.flow_version.lower())
        return self.vehicles_slot or f"tidemark_vehicles_{version}"

    @property
    def topic(self) -> str:
        """Where changes go."""
        return self.output_topic or "vehicles"
