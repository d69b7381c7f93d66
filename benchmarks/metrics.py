"""What metrics cost: `python -m benchmarks.metrics`.

The candles flow over the same log, in turn: with instruments that do nothing, with those of the
product, with those served and asked for every second, and once more with those that do nothing,
which shows what the machine alone makes of a difference. From Kafka to Kafka, exactly once; at
the batches of a full log and at the smallest that the source takes, where an instrument that is
updated per batch costs most. CPU-seconds are those of the flow's process, in which a scrape is
answered; who asks is another process. The last fifth of a run is not asked: see
docs/operations.md.

A neighbour on the machine can hide a cost of one in a hundred. So further runs count the calls of
instruments and the answers to scrapes, and time what one of each takes.
"""

import argparse
import re
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.components import ROOT, Components, Load, Topic, components
from benchmarks.machine import describe, sentence
from benchmarks.turns import (
    Run,
    Runs,
    keep,
    measure,
    medians,
    new_output,
    quartiles,
    say,
    table,
    take_turns,
    warm_up,
)
from tests.real.process import free_port

__all__ = ["main"]

_NONE, _OWN, _SERVED, _AGAIN = "no metrics", "metrics", "metrics, asked for", "no metrics, again"
_COUNTED = "counted"
_CONTENDERS = {
    _NONE: "flow_without_metrics",
    _OWN: "flow",
    _SERVED: "flow",
    _AGAIN: "flow_without_metrics",
    _COUNTED: "flow_counted",
}
_COMPARED = (_NONE, _OWN, _SERVED, _AGAIN)
_COUNTS = 3
_EVERY_S = 1.0
_ASKED_SHARE = 0.8
_READ = re.compile(rb"^tidemark_source_records_total{.*} (\S+)$", re.MULTILINE)
_SMALLEST = 500
_LOADS = {"full batches": None, f"batches of {_SMALLEST}": _SMALLEST}


def main() -> None:
    """Measure, write results, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trades", type=int, default=5_000_000)
    parser.add_argument("--repeat", type=int, default=12)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results")
    options = parser.parse_args()
    with components() as servers:
        machine = describe()
        topic = servers.fill(Load(options.trades))
        say(f"{options.trades:,} trades are there")
        warm_up(servers)
        found: dict[str, Runs] = {}
        for name, batch in _LOADS.items():
            run_one = partial(_measure, servers, topic, batch)
            found[name] = {
                **take_turns(_COMPARED, options.repeat, run_one),
                **take_turns((_COUNTED,), min(_COUNTS, options.repeat), run_one),
            }
    result = {
        "machine": machine,
        "topic": asdict(topic),
        "medians": {name: medians(runs) for name, runs in found.items()},
        "runs": found,
    }
    keep(options.output, "metrics", result, _markdown(result))


def _measure(servers: Components, topic: Topic, batch: int | None, contender: str) -> Run:
    output, port = new_output(), free_port()
    is_served = contender in {_SERVED, _COUNTED}
    env = {"METRICS_PORT": str(port)} if is_served else {}
    given = {} if batch is None else {"largest_batch": batch}
    with _asking(port, topic.load.trades) if is_served else _nobody() as scrapes:
        run = measure(servers, _CONTENDERS[contender], topic, output, given=given, env=env)
    servers.kafka.delete_topics(output)
    return run | {"scrapes": len(scrapes)}


@contextmanager
def _nobody() -> Iterator[list[float]]:
    yield []


@contextmanager
def _asking(port: int, trades: int) -> Iterator[list[float]]:
    """Ask for metrics every second; what each answer took, seconds."""
    took_s: list[float] = []
    over = threading.Event()

    def ask() -> None:
        share = 0.0
        while share < _ASKED_SHARE and not over.wait(_EVERY_S):
            with suppress(OSError):  # it is not there yet
                began_s = time.perf_counter()
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as one:
                    read = sum(map(float, _READ.findall(one.read())))
                took_s.append(time.perf_counter() - began_s)
                share = read / trades

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    try:
        yield took_s
    finally:
        over.set()
        thread.join()


def _markdown(result: dict[str, Any]) -> str:
    load = result["topic"]["load"]
    lines = [
        "# What metrics cost",
        "",
        (
            f"{load['trades']:,} trades of {load['instruments']} instruments (Zipf), candles, "
            f"Kafka to Kafka, exactly once. One worker, median of "
            f"{len(next(iter(result['runs'].values()))[_OWN])}."
        ),
    ]
    for name, runs in result["runs"].items():
        compared = {one: found for one, found in runs.items() if one != _COUNTED}
        lines += ["", f"## With {name}", "", *table(compared, _NONE), ""]
        lines += [_cost(runs, one) for one in (_OWN, _SERVED, _AGAIN)]
        lines.append(_counted(medians(runs)))
    return "\n".join([*lines, "", sentence(result["machine"]), ""])


def _cost(runs: Runs, above: str) -> str:
    """Medians of the ratios within each turn, and between which two half of the turns lie."""
    asked = int(medians(runs)[above]["scrapes"])
    parts = []
    for key, what in (("cpu_s", "CPU-seconds"), ("wall_s", "seconds")):
        low, middle, high = (one - 1 for one in quartiles(runs, above, _NONE, key))
        parts.append(f"{middle:+.1%} {what} ({low:+.1%} to {high:+.1%})")
    scraped = f" ({asked} times)" if asked else ""
    return f"* {above}{scraped}, of {_NONE}: {', '.join(parts)}"


def _counted(found: dict[str, Run]) -> str:
    counted, cpu_s = found[_COUNTED], found[_OWN]["cpu_s"]
    return (
        f"* counted and timed: {counted['calls']:,.0f} calls of instruments take "
        f"{counted['instruments_s'] * 1e3:.1f} ms, {counted['instruments_s'] / cpu_s:.2%} of the "
        f"CPU-seconds; an answer to a scrape {counted['scrape_s'] * 1e3:.1f} ms, "
        f"{counted['scrape_s'] / _EVERY_S:.2%} of a core where one comes each second"
    )


if __name__ == "__main__":
    main()
