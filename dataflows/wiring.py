"""What lies between a flow's picture and the world: which sinks, which checks.

With `KAFKA_BOOTSTRAP_SERVERS` a flow writes Kafka and PostgreSQL; without, PostgreSQL and the
terminal. Everything is checked before anything is written: settings, brokers, topics, tables,
and that stored progress belongs to these settings. What it reads is `dataflows.log_input`.
"""

import functools
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import bytewax.operators as op
from bytewax.dataflow import Dataflow, Stream
from bytewax.operators import KeyedStream
from sqlalchemy import Table

from dataflows import logs, metrics_host
from dataflows.console import ConsoleSink
from dataflows.line_console import LineConsoleSink, result_rows
from dataflows.log_input import LogInput
from dataflows.process import tables_url
from dataflows.settings import FlowSettings
from dataflows.telemetry_settings import TelemetrySettings
from schemas.errors import FlowError
from schemas.stream import FlowIdentity, Output
from schemas.tables import LATE, REJECTED
from sinks.embedded_postgres import embedded_psql
from sinks.kafka import KafkaRoute, TopicSpec, kafka_sink, prepare_kafka
from sinks.live import KafkaLiveSink, PostgresLiveSink
from sinks.postgres import PostgresRoute, postgres_sink, prepare_postgres
from sinks.routes import AsideRoute, MessageRoute, rejected_route
from sources import stopping

__all__ = ["Wiring", "guarded"]

_LATE_HEADERS = ("topic", "partition", "offset", "event_time", "watermark", "late_by_ms")
_SWITCH_S = 0.0005  # of 5 ms, which each step of a transaction would wait for the worker
_LIVE_TOPIC = {"retention.ms": "3600000", "message.timestamp.type": "LogAppendTime"}


def guarded(
    *compile_first: Callable[[], None],
) -> Callable[[Callable[[], Dataflow]], Callable[[], Dataflow]]:
    """Run a flow's function so that a `FlowError` is one paragraph and exit status 1.

    Args:
        compile_first: Called once the flow is checked, so that its kernels are compiled
            before the first event.
    """

    def decorate(build: Callable[[], Dataflow]) -> Callable[[], Dataflow]:
        @functools.wraps(build)
        def guard() -> Dataflow:
            os.environ["RUST_BACKTRACE"] = "0"  # Bytewax would bury the message
            # Writers wait for the interpreter while the worker computes: not for long.
            sys.setswitchinterval(_SWITCH_S)
            try:
                logs.set_up(TelemetrySettings.load())
                flow = build()
            except FlowError as error:
                raise logs.stopped(error) from None
            for compiled in compile_first:
                compiled()
            stopping.install()
            metrics_host.keep()
            return flow

        return guard

    return decorate


