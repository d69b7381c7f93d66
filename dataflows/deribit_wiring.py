"""What lies between the exchange feed's picture and the world: which exchange, which sinks.

With `KAFKA_BOOTSTRAP_SERVERS` the feed writes Kafka and, if asked, PostgreSQL; without, it
writes PostgreSQL and the terminal. Everything is checked before anything is written.
"""

import time
from collections.abc import Callable

import bytewax.operators as op
import pyarrow as pa
from bytewax.dataflow import Stream
from bytewax.operators import KeyedStream
from sqlalchemy import Table

from dataflows.deribit_settings import DeribitSettings
from dataflows.line_console import LineConsoleSink
from dataflows.process import kafka_config, prepare_process, state_name, tables_url
from dataflows.trade_text import trade_line
from schemas.stream import FlowIdentity, Output
from sinks.feed_route import FeedRoute
from sinks.kafka import KafkaRoute, kafka_sink, prepare_kafka
from sinks.postgres import PostgresRoute, postgres_sink, prepare_postgres
from sources.deribit_feed import Connect
from sources.deribit_socket import TextSocket
from sources.exchange.faults import Faults
from sources.exchange.market import ExchangeMarket
from sources.exchange.server import ExchangeServer
from sources.market import opening

__all__ = ["DeribitWiring"]

_NEWEST = slice(-5, None)


class DeribitWiring:
    """The feed's connections.

    Args:
        name: of the flow.
        settings: checked.

    Attributes:
        connect: opens a connection to the exchange.
        identity: whose progress it is.
    """

    def __init__(self, name: str, settings: DeribitSettings) -> None:
        self._settings = settings
        prepare_process(name, settings)
        definition: dict[str, object] = {
            "connections": settings.deribit_connections,
            "partitions": settings.deribit_partitions,
            "wire_format": "confluent" if settings.schema_registry_url else "none",
        }
        url = settings.endpoint_url
        if url is None:
            settings.data_dir.mkdir(parents=True, exist_ok=True)
            opened_at_ms = opening(settings.data_dir, time.time_ns() // 1_000_000)
            definition["exchange"] = {
                "seed": settings.market_seed,
                "instruments": settings.market_instruments,
                "rate": settings.market_rate,
                "opened_at_ms": opened_at_ms,
            }
            url = self._simulated(opened_at_ms)
        else:
            definition["exchange"] = url
        self.connect: Connect = lambda: TextSocket(url)
        self.identity = FlowIdentity(name, settings.flow_version, definition)

    def _simulated(self, opened_at_ms: int) -> str:
        settings = self._settings
        market = ExchangeMarket(
            opened_at_ms,
            seed=settings.market_seed,
            instruments=settings.market_instruments,
            rate=settings.market_rate,
        )
        return ExchangeServer(market, Faults(settings.deribit_faults)).start().url

    @property
    def _has_table(self) -> bool:
        return self._settings.deribit_table and self._settings.database_url != "off"

    @property
    def flow_id(self) -> str:
        """Whose state it is in a recovery store; see `state_name`."""
        return state_name(self.identity.name, self._settings, has_tables=self._has_table)

    def output(
        self,
        results: KeyedStream[Output],
        trades: Stream[pa.RecordBatch],
        *,
        encode: Callable[[pa.RecordBatch], pa.BinaryArray],
        table: Table,
    ) -> None:
        """Write every trade once.

        Args:
            results: items by lane.
            trades: the same rows, for the terminal.
            encode: rows to messages.
            table: where trades go in PostgreSQL.

        Raises:
            FlowError: A broker or the database cannot be reached, or what they hold does
                not belong to these settings.
        """
        settings = self._settings
        tables = {"results": PostgresRoute(table, upsert=False)}
        database = tables_url(settings) if self._has_table else None
        if database is not None:
            prepare_postgres(self.identity, tables, url=database)
        if settings.kafka_bootstrap_servers is not None:
            client = kafka_config(settings)
            routes: dict[str, KafkaRoute] = {
                "results": FeedRoute(
                    settings.topic, "instrument", "timestamp", encode, settings.deribit_partitions
                )
            }
            progress = f"{settings.topic}.progress"
            prepare_kafka(self.identity, routes, client_config=client, progress_topic=progress)
            sink = kafka_sink(self.identity, routes, client_config=client, progress_topic=progress)
            op.output("kafka", results, sink)
        else:
            console = LineConsoleSink(trade_line, table.name, shown=_NEWEST, noun="trades")
            op.output("terminal", trades, console)
        if database is not None:
            op.output("postgres", results, postgres_sink(self.identity, tables, url=database))
