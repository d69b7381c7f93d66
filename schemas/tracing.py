"""The seam between a flow and a tracer: what is told of batches and transactions.

The parts of a flow tell what they do; a tracer, which `use` names, makes spans of it. Without
one nothing is traced, nothing of a tracer is imported, and each call here is one look at a
variable. Whether a batch is traced is the tracer's decision; a transaction is traced when one
of the batches that its rows came with is.

Contract. Telling has no effect on what is told of: no call waits for anything outside the
process, and none raises.
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from schemas.origin import MOST_SPANS
from schemas.stream import Output

__all__ = [
    "MOST_LANES",
    "Attribute",
    "BatchSpan",
    "Tracer",
    "TransactionSpan",
    "batch",
    "retried",
    "trace_id",
    "transaction",
    "use",
]

Attribute = str | int | float | bool | Sequence[str] | Sequence[int]

MOST_LANES: int = 32
"""Lanes of a transaction that traces and logs name."""


class BatchSpan(Protocol):
    """A batch of a source that is being made."""

    def end(self, attributes: Mapping[str, Attribute]) -> str:
        """It is handed on; the span's W3C `traceparent`, for `Origin.spans`."""
        ...


class TransactionSpan(Protocol):
    """A transaction that is on its way."""

    @property
    def trace_id(self) -> str:
        """32 hexadecimal digits."""
        ...

    def retried(self, reason: str) -> None:
        """An attempt has failed, and another follows."""
        ...


class Tracer(Protocol):
    """Makes spans."""

    def batch(self, begun_s: float) -> BatchSpan | None:
        """A span of a batch; None when this one is not to be traced.

        Args:
            begun_s: when it began, wall clock, seconds since the epoch.
        """
        ...

    def transaction(
        self, spans: Sequence[str], attributes: Mapping[str, Attribute]
    ) -> AbstractContextManager[TransactionSpan]:
        """A span of a transaction, which fails when the block raises.

        Args:
            spans: `traceparent` of the batches that it belongs to, at least one.
            attributes: of the transaction.
        """
        ...


class _State:
    tracer: Tracer | None = None


class _OfThread(threading.local):
    transaction: TransactionSpan | None = None


_state = _State()
_own = _OfThread()


def use(tracer: Tracer | None) -> None:
    """Have this process traced; None: not any more."""
    _state.tracer = tracer


def batch(begun_s: float) -> BatchSpan | None:
    """A span of a batch that began then; None when it is not traced."""
    tracer = _state.tracer
    return None if tracer is None else tracer.batch(begun_s)


@contextmanager
def transaction(flow: str, sink: str, partition: str, outputs: Sequence[Output]) -> Iterator[None]:
    """What happens in this block, in this thread, is one transaction of a sink.

    Args:
        flow: name.
        sink: what it writes to.
        partition: of the sink.
        outputs: what is written.
    """
    tracer = _state.tracer
    spans = () if tracer is None else _spans(outputs)
    if tracer is None or not spans:
        yield
        return
    with tracer.transaction(spans, _attributes(flow, sink, partition, outputs)) as span:
        _own.transaction = span
        try:
            yield
        finally:
            _own.transaction = None


def retried(reason: str) -> None:
    """The transaction of this thread, if there is one, was not stored and is tried again."""
    if _own.transaction is not None:
        _own.transaction.retried(reason)


def trace_id() -> str | None:
    """Trace of this thread's transaction, if it is traced."""
    return None if _own.transaction is None else _own.transaction.trace_id


def _spans(outputs: Sequence[Output]) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for output in outputs:
        if output.origin is not None and output.origin.spans:
            found.update(dict.fromkeys(output.origin.spans))
    return tuple(found)[:MOST_SPANS]


def _attributes(
    flow: str, sink: str, partition: str, outputs: Sequence[Output]
) -> dict[str, Attribute]:
    """Lanes with the first and last position written of each; at most `MOST_LANES` of them."""
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    for output in outputs:
        lane = output.lane
        start = output.positions[0] if len(output.positions) else output.position
        first.setdefault(lane, int(start))
        last[lane] = output.position
    lanes = list(first)[:MOST_LANES]
    return {
        "tidemark.flow": flow,
        "tidemark.sink": sink,
        "tidemark.sink_partition": partition,
        "tidemark.rows": sum(output.rows.num_rows for output in outputs),
        "tidemark.lane_count": len(first),
        "tidemark.lanes": lanes,
        "tidemark.first_positions": [first[lane] for lane in lanes],
        "tidemark.last_positions": [last[lane] for lane in lanes],
    }