class Wiring:
    """What one flow makes of its log, and where it goes.

    Args:
        name: of the flow.
        settings: checked.
        log_input: what it reads.
        output: base of the topics `.late`, `.rejected` and `.progress`.
        definition: settings that define the output, besides the input's.
    """

    def __init__(
        self,
        name: str,
        settings: FlowSettings,
        log_input: LogInput,
        *,
        output: str,
        definition: Mapping[str, Any],
    ) -> None:
        self.settings = settings
        self.partitions = log_input.log.partitions
        self._input = log_input
        self._output = output
        self.identity = FlowIdentity(
            name,
            settings.flow_version,
            {
                **log_input.definition,
                "shards": settings.shards,
                "lateness_s": settings.lateness_s,
                "correction_s": settings.correction_s,
                "max_ahead_s": settings.max_ahead_s,
                "wire_format": "confluent" if settings.schema_registry_url else "none",
                **definition,
            },
        )

    @property
    def topic(self) -> str:
        """Name of the log, for the late stream."""
        return self._input.log.topic

    def output(
        self,
        results: KeyedStream[Output],
        previews: Stream[Any] | None = None,
        *,
        messages: MessageRoute,
        table: Table,
        live_table: Table | None = None,
        besides: Mapping[str, KafkaRoute] | None = None,
        line: Callable[[Mapping[str, Any]], str] | None = None,
        is_shown: bool = True,
    ) -> None:
        """Write results, late and rejected rows exactly once, and previews as they come.

        Args:
            results: items by lane.
            previews: batches of rows still forming; None for a flow without.
            messages: how results become Kafka records.
            table: where results go in PostgreSQL.
            live_table: where previews go in PostgreSQL; None for a flow without.
            besides: further kinds of output, which become Kafka records only.
            line: a result as a line in the terminal; None for candles, which have a display.
            is_shown: whether the terminal shows the results of an embedded run.

        Raises:
            FlowError: A broker or the database cannot be reached, or what they hold does
                not belong to these settings.
        """
        name, client_config = self.identity.name, self._input.client_config
        url = tables_url(self.settings)
        tables = {
            "results": PostgresRoute(table, upsert="revision" in table.c),
            "late": PostgresRoute(LATE, upsert=False),
            "rejected": PostgresRoute(REJECTED, upsert=False),
        }
        topics: dict[str, KafkaRoute] = {
            "results": messages,
            **self._asides(),
            **(besides or {}),
        }
        self._refuse_a_loop({topic for route in topics.values() for topic in route.topics})
        live = {
            f"{topic}.live": TopicSpec(messages.partitions, _LIVE_TOPIC)
            for topic in messages.topics
            if previews is not None
        }
        progress_topic = f"{self._output}.progress"
        if url is not None:  # both are checked before either is written
            live_tables = [] if live_table is None else [live_table]
            prepare_postgres(self.identity, tables, url=url, other_tables=live_tables)
        if not self._input.is_embedded:
            prepare_kafka(
                self.identity,
                topics,
                client_config=client_config,
                progress_topic=progress_topic,
                other_topics=live,
            )
            sink = kafka_sink(
                self.identity,
                topics,
                client_config=client_config,
                progress_topic=progress_topic,
            )
            op.output(f"{name}_kafka", results, sink)
            if previews is not None:
                live_messages = replace(
                    messages,
                    topic_of={name: f"{topic}.live" for name, topic in messages.topic_of.items()},
                )
                live_sink = KafkaLiveSink(live_messages.records, client_config)
                op.output(f"{name}_kafka_live", previews, live_sink)
        if url is not None:
            rows = results
            if besides:
                rows = op.filter(f"{name}_rows", results, lambda item: item[1].kind in tables)
            op.output(f"{name}_postgres", rows, postgres_sink(self.identity, tables, url=url))
            if previews is not None and live_table is not None:
                op.output(f"{name}_postgres_live", previews, PostgresLiveSink(live_table, url))
        if self._input.is_embedded and is_shown:
            self._show(results, previews, table, line, url)

    def _show(
        self,
        results: KeyedStream[Output],
        previews: Stream[Any] | None,
        table: Table,
        line: Callable[[Mapping[str, Any]], str] | None,
        url: str | None,
    ) -> None:
        name = self.identity.name
        rows = op.filter_map(f"{name}_closed", results, result_rows)
        psql = "psql" if self.settings.database_url else str(embedded_psql())
        shown = rows if previews is None else op.merge(f"{name}_shown", rows, previews)
        progress = self._input.progress
        console = (
            ConsoleSink(url, progress, psql=psql)
            if line is None
            else LineConsoleSink(line, table.name, url, progress, psql=psql)
        )
        op.output(f"{name}_terminal", shown, console)

    def _refuse_a_loop(self, outputs: set[str]) -> None:
        if self.topic in outputs:
            raise FlowError(
                f"INPUT_TOPIC={self.topic} is also an output of this flow",
                "Name another topic in INPUT_TOPIC or OUTPUT_TOPIC; a flow that reads what it "
                "writes never ends.",
            )

    def _asides(self) -> dict[str, KafkaRoute]:
        n = self.partitions
        late = AsideRoute(f"{self._output}.late", n, "event_time", "key", _LATE_HEADERS)
        return {"late": late, "rejected": rejected_route(self._output, n)}
