"""Candles, statistics and averages of one log, alone and together: `python -m benchmarks.market`.

The three flows and the flow `market`, which reads the log once for all of them, in turn over
the same log, from Kafka to Kafka, exactly once and without a database. Tells what the averages
cost beside candles, and the CPU of `market` beside the sum of the three. What is written is
counted: `market` must write the records of the three, no more and no fewer.
"""

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.components import ROOT, Components, Load, Topic, components, count_records
from benchmarks.machine import describe, sentence
from benchmarks.turns import (
    Run,
    Runs,
    keep,
    measure,
    medians,
    new_output,
    ratio,
    say,
    take_turns,
    warm_up,
)

__all__ = ["main"]

_ALONE = ("candles", "statistics", "ewma")
_TOGETHER = "market"
_SUM = "the three"


def main() -> None:
    """Measure, write results, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trades", type=int, default=5_000_000)
    parser.add_argument("--rate", type=float, default=10_000, help="trades per second, event time")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results")
    options = parser.parse_args()
    with components() as servers:
        machine = describe()
        topic = servers.fill(Load(options.trades, rate=options.rate))
        say(f"{options.trades:,} trades are there")
        warm_up(servers)
        flows = (*_ALONE, _TOGETHER)
        runs = take_turns(flows, options.repeat, lambda flow: _measure(servers, flow, topic))
    runs[_SUM] = [_sum(alone) for alone in zip(*(runs[flow] for flow in _ALONE), strict=True)]
    for one, other in zip(runs[_TOGETHER], runs[_SUM], strict=True):
        if one["records"] != other["records"]:
            raise RuntimeError(f"Together {one['records']} records, alone {other['records']}")
    result = {
        "machine": machine,
        "topic": asdict(topic),
        "medians": medians(runs),
        "runs": runs,
    }
    keep(options.output, "market", result, _markdown(result))


def _measure(servers: Components, flow: str, topic: Topic) -> Run:
    output = new_output()
    run = measure(servers, "flow", topic, output, given={"flow": flow})
    kafka = servers.kafka
    written = [
        name
        for name in kafka.topics(output)
        if not name.endswith((".live", ".progress", ".late", ".rejected"))
    ]
    run["records"] = sum(count_records(kafka, name) for name in written)
    kafka.delete_topics(output)
    return run


def _sum(alone: tuple[Run, ...]) -> Run:
    """One after the other: the same events, and all that they took."""
    events = alone[0]["events"]
    total: Run = {key: sum(run[key] for run in alone) for key in ("wall_s", "cpu_s", "records")}
    return total | {
        "events": events,
        "events_per_s": events / total["wall_s"],
        "events_per_cpu_s": events / total["cpu_s"],
    }


def _markdown(result: dict[str, Any]) -> str:
    runs: Runs = result["runs"]
    load = result["topic"]["load"]
    lines = [
        "# Candles, statistics and averages, alone and together",
        "",
        (
            f"{load['trades']:,} trades of {load['instruments']} instruments (Zipf), "
            f"{load['rate']:,.0f} trades/s of event time, Kafka to Kafka, exactly once. One "
            f"worker, median of {len(runs[_TOGETHER])}."
        ),
        "",
        "| flow | records written | wall s | events/s | CPU s | events per CPU-s |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    lines += [
        f"| {name} | {one['records']:,.0f} | {one['wall_s']:.2f} | {one['events_per_s']:,.0f} "
        f"| {one['cpu_s']:.2f} | {one['events_per_cpu_s']:,.0f} |"
        for name, one in result["medians"].items()
    ]
    lines.append("")
    lines += [
        f"* {text}: {ratio(runs, one, other, 'cpu_s'):.2f} of the CPU-seconds, "
        f"{ratio(runs, one, other, 'wall_s'):.2f} of the seconds"
        for text, one, other in (
            ("averages, of candles", "ewma", "candles"),
            ("together, of the three alone", _TOGETHER, _SUM),
        )
    ]
    return "\n".join([*lines, "", sentence(result["machine"]), ""])


if __name__ == "__main__":
    main()
