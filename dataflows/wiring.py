"""What lies between a flow's picture and the world: which log, which sinks, which checks.

With `KAFKA_BOOTSTRAP_SERVERS` a flow reads Kafka and writes Kafka and PostgreSQL; without,
it reads the simulated market and writes PostgreSQL and the terminal. Everything is checked
before anything is written: settings, brokers, topics, tables, and that stored progress
belongs to these settings.
"""

import functools
import logging
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import TracebackType
from typing import Any

import bytewax.operators as op
from bytewax.dataflow import Dataflow, Stream
from bytewax.operators import KeyedStream
from sqlalchemy import Table

from dataflows.console import ConsoleSink
from dataflows.line_console import LineConsoleSink
from dataflows.settings import FlowSettings
from schemas import failpoints
from schemas.errors import FlowError
from schemas.stream import Codec, Events, FlowIdentity, Output
from schemas.tables import LATE, REJECTED
from sinks.embedded_postgres import embedded_postgres, embedded_psql
from sinks.kafka import KafkaRoute, TopicSpec, kafka_sink, prepare_kafka
from sinks.live import KafkaLiveSink, PostgresLiveSink
from sinks.postgres import PostgresRoute, postgres_sink, prepare_postgres
from sinks.routes import AsideRoute, MessageRoute
from sources import stopping
from sources.kafka import KafkaLog
from sources.log import Log
from sources.market import SimulatedMarket, opening
from sources.partitioned import LogSource, SourceRule
from sources.progress import RunProgress

__all__ = ["Wiring", "guarded"]

_LATE_HEADERS = ("topic", "partition", "offset", "event_time", "watermark", "late_by_ms")
_REJECTED_HEADERS = ("topic", "partition", "offset", "reason")
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
            logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
            sys.excepthook = _explain
            # Writers wait for the interpreter while the worker computes: not for long.
            sys.setswitchinterval(_SWITCH_S)
            try:
                flow = build()
            except FlowError as error:
                raise SystemExit(f"error: {error}") from None
            for compiled in compile_first:
                compiled()
            stopping.install()
            return flow

        return guard

    return decorate


