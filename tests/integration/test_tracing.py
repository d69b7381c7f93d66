"""Traces of the candles flow on real Kafka and PostgreSQL, by OTLP over gRPC."""

import time
from collections import defaultdict
from pathlib import Path

import pytest

from schemas.origin import MOST_SPANS
from tests import candles_io as io
from tests.real.collector import Collector, ReceivedSpan, collector, silent_collector
from tests.real.kafka_client import Kafka
from tests.real.process import free_port

BATCH, TRANSACTION = "source.batch", "sink.transaction"


def covered(spans: list[ReceivedSpan]) -> dict[int, list[tuple[int, int]]]:
    """Offsets of the batches, by partition."""
    ranges = defaultdict(list)
    for span in spans:
        a = span.attributes
        ranges[a["tidemark.partition"]].append(
            (a["tidemark.first_offset"], a["tidemark.last_offset"])
        )
    return {partition: sorted(found) for partition, found in ranges.items()}


def run(tmp_path: Path, env: dict[str, str], name: str, **more: str) -> str:
    code, output = io.run(tmp_path, env | more, name=name, timeout_s=300)
    assert code == 0, output
    return output


def test_a_trace_leads_from_the_batch_to_the_transactions_with_its_rows(
    kafka: Kafka, topic: str, postgres_url: str, tmp_path: Path
) -> None:
    logs = io.random_log(7, 6_000)
    kafka.create_topic(topic, len(logs))
    io.produce(kafka, topic, logs)
    env = io.settings(kafka, topic, postgres_url, OTEL_TRACES_SAMPLER_ARG="1")
    with collector() as received:
        output = run(tmp_path, env, "traced", OTEL_EXPORTER_OTLP_ENDPOINT=received.url)
    assert "pans" not in output
    assert io.table_rows(postgres_url) == io.final(io.expected(logs, io.Rule()))
    assert received.names() == {BATCH, TRANSACTION}
    check_batches(received, topic, logs)
    check_transactions(received)


def test_the_steps_of_bytewax_are_traced_where_asked_for(
    kafka: Kafka, topic: str, postgres_url: str, tmp_path: Path
) -> None:
    logs = io.random_log(9, 2_000)
    kafka.create_topic(topic, len(logs))
    io.produce(kafka, topic, logs)
    env = io.settings(kafka, topic, postgres_url, OTEL_TRACES_SAMPLER_ARG="0", TRACE_STEPS="1")
    with collector() as received:
        output = run(tmp_path, env, "steps", OTEL_EXPORTER_OTLP_ENDPOINT=received.url)
    assert output == ""
    assert io.table_rows(postgres_url) == io.final(io.expected(logs, io.Rule()))
    assert received.names().isdisjoint({BATCH, TRANSACTION})
    assert {span.service for span in received.spans("step")} == {"tidemark-candles"}
    operators = {span.attributes["operator"] for span in received.spans("operator")}
    assert '"candles-v1.candles".stateful_batch' in operators


def check_batches(received: Collector, topic: str, logs: list[list]) -> None:
    batches = received.spans(BATCH)
    ranges = covered(batches)
    for partition, log in enumerate(logs):
        # End to end, without a hole: each record is in one batch.
        assert ranges[partition][0][0] == 0
        assert ranges[partition][-1][1] == len(log) - 1
        for (_, last), (first, _) in zip(ranges[partition], ranges[partition][1:], strict=False):
            assert first == last + 1
    for span in batches:
        a = span.attributes
        assert span.service == "tidemark-candles"
        assert span.parent_id == ""
        assert (a["tidemark.flow"], a["tidemark.topic"]) == ("candles", topic)
        assert a["tidemark.records"] == a["tidemark.last_offset"] - a["tidemark.first_offset"] + 1
        assert a["tidemark.rejected"] == 0
        log = logs[a["tidemark.partition"]][: a["tidemark.last_offset"] + 1]
        assert a["tidemark.watermark_ms"] == max(trade.time for trade in log) - 2_000


def check_transactions(received: Collector) -> None:
    batches = {span.place: span for span in received.spans(BATCH)}
    transactions = received.spans(TRANSACTION)
    assert {span.attributes["tidemark.sink"] for span in transactions} == {"kafka", "postgres"}
    traces = {span.trace_id for span in transactions}
    for span in transactions:
        a = span.attributes
        assert 1 <= len(span.links) <= MOST_SPANS
        assert set(span.links) <= set(batches), "a transaction is linked to batches"
        assert (span.trace_id, span.parent_id) in span.links, "and one of them is its parent"
        assert batches[span.trace_id, span.parent_id].start_ns <= span.start_ns <= span.end_ns
        assert a["tidemark.rows"] > 0
        assert len(a["tidemark.lanes"]) == a["tidemark.lane_count"]
        for first, last in zip(
            a["tidemark.first_positions"], a["tidemark.last_positions"], strict=True
        ):
            assert first <= last
        assert span.status == 1, span.reason  # OK
    # One lane of results ends where its newest candle closes.
    last: dict[str, int] = {}
    for span in sorted(transactions, key=lambda span: span.end_ns):
        last |= zip(
            span.attributes["tidemark.lanes"],
            span.attributes["tidemark.last_positions"],
            strict=True,
        )
    assert last
    # Every batch that a shard heard of leads to a transaction, as far as links are bounded.
    assert traces <= {span.trace_id for span in batches.values()}
    assert len(traces) > 1


@pytest.mark.parametrize("kind", ["absent", "silent"])
def test_without_a_collector_that_answers_all_is_as_before(
    kafka: Kafka, topic: str, postgres_url: str, tmp_path: Path, kind: str
) -> None:
    logs = io.random_log(8, 4_000)
    kafka.create_topic(topic, len(logs))
    io.produce(kafka, topic, logs)
    env = io.settings(kafka, topic, postgres_url, OTEL_TRACES_SAMPLER_ARG="1")
    with silent_collector() as silent_url:
        url = silent_url if kind == "silent" else f"http://127.0.0.1:{free_port()}"
        began_s = time.monotonic()
        output = run(tmp_path, env, "traced", OTEL_EXPORTER_OTLP_ENDPOINT=url)
    assert time.monotonic() - began_s < 300
    assert io.table_rows(postgres_url) == io.final(io.expected(logs, io.Rule()))
    expected = io.expected(logs, io.Rule())
    assert io.kafka_rows(kafka, f"{topic}-out") == expected
    warnings = [line for line in output.splitlines() if "pans" in line or "elemetry" in line]
    assert len(warnings) <= 2, output  # one a minute
    assert all("Spans may be lost" in line for line in warnings), output
