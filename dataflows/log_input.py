"""Which log a flow reads: a Kafka topic, or a simulated log where there is no Kafka.

A `LogInput` also holds what all that is made of one log shares in a process: the name of its
state, and the progress of a finite run.
"""

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import bytewax.operators as op
from bytewax.dataflow import Dataflow, Stream

from dataflows.process import kafka_config, prepare_process, state_name
from dataflows.settings import FlowSettings
from schemas.stream import Codec, Events, KeyedCodec
from sources.emitted import Emitted
from sources.kafka import KafkaLog
from sources.log import Log
from sources.market import SimulatedMarket, opening
from sources.partitioned import LogSource, SourceRule
from sources.progress import RunProgress

__all__ = ["LogInput", "Simulated", "simulated_length", "simulated_market"]

_LOGGER = logging.getLogger(__name__)
_LENGTH = 1_000_000


class Simulated(Log, Protocol):
    """A log that is computed."""

    @property
    def definition(self) -> Mapping[str, Any]:
        """What its records depend on, JSON-able."""
        ...


def simulated_length(settings: FlowSettings) -> int | None:
    """Records of a simulated log that is there all at once; None for one that grows."""
    return settings.market_trades or (_LENGTH if settings.stop_at_end else None)


def simulated_market(settings: FlowSettings) -> SimulatedMarket:
    """Trades."""
    trades = simulated_length(settings)
    return SimulatedMarket(
        seed=settings.market_seed,
        partitions=settings.market_partitions,
        instruments=settings.market_instruments,
        rate=settings.market_rate,
        opened_at_ms=opening(settings.data_dir, int(time.time() * 1000)),
        trades=trades,
        pace="live" if trades is None else "fast",
    )


class LogInput:
    """The log of one dataflow.

    Args:
        name: of the dataflow.
        settings: checked.
        topic: default input topic.
        simulated: makes the log of an embedded run.
        with_keys: whether its codec reads the records' keys.

    Attributes:
        log: what is read.
        client_config: librdkafka settings of every client.
        is_embedded: whether there is no Kafka.
        progress: of a run with an end.

    Raises:
        FlowError: The log cannot be reached.
    """

    def __init__(
        self,
        name: str,
        settings: FlowSettings,
        topic: str,
        simulated: Callable[[FlowSettings], Simulated] = simulated_market,
        *,
        with_keys: bool = False,
    ) -> None:
        self._name = name
        self._with_keys = with_keys
        self._settings = settings
        self.progress = RunProgress(what=topic, is_finite=settings.stop_at_end)
        prepare_process(name, settings)
        self.client_config = kafka_config(settings)
        self.is_embedded = settings.kafka_bootstrap_servers is None
        self._simulated = simulated(settings) if self.is_embedded else None
        self.log: Log = self._simulated or self._topic(topic)
        _LOGGER.info(
            "Input is %s with %d partitions",
            self.log.topic,
            self.log.partitions,
            extra={"topic": self.log.topic, "partitions": self.log.partitions},
        )

    def _topic(self, topic: str) -> Log:
        settings = self._settings
        group = f"{self._name}-v{settings.flow_version}"
        name = settings.input_topic or topic
        return KafkaLog(self.client_config, name, group, with_keys=self._with_keys)

    @property
    def definition(self) -> Mapping[str, Any]:
        """The part of a flow's fingerprint that is about its input."""
        market = {"market": self._simulated.definition} if self._simulated else {}
        return {"input": self.log.topic, "input_partitions": self.log.partitions, **market}

    @property
    def flow_id(self) -> str:
        """Whose state it is in a recovery store; see `state_name`."""
        settings = self._settings
        return state_name(self._name, settings, has_tables=settings.database_url != "off")

    def read(
        self,
        step_id: str,
        flow: Dataflow,
        codec: Codec | KeyedCodec,
        *,
        replay_ms: int = 0,
        emitted: Emitted | None = None,
    ) -> Stream[Events]:
        """The log as batches of events.

        Args:
            step_id: unique and permanent name; recovery finds the place in the log by it.
            flow: the dataflow.
            codec: how to decode.
            replay_ms: span of event time that a restart reads again, see `SourceRule`.
            emitted: what then tells how far the flow has emitted.
        """
        settings = self._settings
        rule = SourceRule(
            flow=self._name,
            lateness_ms=round(settings.lateness_s * 1000),
            ahead_ms=round(settings.max_ahead_s * 1000),
            idle_timeout_s=settings.idle_timeout_s,
            stop_at_end=settings.stop_at_end,
            replay_ms=replay_ms,
        )
        source = LogSource(self.log, codec, rule, self.progress.report, emitted)
        return op.input(step_id, flow, source)