def _explain(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print the `FlowError` that ended the dataflow, if one did; else the traceback."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, FlowError):
        cause = cause.__cause__ or cause.__context__
    if cause is None:
        sys.__excepthook__(kind, error, trace)
    else:
        print(f"error: {cause}", file=sys.stderr)  # noqa: T201  # to the operator


class Wiring:
    """One flow's connections.

    Args:
        name: of the flow.
        settings: checked.
        topic: default input topic.
        output: base of the topics `.late`, `.rejected` and `.progress`.
        definition: settings that define the output, besides the input's.

    Raises:
        FlowError: The input cannot be reached.
    """

    def __init__(
        self,
        name: str,
        settings: FlowSettings,
        *,
        topic: str,
        output: str,
        definition: Mapping[str, Any],
    ) -> None:
        self.settings = settings
        self._output = output
        self._progress = RunProgress(what=topic, is_finite=settings.stop_at_end)
        failpoints.configure(settings.failpoints)
        if settings.metrics_port is not None:
            # Bytewax serves Python's Prometheus registry beside its own metrics.
            os.environ["BYTEWAX_DATAFLOW_API_ENABLED"] = "1"
            os.environ["BYTEWAX_DATAFLOW_API_PORT"] = str(settings.metrics_port)
        self._client_config: dict[str, str | int] = {
            "bootstrap.servers": settings.kafka_bootstrap_servers or ""
        }
        self.log = self._open_log(name, settings.input_topic or topic)
        self.identity = FlowIdentity(
            name,
            settings.flow_version,
            {
                "input": self.log.topic,
                "input_partitions": self.log.partitions,
                "shards": settings.shards,
                "lateness_s": settings.lateness_s,
                "correction_s": settings.correction_s,
                "max_ahead_s": settings.max_ahead_s,
                "wire_format": "confluent" if settings.schema_registry_url else "none",
                **self._market_definition(),
                **definition,
            },
        )

    @property
    def flow_id(self) -> str:
        """Whose state it is in a recovery store.

        A flow that writes no tables has a state of its own: were it shared, tables that are
        switched on again would begin where the flow is, with a hole before.
        """
        suffix = "-without-tables" if self.settings.database_url == "off" else ""
        return self.identity.flow_id + suffix

    @property
    def _is_embedded(self) -> bool:
        return self.settings.kafka_bootstrap_servers is None

    def _open_log(self, name: str, topic: str) -> Log:
        settings = self.settings
        if settings.kafka_bootstrap_servers is not None:
            group = f"{name}-v{settings.flow_version}"
            return KafkaLog(self._client_config, topic, group)
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        trades = settings.market_trades
        if trades is None and settings.stop_at_end:
            trades = 1_000_000
        return SimulatedMarket(
            seed=settings.market_seed,
            partitions=settings.market_partitions,
            instruments=settings.market_instruments,
            rate=settings.market_rate,
            opened_at_ms=opening(settings.data_dir, int(time.time() * 1000)),
            trades=trades,
            pace="live" if trades is None else "fast",
        )

    def _market_definition(self) -> Mapping[str, Any]:
        return {"market": self.log.definition} if isinstance(self.log, SimulatedMarket) else {}

    def input(self, step_id: str, flow: Dataflow, codec: Codec) -> Stream[Events]:
        """The log as batches of events."""
        settings = self.settings
        rule = SourceRule(
            flow=self.identity.name,
            lateness_ms=round(settings.lateness_s * 1000),
            ahead_ms=round(settings.max_ahead_s * 1000),
            idle_timeout_s=settings.idle_timeout_s,
            stop_at_end=settings.stop_at_end,
        )
        return op.input(step_id, flow, LogSource(self.log, codec, rule, self._progress.report))

    def output(
        self,
        results: KeyedStream[Output],
        previews: Stream[Any] | None = None,
        *,
        messages: MessageRoute,
        table: Table,
        live_table: Table | None = None,
        line: Callable[[Mapping[str, Any]], str] | None = None,
    ) -> None:
        """Write results, late and rejected rows exactly once, and previews as they come.

        Args:
            results: items by lane.
            previews: batches of rows still forming; None for a flow without.
            messages: how results become Kafka records.
            table: where results go in PostgreSQL.
            live_table: where previews go in PostgreSQL; None for a flow without.
            line: a result as a line in the terminal; None for candles, which have a display.

        Raises:
            FlowError: A broker or the database cannot be reached, or what they hold does
                not belong to these settings.
        """
        url = self._database_url()
        tables = {
            "results": PostgresRoute(table, upsert=True),
            "late": PostgresRoute(LATE, upsert=False),
            "rejected": PostgresRoute(REJECTED, upsert=False),
        }
        topics: dict[str, KafkaRoute] = {"results": messages, **self._asides()}
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
        if not self._is_embedded:
            prepare_kafka(
                self.identity,
                topics,
                client_config=self._client_config,
                progress_topic=progress_topic,
                other_topics=live,
            )
            sink = kafka_sink(
                self.identity,
                topics,
                client_config=self._client_config,
                progress_topic=progress_topic,
            )
            op.output("kafka", results, sink)
            if previews is not None:
                live_messages = replace(
                    messages,
                    topic_of={name: f"{topic}.live" for name, topic in messages.topic_of.items()},
                )
                live_sink = KafkaLiveSink(live_messages.records, self._client_config)
                op.output("kafka_live", previews, live_sink)
        if url is not None:
            op.output("postgres", results, postgres_sink(self.identity, tables, url=url))
            if previews is not None and live_table is not None:
                op.output("postgres_live", previews, PostgresLiveSink(live_table, url))
        if self._is_embedded:
            rows = op.filter_map("closed", results, _result_rows)
            psql = "psql" if self.settings.database_url else str(embedded_psql())
            shown = rows if previews is None else op.merge("shown", rows, previews)
            console = (
                ConsoleSink(url, self._progress, psql=psql)
                if line is None
                else LineConsoleSink(line, table.name, url, self._progress, psql=psql)
            )
            op.output("terminal", shown, console)

    def _refuse_a_loop(self, outputs: set[str]) -> None:
        if self.log.topic in outputs:
            raise FlowError(
                f"INPUT_TOPIC={self.log.topic} is also an output of this flow",
                "Name another topic in INPUT_TOPIC or OUTPUT_TOPIC; a flow that reads what it "
                "writes never ends.",
            )

    def _asides(self) -> dict[str, KafkaRoute]:
        n = self.log.partitions
        late = AsideRoute(f"{self._output}.late", n, "event_time", "key", _LATE_HEADERS)
        rejected = AsideRoute(f"{self._output}.rejected", n, "record_time", None, _REJECTED_HEADERS)
        return {"late": late, "rejected": rejected}

    def _database_url(self) -> str | None:
        url = self.settings.database_url
        if url == "off":
            return None
        return url or embedded_postgres(self.settings.data_dir / "postgres")


def _result_rows(item: tuple[str, Output]) -> Any:  # noqa: ANN401  # a record batch
    output = item[1]
    return output.rows if output.kind == "results" else None
