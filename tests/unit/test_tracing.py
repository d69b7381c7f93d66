"""The seam to a tracer, and the spans that OpenTelemetry makes of what it is told."""

import subprocess
import sys
import threading
from collections.abc import Iterator

import bytewax.operators as op
import numpy as np
import pyarrow as pa
import pytest
from bytewax.dataflow import Dataflow
from bytewax.testing import TestingSink, TestingSource, run_main
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from dataflows.tracing import Spans
from operators.by_lane import by_lane
from schemas import tracing
from schemas.origin import MOST_SPANS, Origin
from schemas.stream import Output
from schemas.trades import TradeCodec
from sources.log_partition import LogPartition, SourceRule
from tests.list_log import NOW_MS, NOW_S, Clock, ListLog, trade


@pytest.fixture
def exporter() -> Iterator[InMemorySpanExporter]:
    """Where every span ends up while all batches are traced."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing.use(Spans(provider.get_tracer("test"), 1.0))
    yield exporter
    tracing.use(None)
    provider.shutdown()


def batch() -> str:
    span = tracing.batch(NOW_S)
    assert span is not None
    return span.end({"tidemark.flow": "test"})


def output(*spans: str, lane: int = 0, positions: tuple[int, ...] = (1, 2)) -> Output:
    rows = pa.record_batch({"x": list(positions)})
    origin = Origin(1.0, 2, spans)
    return Output("results", lane, np.array(positions), positions[-1], rows, origin=origin)


def named(exporter: InMemorySpanExporter, name: str) -> list[ReadableSpan]:
    return [span for span in exporter.get_finished_spans() if span.name == name]


def places(spans: list[ReadableSpan]) -> set[tuple[int, int]]:
    return {(span.context.trace_id, span.context.span_id) for span in spans}


def test_a_batch_of_a_feed_is_traced_by_its_lanes(exporter: InMemorySpanExporter) -> None:
    rows = pa.record_batch(
        {
            "instrument": ["A", "A", "B"],
            "trade_seq": pa.array([3, 5, 9], pa.int64()),
            "timestamp": pa.array([1, 3, 2], pa.timestamp("ms", tz="UTC")),
        }
    )
    out: list[tuple[str, Output]] = []
    flow = Dataflow("feed")
    batches = op.input("in", flow, TestingSource([rows]))
    items = by_lane(
        "cut", batches, flow="feed", key="instrument", position="trade_seq", at="timestamp",
        partitions=1,
    )  # fmt: skip
    op.output("out", items, TestingSink(out))
    run_main(flow)
    (span,) = named(exporter, "source.batch")
    assert span.attributes == {
        "tidemark.flow": "feed",
        "tidemark.records": 3,
        "tidemark.lane_count": 2,
        "tidemark.lanes": ("results-A", "results-B"),
        "tidemark.first_positions": (3, 9),
        "tidemark.last_positions": (5, 9),
    }
    with tracing.transaction("feed", "kafka", "00", [item for _, item in out]):
        pass
    (transaction,) = named(exporter, "sink.transaction")
    assert transaction.parent.span_id == span.context.span_id


def test_without_a_tracer_nothing_is_traced() -> None:
    assert tracing.batch(NOW_S) is None
    with tracing.transaction("f", "s", "00", [output("not looked at")]):
        tracing.retried("nobody hears it")
        assert tracing.trace_id() is None


def test_flows_import_neither_traces_nor_a_client_of_a_registry_unasked() -> None:
    unasked = ("opentelemetry", "grpc", "authlib", "httpx")
    code = (
        "import dataflows.market, dataflows.sellers, sys; "
        f"assert not sys.modules.keys() & {set(unasked)}"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


def test_a_batch_is_a_trace_and_its_origin_says_so(exporter: InMemorySpanExporter) -> None:
    log = ListLog(offsets=[7, 9], values=[trade(NOW_MS), b"bad"], stamps=[NOW_MS, NOW_MS])
    rule = SourceRule("flow", lateness_ms=2_000)
    (events,) = LogPartition(log, TradeCodec(), rule, 0, None, Clock()).next_batch()
    (span,) = named(exporter, "source.batch")
    assert span.parent is None
    assert span.attributes == {
        "tidemark.flow": "flow",
        "tidemark.topic": "trades",
        "tidemark.partition": 0,
        "tidemark.first_offset": 7,
        "tidemark.last_offset": 9,
        "tidemark.records": 2,
        "tidemark.rejected": 1,
        "tidemark.watermark_ms": NOW_MS - 2_000,
    }
    assert events.origin is not None
    (traceparent,) = events.origin.spans
    assert traceparent[:-2] == f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}-"
    assert span.start_time == NOW_S * 1e9


def test_a_transaction_has_a_span_in_the_trace_of_each_of_its_batches(
    exporter: InMemorySpanExporter,
) -> None:
    first, second = batch(), batch()
    outputs = [
        output(first, positions=(1, 5)),
        output(first, second, lane=3, positions=(4,)),
        output(lane=3, positions=(6, 7)),
    ]
    with tracing.transaction("flow", "kafka", "00", outputs):
        tracing.retried("broker away")
        assert tracing.trace_id() in first
    assert tracing.trace_id() is None
    batches, own = named(exporter, "source.batch"), named(exporter, "sink.transaction")
    assert {(span.parent.trace_id, span.parent.span_id) for span in own if span.parent} == places(
        batches
    )
    for span in own:
        assert {(link.context.trace_id, link.context.span_id) for link in span.links} == places(
            batches
        )
        assert span.attributes == {
            "tidemark.flow": "flow",
            "tidemark.sink": "kafka",
            "tidemark.sink_partition": "00",
            "tidemark.rows": 5,
            "tidemark.lane_count": 2,
            "tidemark.lanes": ("results-00", "results-03"),
            "tidemark.first_positions": (1, 4),
            "tidemark.last_positions": (5, 7),
        }
        assert span.status.status_code == StatusCode.OK
        assert [(event.name, dict(event.attributes or {})) for event in span.events] == [
            ("retry", {"reason": "broker away"})
        ]


def test_a_transaction_that_fails_says_why(exporter: InMemorySpanExporter) -> None:
    with (
        pytest.raises(ValueError, match="disk full"),
        tracing.transaction("f", "s", "00", [output(batch())]),
    ):
        raise ValueError("disk full")
    (span,) = named(exporter, "sink.transaction")
    assert span.status.status_code == StatusCode.ERROR
    assert span.status.description == "disk full"


def test_a_transaction_without_a_traced_batch_is_not_traced(
    exporter: InMemorySpanExporter,
) -> None:
    with tracing.transaction("f", "s", "00", [output()]):
        pass
    assert not exporter.get_finished_spans()


def test_a_transaction_of_many_batches_names_some_of_them(exporter: InMemorySpanExporter) -> None:
    spans = [batch() for _ in range(3 * MOST_SPANS)]
    outputs = [output(span, lane=lane) for lane, span in enumerate(spans)]
    with tracing.transaction("f", "s", "00", outputs * 2):
        pass
    own = named(exporter, "sink.transaction")
    assert len(own) == MOST_SPANS
    assert {len(span.links) for span in own} == {MOST_SPANS}
    assert {len((span.attributes or {})["tidemark.lanes"]) for span in own} == {24}


def test_each_writer_has_a_transaction_of_its_own(exporter: InMemorySpanExporter) -> None:
    one, other = batch(), batch()
    seen = []

    def write() -> None:
        with tracing.transaction("f", "s", "01", [output(other)]):
            seen.append(tracing.trace_id())

    with tracing.transaction("f", "s", "00", [output(one)]):
        writer = threading.Thread(target=write)
        writer.start()
        writer.join()
        seen.append(tracing.trace_id())
    assert seen == [other.split("-")[1], one.split("-")[1]]


def test_the_share_is_that_of_batches() -> None:
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("test")
    assert not any(Spans(tracer, 0.0).batch(NOW_S) for _ in range(1_000))
    some = sum(Spans(tracer, 0.5).batch(NOW_S) is not None for _ in range(2_000))
    assert 800 < some < 1_200
