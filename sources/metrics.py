"""What every source tells of its partitions.

`partition` is the number of the log's partition; a replication slot, a topic of Debezium and a
connection to the exchange are partitions too, and go by their names.
"""

import time
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from prometheus_client import Counter

from schemas.live_gauges import LiveGauges, Reading
from schemas.stream import NEVER
from sources.log import Fetcher

__all__ = ["READ", "REJECTED", "Standing", "forget", "standing_of", "watch"]

READ = Counter("tidemark_source_records", "Records read.", ["flow", "partition"])
REJECTED = Counter("tidemark_source_rejected", "Records rejected.", ["flow", "partition", "reason"])

_WATERMARK = "tidemark_source_watermark_timestamp_seconds"
_WATERMARK_LAG = "tidemark_source_watermark_lag_seconds"
_CONSUMER_LAG = "tidemark_source_consumer_lag_records"
_IDLE = "tidemark_source_idle"
_GAUGES = LiveGauges(
    {
        _WATERMARK: "Watermark, in event time.",
        _WATERMARK_LAG: "How far the watermark is behind the clock.",
        _CONSUMER_LAG: "Records of the log that were not read yet.",
        _IDLE: "Whether it waits at the end of its log, and holds nobody up.",
    },
    ["flow", "partition"],
)

Owner = TypeVar("Owner")


class Standing(NamedTuple):
    """Where a partition is.

    Attributes:
        watermark_ms: `NEVER` without one.
        lag_records: to the end of the log; None when unknown.
        is_idle: whether it waits at the end of its log, and holds nobody up.
    """

    watermark_ms: int = NEVER
    lag_records: int | None = None
    is_idle: bool | None = None


def watch(owner: Owner, flow: str, partition: str, standing: Callable[[Owner], Standing]) -> None:
    """Show where a partition is, as long as it is read.

    Args:
        owner: the partition, or a part of it.
        flow: name.
        partition: see the module.
        standing: called with the owner in any thread, quick and without waiting.
    """
    labels = (flow, partition)
    _GAUGES.watch(owner, lambda owner: Reading(labels, _values(standing(owner))))


def standing_of(fetcher: Fetcher, watermark_ms: int = NEVER) -> Standing:
    """Where the reader of a log is."""
    end, position = fetcher.known_end(), fetcher.position
    return Standing(watermark_ms, None if end is None else max(end - position, 0))


def forget(owner: object) -> None:
    """Show it no more."""
    _GAUGES.forget(owner)


def _values(now: Standing) -> dict[str, float | None]:
    has_watermark = now.watermark_ms > NEVER
    watermark_s = now.watermark_ms / 1000
    return {
        _WATERMARK: watermark_s if has_watermark else None,
        _WATERMARK_LAG: time.time() - watermark_s if has_watermark else None,
        _CONSUMER_LAG: now.lag_records,
        _IDLE: now.is_idle,
    }
