"""The source of every log, one partition per log partition; see `sources.log_partition`.

`LogSource` turns a `sources.log.Log` and a codec into a Bytewax source of `Events`.
"""

import gc
from collections.abc import Callable

from bytewax.inputs import FixedPartitionedSource
from typing_extensions import override

from schemas.stream import Codec, Events, KeyedCodec
from sources.log import Log
from sources.log_partition import LogPartition, SourceRule
from sources.rejects import AHEAD_OF_LOG
from sources.siblings import Siblings
from sources.timeline import PartitionState, ReplayState, SourceState

__all__ = [
    "AHEAD_OF_LOG",
    "LogPartition",
    "LogSource",
    "PartitionState",
    "ReplayState",
    "SourceRule",
]


class LogSource(FixedPartitionedSource[Events, SourceState]):
    """Bytewax source over a log; one permanent, zero-padded partition per log partition.

    Args:
        log: where to read.
        codec: how to decode.
        rule: parameters.
        report: see `LogPartition`.
        emitted: see `LogPartition`; a log of several partitions needs it for a replay.
    """

    def __init__(
        self,
        log: Log,
        codec: Codec | KeyedCodec,
        rule: SourceRule,
        report: Callable[[int, int, int, int, int], None] | None = None,
        emitted: Callable[[], int] | None = None,
    ) -> None:
        if rule.replay_ms and emitted is None and log.partitions > 1:
            raise ValueError("the slowest partition decides how far a replay goes back")
        self._log = log
        self._codec = codec
        self._rule = rule
        self._report = report
        self._emitted = emitted
        self._siblings = Siblings()

    @override
    def list_parts(self) -> list[str]:
        return [f"{partition:05d}" for partition in range(self._log.partitions)]

    @override
    def build_part(
        self, step_id: str, for_part: str, resume_state: SourceState | None
    ) -> LogPartition:
        # What the start has made stays: the cyclic collector need not look at it again.
        gc.collect()
        gc.freeze()
        return LogPartition(
            self._log,
            self._codec,
            self._rule,
            int(for_part),
            resume_state,
            report=self._report,
            siblings=self._siblings,
            emitted=self._emitted,
        )
