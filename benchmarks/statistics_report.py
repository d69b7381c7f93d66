"""The page about a measurement of rolling statistics; contract: figures in, Markdown out."""

import statistics
from typing import Any

from benchmarks.machine import sentence
from benchmarks.turns import Run, Runs, medians, ratio

__all__ = ["markdown"]


def markdown(result: dict[str, Any]) -> str:
    """All tables."""
    parts = (_windows, _fullness, _many, _resume, _builtin)
    sections = ["# Rolling statistics", *(part(result) for part in parts)]
    return "\n\n".join([*sections, sentence(result["machine"]), ""])


def _windows(result: dict[str, Any]) -> str:
    runs: Runs = result["windows"]
    topic = result["topic"]
    load, repeats = topic["load"], len(runs["24 h"])
    lines = [
        "## Length of the window",
        "",
        (
            f"{load['trades']:,} trades of {load['instruments']} instruments, "
            f"{load['rate']:.1f} trades/s of event time, Kafka to Kafka, exactly once. Counted "
            f"is what follows the first full day. One worker, median of {repeats}."
        ),
        "",
        "| window | events | rows | wall s | events/s | CPU s | events per CPU-s | µs per row |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name, one in medians(runs).items():
        lines.append(
            f"| {name} | {one['events']:,.0f} | {one['rows']:,.0f} | {one['wall_s']:.2f} "
            f"| {one['events_per_s']:,.0f} | {one['cpu_s']:.2f} | {one['events_per_cpu_s']:,.0f} "
            f"| {one['cpu_s'] / one['rows'] * 1e6:.1f} |"
        )
    lines.append("")
    lines += [
        f"* {above} of {below}: {ratio(runs, above, below, 'events_per_cpu_s'):.2f} per "
        f"CPU-second, {ratio(runs, above, below, 'events_per_s'):.2f} per second"
        for above, below in (("24 h", "1 min"), ("24 h, tick 60 s", "1 min, tick 60 s"))
    ]
    return "\n".join(lines)


def _fullness(result: dict[str, Any]) -> str:
    runs: Runs = result["fullness"]
    lines = [
        "## Fullness of the window",
        "",
        (
            "Shards alone, without source and sinks: the same trades come in, the same leave, and "
            "the rows are the same."
        ),
        "",
        "| trades in the windows | panes in them | events measured | CPU s | ns per event |",
        "|--:|--:|--:|--:|--:|",
    ]
    lines += [
        f"| {one['window_trades']:,.0f} | {one['panes']:,.0f} | {one['events']:,.0f} "
        f"| {one['cpu_s']:.2f} | {one['cpu_s'] / one['events'] * 1e9:,.0f} |"
        for one in medians(runs).values()
    ]
    change = 1 / ratio(runs, "all", "a tenth", "events_per_cpu_s") - 1
    return "\n".join([*lines, "", f"* cost of an event with ten times the trades: {change:+.1%}"])


def _many(result: dict[str, Any]) -> str:
    many = result["many"]
    load, run = many["topic"]["load"], many["run"]
    return "\n".join(
        [
            "## Memory of many instruments",
            "",
            (
                f"{load['trades']:,} trades of {load['instruments']:,} instruments (Zipf), "
                f"{load['rate']:.0f} trades/s: the windows of a day hold {many['panes']:,} panes "
                f"of a second. The process had {run['peak_rss_mb'] / 1024:.2f} GiB resident at "
                "most."
            ),
        ]
    )


def _resume(result: dict[str, Any]) -> str:
    runs: list[Run] = result["resume"]
    cpu_s, wall_s = (statistics.median(run[key] for run in runs) for key in ("cpu_s", "wall_s"))
    read = result["topic"]["load"]["rate"] * 86_400
    return "\n".join(
        [
            "## Restart",
            "",
            (
                f"From the start of the process, which reads the {read:,.0f} trades of a day "
                f"again, to a reader's first row of a new tick: {cpu_s:.1f} CPU-seconds, "
                f"{wall_s:.1f} s, median of {len(runs)}."
            ),
        ]
    )


def _builtin(result: dict[str, Any]) -> str:
    runs, ours = medians(result["builtin"]), medians(result["windows"])
    lines = [
        "## The ordinary way",
        "",
        "Bytewax's KafkaSource, fold_window with SlidingWindower, KafkaSink; windows of 24 hours.",
        "",
        "| windows begin | events | rows | CPU s | events per CPU-s | the flow | times |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for name, other in (("every 60 s", "24 h, tick 60 s"), ("every 1 s", "24 h")):
        theirs = runs[name]["events_per_cpu_s"]
        rate = ours[other]["events_per_cpu_s"]
        lines.append(
            f"| {name} | {runs[name]['events']:,.0f} | {runs[name]['rows']:,.0f} "
            f"| {runs[name]['cpu_s']:.2f} | {theirs:,.1f} | {rate:,.0f} | {rate / theirs:,.0f} |"
        )
    return "\n".join(lines)
