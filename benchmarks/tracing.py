"""What traces cost a batch: `python -m benchmarks.tracing`.

The seam alone, in CPU time of one thread, which a busy machine does not change: what is done for
a batch, its eight shards and the transaction with its rows beyond the work itself. Untraced; with
the default share of batches traced; with every one. Spans are made and queued as in a flow, and
thrown away where they would be sent. The three take turns.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from benchmarks.machine import describe, sentence
from benchmarks.turns import keep, say
from dataflows.tracing import Spans
from schemas import tracing
from schemas.origin import Arrivals, Origin
from schemas.stream import Output
from sources.spans import with_span

__all__ = ["main"]

_SHARES = {"untraced": None, "one in 100": 0.01, "every batch": 1.0}
_SHARDS = 8
_TURNS = 9


def main() -> None:
    """Measure, write results, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", type=int, default=20_000)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    runs: dict[str, list[float]] = {name: [] for name in _SHARES}
    for _ in range(_TURNS):
        for name, share in _SHARES.items():
            runs[name].append(_measure(share, options.batches))
            say(f"{name}: {runs[name][-1]:.2f} us")
    machine = describe()
    result = {"machine": machine, "us_per_batch": runs}
    lines = ["# What traces cost", "", "| batches | CPU µs a batch |", "|---|--:|"]
    lines += [f"| {name} | {statistics.median(found):.1f} |" for name, found in runs.items()]
    lines += [
        "",
        (
            f"A batch with its {_SHARDS} shards and its transaction, spans made but not sent; "
            f"median of {_TURNS} turns of {options.batches:,} batches."
        ),
        "",
        sentence(machine),
        "",
    ]
    keep(options.output, "tracing", result, "\n".join(lines))


def _measure(share: float | None, batches: int) -> float:
    """CPU microseconds a batch."""
    provider, exporter = TracerProvider(shutdown_on_exit=False), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    if share is not None:
        tracing.use(Spans(provider.get_tracer("tidemark"), share))
    one = _batch()
    begin_s = time.thread_time()
    for number in range(batches):
        one(number)
        if number % 1_000 == 0:
            exporter.clear()
    took_s = time.thread_time() - begin_s
    tracing.use(None)
    provider.shutdown()
    return took_s / batches * 1e6


def _batch() -> Callable[[int], None]:
    arrivals = [Arrivals() for _ in range(_SHARDS)]
    rows, positions = pa.record_batch({"x": [1]}), np.array([1])

    def once(number: int) -> None:
        origin = with_span(
            Origin(1.0, 2),
            tracing.batch(1.0),
            "candles",
            "trades",
            first=number,
            last=number + 9_999,
            records=10_000,
            rejected=0,
            watermark_ms=1,
        )
        outputs = []
        for shard, arrived in enumerate(arrivals):
            arrived.take(0, origin)
            known = arrived.complete(0)
            outputs.append(Output("results", shard, positions, 1, rows, origin=known))
        with tracing.transaction("candles", "kafka", "00", outputs):
            pass

    return once


if __name__ == "__main__":
    main()
