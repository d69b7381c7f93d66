"""The span of a traced batch, whatever the source."""

from schemas.origin import Origin
from schemas.stream import NEVER
from schemas.tracing import Attribute, BatchSpan

__all__ = ["with_span"]


def with_span(
    origin: Origin,
    span: BatchSpan | None,
    flow: str,
    topic: str,
    *,
    first: int,
    last: int,
    records: int,
    rejected: int,
    partition: int = 0,
    watermark_ms: int = NEVER,
) -> Origin:
    """The origin of a batch that is handed on now; with its span, if it is traced.

    Args:
        origin: of the batch.
        span: of the batch; None when it is not traced.
        flow: name.
        topic: of the log; of a replication slot or a connector, its name.
        first: offset of the first record; where a log has none, its position, such as an LSN.
        last: of the last one.
        records: how many were read.
        rejected: how many of them were rejected.
        partition: of the log.
        watermark_ms: after the batch; left out where there is none.
    """
    if span is None:
        return origin
    attributes: dict[str, Attribute] = {
        "tidemark.flow": flow,
        "tidemark.topic": topic,
        "tidemark.partition": partition,
        "tidemark.first_offset": first,
        "tidemark.last_offset": last,
        "tidemark.records": records,
        "tidemark.rejected": rejected,
    }
    if watermark_ms != NEVER:
        attributes["tidemark.watermark_ms"] = watermark_ms
    return origin._replace(spans=(span.end(attributes),))
