"""Traces by OpenTelemetry: a span for a batch of a source, one for each transaction it led to.

`schemas.tracing` is what the parts of a flow know of it. Imported only where traces are asked
for.

Contract. An unreachable or slow collector neither slows nor ends a flow: spans wait in a
bounded queue for a thread of its own, the newest are dropped when it is full, and at the end
of the process they are given a few seconds. What goes wrong with them is one warning a minute.

A sampled batch is the root of a trace. A transaction has a span in the trace of each of its
traced batches, so that each trace is whole; all of them are linked to all of these batches.
"""

import atexit
import logging
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from bytewax.tracing import OtlpTracingConfig, setup_tracing
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)
from opentelemetry.trace import Tracer as OpenTelemetryTracer
from typing_extensions import override

from schemas import tracing
from schemas.tracing import Attribute

__all__ = ["Spans", "start"]

_LOGGER = logging.getLogger(__name__)
_QUEUE_SPANS = 2_048
_EXPORT_SPANS = 512
_DELAY_MS = 1_000
_EXPORT_S = 2.5  # the longest that one export takes, with its retries
_CLOSE_S = 2.0  # after so long no further export begins
_WARN_S = 60.0

_kept: list[object] = []  # Bytewax's tracer ends when nobody holds it


def start(endpoint: str, *, flow: str, version: str, share: float, step_share: float = 0.0) -> None:
    """Trace this process until it ends.

    Args:
        endpoint: URL of a collector that takes OTLP over gRPC.
        flow: name; `tidemark-<flow>` is the name of the service.
        version: of the flow.
        share: of batches that are traced.
        step_share: of Bytewax's own spans that are sent too; 0: it makes none.
    """
    _warn_seldom()
    exporter = _Exporter(OTLPSpanExporter(endpoint=endpoint, timeout=_EXPORT_S))
    service = f"tidemark-{flow}"
    resource = Resource.create({"service.name": service, "service.version": version})
    provider = TracerProvider(ALWAYS_ON, resource, shutdown_on_exit=False)
    provider.add_span_processor(
        BatchSpanProcessor(
            exporter,
            max_queue_size=_QUEUE_SPANS,
            schedule_delay_millis=_DELAY_MS,
            max_export_batch_size=_EXPORT_SPANS,
        )
    )
    tracing.use(Spans(provider.get_tracer("tidemark"), share))

    def close() -> None:
        tracing.use(None)
        exporter.end()
        provider.shutdown()

    atexit.register(close)
    if step_share:
        config = OtlpTracingConfig(service, endpoint, step_share)  # type: ignore[no-untyped-call]
        _kept.append(setup_tracing(config))  # type: ignore[no-untyped-call]


class Spans:
    """See `schemas.tracing.Tracer`.

    Args:
        tracer: records every span that it is asked for.
        share: of batches that are traced, 0 to 1.
    """

    def __init__(self, tracer: OpenTelemetryTracer, share: float) -> None:
        self._tracer = tracer
        self._share = share
        self._random = random.Random()  # noqa: S311  # no secret

    def batch(self, begun_s: float) -> "_BatchSpan | None":
        """See `Tracer`."""
        if self._random.random() >= self._share:
            return None
        return _BatchSpan(
            self._tracer.start_span(
                "source.batch",
                Context(),
                kind=SpanKind.CONSUMER,
                start_time=int(begun_s * 1e9),
            )
        )

    @contextmanager
    def transaction(
        self, spans: Sequence[str], attributes: Mapping[str, Attribute]
    ) -> Iterator["_TransactionSpan"]:
        """See `Tracer`."""
        batches = [_context(span) for span in spans]
        links = [Link(batch) for batch in batches]
        begun_ns = time.time_ns()
        own = [
            self._tracer.start_span(
                "sink.transaction",
                set_span_in_context(NonRecordingSpan(batch), Context()),
                kind=SpanKind.CLIENT,
                attributes=attributes,
                links=links,
                start_time=begun_ns,
            )
            for batch in batches
        ]
        status = Status(StatusCode.OK)
        try:
            yield _TransactionSpan(own)
        except BaseException as error:
            status = Status(StatusCode.ERROR, str(error))
            raise
        finally:
            ended_ns = time.time_ns()
            for span in own:
                span.set_status(status)
                span.end(ended_ns)


class _BatchSpan:
    def __init__(self, span: Span) -> None:
        self._span = span

    def end(self, attributes: Mapping[str, Attribute]) -> str:
        self._span.set_attributes(attributes)
        self._span.end()
        own = self._span.get_span_context()
        return f"00-{own.trace_id:032x}-{own.span_id:016x}-{own.trace_flags:02x}"


class _TransactionSpan:
    def __init__(self, spans: Sequence[Span]) -> None:
        self._spans = spans

    @property
    def trace_id(self) -> str:
        return f"{self._spans[0].get_span_context().trace_id:032x}"

    def retried(self, reason: str) -> None:
        for span in self._spans:
            span.add_event("retry", {"reason": reason})


def _context(traceparent: str) -> SpanContext:
    _, trace_id, span_id, flags = traceparent.split("-")
    return SpanContext(
        int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=TraceFlags(int(flags, 16))
    )


class _Exporter(SpanExporter):
    """An exporter that begins nothing any more a while after the end."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._end_s = float("inf")

    def end(self) -> None:
        """What is not sent soon is not sent at all."""
        self._end_s = time.monotonic() + _CLOSE_S

    @override
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        if time.monotonic() > self._end_s:
            return SpanExportResult.FAILURE
        return self._exporter.export(spans)

    @override
    def shutdown(self) -> None:
        self._exporter.shutdown()


class _Seldom(logging.Handler):
    """Of what the libraries have to say, one warning a minute."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._next_s = 0.0

    @override
    def emit(self, record: logging.LogRecord) -> None:
        now_s = time.monotonic()
        if now_s >= self._next_s:
            self._next_s = now_s + _WARN_S
            _LOGGER.warning("Spans may be lost: %s", record.getMessage())


def _warn_seldom() -> None:
    library = logging.getLogger("opentelemetry")
    library.propagate = False
    library.handlers = [_Seldom()]
