"""A collector of traces: OTLP over gRPC, which is what Jaeger and others speak."""

import threading
from collections.abc import Iterator, Mapping
from concurrent import futures
from contextlib import contextmanager
from typing import Any, NamedTuple

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as messages
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as services
from opentelemetry.proto.common.v1.common_pb2 import AnyValue

__all__ = ["Collector", "ReceivedSpan", "collector", "silent_collector"]


class ReceivedSpan(NamedTuple):
    service: str
    scope: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    links: tuple[tuple[str, str], ...]
    attributes: Mapping[str, Any]
    status: int
    reason: str
    events: tuple[tuple[str, Mapping[str, Any]], ...]
    start_ns: int
    end_ns: int

    @property
    def place(self) -> tuple[str, str]:
        return self.trace_id, self.span_id


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(one) for one in value.array_value.values]
    return getattr(value, kind)


def _attributes(items: Any) -> dict[str, Any]:
    return {item.key: _value(item.value) for item in items}


class Collector(services.TraceServiceServicer):
    """Keeps all spans that it receives."""

    def __init__(self) -> None:
        self.url = ""
        self._spans: list[ReceivedSpan] = []
        self._lock = threading.Lock()

    def Export(self, request: Any, context: Any) -> Any:  # noqa: N802  # of the protocol
        for resource in request.resource_spans:
            service = _attributes(resource.resource.attributes)["service.name"]
            for scope in resource.scope_spans:
                received = [self._read(service, scope.scope.name, span) for span in scope.spans]
                with self._lock:
                    self._spans += received
        return messages.ExportTraceServiceResponse()

    @staticmethod
    def _read(service: str, scope: str, span: Any) -> ReceivedSpan:
        return ReceivedSpan(
            service,
            scope,
            span.name,
            span.trace_id.hex(),
            span.span_id.hex(),
            span.parent_span_id.hex(),
            tuple((link.trace_id.hex(), link.span_id.hex()) for link in span.links),
            _attributes(span.attributes),
            span.status.code,
            span.status.message,
            tuple((event.name, _attributes(event.attributes)) for event in span.events),
            span.start_time_unix_nano,
            span.end_time_unix_nano,
        )

    def spans(self, name: str) -> list[ReceivedSpan]:
        with self._lock:
            return [span for span in self._spans if span.name == name]

    def count(self) -> int:
        with self._lock:
            return len(self._spans)

    def names(self) -> set[str]:
        with self._lock:
            return {span.name for span in self._spans}


@contextmanager
def collector() -> Iterator[Collector]:
    """A collector on a port of its own."""
    server = grpc.server(futures.ThreadPoolExecutor(2))
    servicer = Collector()
    services.add_TraceServiceServicer_to_server(servicer, server)
    servicer.url = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield servicer
    finally:
        server.stop(None).wait()


class _Silent(services.TraceServiceServicer):
    def __init__(self) -> None:
        self.end = threading.Event()

    def Export(self, request: Any, context: Any) -> Any:  # noqa: N802  # of the protocol
        self.end.wait(600)
        return messages.ExportTraceServiceResponse()


@contextmanager
def silent_collector() -> Iterator[str]:
    """The URL of a collector that takes spans and never answers."""
    server = grpc.server(futures.ThreadPoolExecutor(8))
    servicer = _Silent()
    services.add_TraceServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        servicer.end.set()
        server.stop(None).wait()
