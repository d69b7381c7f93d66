"""What a sink tells of its transactions, to the log, to the trace and of retries to the metrics."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from schemas import tracing
from schemas.stream import Output
from schemas.tracing import MOST_LANES
from sinks.metrics import RETRIES

__all__ = ["about", "tell_retry", "tell_snapshot", "tell_stored"]

_LOGGER = logging.getLogger(__name__)


def about(outputs: Sequence[Output]) -> dict[str, Any]:
    """For the log: lanes of a transaction, `MOST_LANES` at most, with the positions they reach."""
    positions = {output.lane: output.position for output in outputs}
    if len(positions) == 1:
        lane, position = positions.popitem()
        return {"lane": lane, "position": position}
    return {"lanes": dict(list(positions.items())[:MOST_LANES])}


def tell_retry(
    flow: str, sink: str, partition: str, outputs: Sequence[Output], reason: str, *, is_first: bool
) -> None:
    """Each time in the metrics and the trace, once for a transaction in the log.

    Args:
        flow: name.
        sink: what it writes to.
        partition: of the sink.
        outputs: what is to be written.
        reason: why it was not.
        is_first: whether it is the first attempt that failed.
    """
    RETRIES.labels(flow, sink, partition).inc()
    tracing.retried(reason)
    if is_first:
        _LOGGER.warning(
            "A transaction of sink partition %s is tried again: %s",
            partition,
            reason,
            extra={"flow": flow, "sink": sink, "sink_partition": partition, **about(outputs)},
        )


def tell_snapshot(fields: Mapping[str, Any], positions: Sequence[tuple[str, int]]) -> None:
    """That all is stored which a snapshot stands for, at INFO.

    Args:
        fields: of the sink.
        positions: lanes of the sink partition, with the positions reached.
    """
    _LOGGER.info(
        "All is stored of a snapshot: %d lanes",
        len(positions),
        extra={**fields, "lanes": dict(positions[:MOST_LANES])},
    )


def tell_stored(fields: Mapping[str, Any], outputs: Sequence[Output]) -> None:
    """Each item of a transaction that was stored, at DEBUG.

    Args:
        fields: of the sink.
        outputs: what was stored.
    """
    if not _LOGGER.isEnabledFor(logging.DEBUG):
        return
    for output in outputs:
        _LOGGER.debug(
            "Stored %d rows of lane %s up to %d",
            output.rows.num_rows,
            output.lane,
            output.position,
            extra={**fields, "lane": output.lane, "position": output.position},
        )
