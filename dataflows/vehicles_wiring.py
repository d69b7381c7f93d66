"""What lies between the picture of the flow `vehicles` and the world: which source, which sinks.

With `KAFKA_BOOTSTRAP_SERVERS` it writes Kafka and, unless switched off, PostgreSQL; without,
PostgreSQL and the terminal. Sinks are prepared before the source, which must know whether
anything was ever written. Without any setting it captures an embedded PostgreSQL in which a
simulated inventory lives, a server apart from that of the results.
"""

from collections.abc import Callable
from typing import Any

import bytewax.operators as op
import pyarrow as pa
from bytewax.inputs import FixedPartitionedSource
from bytewax.operators import KeyedStream
from sqlalchemy import Table

from dataflows.line_console import LineConsoleSink, result_rows
from dataflows.process import kafka_config, prepare_process, state_name, tables_url
from dataflows.vehicles_settings import VehiclesSettings
from schemas.stream import FlowIdentity, Output
from schemas.tables import REJECTED
from schemas.transactions import Captured
from schemas.vehicles import CAPTURED, change_line
from sinks.embedded_postgres import embedded_postgres, embedded_psql
from sinks.feed_route import SpreadRoute
from sinks.kafka import KafkaRoute, TopicSpec, has_kafka_output, kafka_sink, prepare_kafka
from sinks.postgres import PostgresRoute, has_postgres_output, postgres_sink, prepare_postgres
from sinks.routes import rejected_route
from sources import stopping
from sources.debezium import DebeziumPartition, DebeziumPlace
from sources.inventory_driver import InventoryDriver
from sources.one_partition import OnePartitionSource
from sources.slot import SlotPartition
from sources.slot_setup import SlotPlace, prepare_source

__all__ = ["VehiclesWiring"]

_INVENTORY_SERVER = {"wal_level": "logical"}


class VehiclesWiring:
    """The flow's connections.

    Args:
        name: of the flow.
        settings: checked.

    Attributes:
        identity: whose progress it is.
    """

    def __init__(self, name: str, settings: VehiclesSettings) -> None:
        self._settings = settings
        prepare_process(name, settings)
        self._debezium = DebeziumPlace(
            kafka_config(settings),
            settings.vehicles_topic_prefix,
            CAPTURED,
            settings.registry if settings.vehicles_format == "avro" else None,
        )
        source = (
            {"source": "debezium", "topic_prefix": settings.vehicles_topic_prefix}
            if settings.captures_topics
            else {"source": "slot", "slot": settings.slot}
        )
        self.identity = FlowIdentity(
            name,
            settings.flow_version,
            {
                **source,
                "shards": settings.shards,
                "wire_format": "confluent" if settings.schema_registry_url else "none",
            },
        )
        self._tables: dict[str, PostgresRoute] = {}
        self._topics: dict[str, KafkaRoute] = {}
        self._database: str | None = None

    @property
    def flow_id(self) -> str:
        """Whose state it is in a recovery store; see `state_name`."""
        settings = self._settings
        return state_name(self.identity.name, settings, has_tables=settings.database_url != "off")

    def prepare(
        self, encode: Callable[[pa.RecordBatch], pa.BinaryArray], table: Table
    ) -> "FixedPartitionedSource[Captured, Any]":
        """Check and prepare outputs and source; the source.

        Args:
            encode: rows to messages.
            table: where the current state goes in PostgreSQL.

        Raises:
            FlowError: Something cannot be reached, or holds what does not belong to these
                settings.
        """
        settings = self._settings
        has_output = False
        self._tables = {
            "results": PostgresRoute(table, upsert=True),
            "rejected": PostgresRoute(REJECTED, upsert=False),
        }
        self._database = tables_url(settings)
        if self._database is not None:
            prepare_postgres(self.identity, self._tables, url=self._database)
            has_output = has_postgres_output(self.identity, url=self._database)
        if settings.captures_topics:
            self._debezium.check()
        if settings.kafka_bootstrap_servers is not None:
            partitions = len(self._debezium.topics) if settings.captures_topics else 1
            self._topics = {
                "results": SpreadRoute(
                    settings.topic, "vehicle_uuid", "changed_at", encode, settings.shards
                ),
                "rejected": rejected_route(settings.topic, partitions),
            }
            client, progress = self._client, self._progress_topic
            # The connector makes a topic with its first record: it may still be missing.
            inputs = self._debezium.topics if settings.captures_topics else []
            prepare_kafka(
                self.identity,
                self._topics,
                client_config=client,
                progress_topic=progress,
                other_topics=dict.fromkeys(inputs, TopicSpec(1)),
            )
            has_output |= has_kafka_output(
                self.identity, client_config=client, progress_topic=progress
            )
        if settings.captures_topics:
            return OnePartitionSource(
                lambda state: DebeziumPartition(
                    self.identity.name,
                    self._debezium,
                    state,
                    group=self.flow_id,
                    stop_at_end=settings.stop_at_end,
                )
            )
        place = SlotPlace(
            settings.source_database_url or self._inventory(),
            settings.slot,
            settings.vehicles_publication,
            CAPTURED,
        )
        prepare_source(place)
        return OnePartitionSource(
            lambda state: SlotPartition(
                self.identity.name,
                place,
                state,
                has_output=has_output,
                stop_at_end=settings.stop_at_end,
            )
        )

    def output(self, results: KeyedStream[Output]) -> None:
        """Write changes and rejected records once.

        Args:
            results: items by lane.
        """
        if self._topics:
            sink = kafka_sink(
                self.identity,
                self._topics,
                client_config=self._client,
                progress_topic=self._progress_topic,
            )
            op.output("kafka", results, sink)
        else:
            psql = "psql" if self._settings.database_url else str(embedded_psql())
            shown = op.filter_map("shown", results, result_rows)
            console = LineConsoleSink(
                change_line, "vehicles", self._database, noun="changes", psql=psql
            )
            op.output("terminal", shown, console)
        if self._database is not None:
            sink = postgres_sink(self.identity, self._tables, url=self._database)
            op.output("postgres", results, sink)

    @property
    def _client(self) -> dict[str, str | int]:
        return kafka_config(self._settings)

    @property
    def _progress_topic(self) -> str:
        return f"{self._settings.topic}.progress"

    def _inventory(self) -> str:
        """An embedded source with an application at work."""
        settings = self._settings
        url = embedded_postgres(settings.data_dir / "inventory", _INVENTORY_SERVER)
        driver = InventoryDriver(
            url,
            seed=settings.inventory_seed,
            rate=settings.inventory_rate,
            size=settings.inventory_size,
        )
        driver.start(stopping.requested)
        return url
