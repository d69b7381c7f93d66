"""Table and plot of a throughput measurement: `python -m benchmarks.throughput_report [DIR]`.

Reads `throughput.json`; writes `throughput.md` and, with matplotlib, `throughput.svg`.
"""

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.machine import sentence
from benchmarks.plots import figure, save
from benchmarks.turns import ratio

__all__ = ["write"]


def write(directory: Path) -> None:
    """Write both beside the JSON file, and print the table."""
    result = json.loads((directory / "throughput.json").read_text())
    text = _markdown(result)
    (directory / "throughput.md").write_text(text)
    print(text)
    _plot(result, directory / "throughput.svg")


def _markdown(result: dict[str, Any]) -> str:
    topic, small, medians = result["topic"], result["small"], result["medians"]
    load = topic["load"]
    repeats = min(len(runs) for runs in result["runs"].values())
    lines = [
        "# Throughput of the candles flow",
        "",
        (
            f"{load['trades']:,} trades of {topic['value_bytes']:.0f} bytes on average, "
            f"{load['instruments']} instruments (Zipf), {load['partitions']} partitions of "
            f"{', '.join(f'{size:,}' for size in topic['sizes'])} records, "
            f"{load['rate']:,.0f} trades/s of event time, {topic['out_of_order']:.1%} older "
            f"than one before them in their partition. One worker, median of {repeats}. CPU-"
            "seconds are those of the measured process with all its threads, without start-up."
        ),
        "",
        "| | what | events | wall s | events/s | CPU s | events per CPU-s | of raw |",
        "|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    raw = medians.get("raw", {}).get("events_per_cpu_s")
    for name, median in medians.items():
        share = f"{median['events_per_cpu_s'] / raw:.2f}" if raw else ""
        lines.append(
            f"| {name} | {result['what'][name]} | {median['events']:,.0f} | {median['wall_s']:.2f} "
            f"| {median['events_per_s']:,.0f} | {median['cpu_s']:.2f} "
            f"| {median['events_per_cpu_s']:,.0f} | {share} |"
        )
    lines += ["", *_ratios(result["runs"])]
    if "built-in" in medians and small["load"]["trades"] < load["trades"]:
        lines += [
            "",
            (
                f"The built-in pair was measured on {small['load']['trades']:,} trades; its rate "
                "is taken to be the same for more."
            ),
        ]
    return "\n".join([*lines, "", sentence(result["machine"]), ""])


def _ratios(runs: dict[str, list[dict[str, float]]]) -> list[str]:
    """Medians of the ratios within each turn, so that a slow minute hits both sides."""
    lines = []
    for text, above, below in (
        ("the flow of raw counting", "flow", "raw"),
        ("the flow of raw counting with a consumer per partition", "flow", "raw each"),
        ("the flow, Kafka only, of raw counting", "flow, Kafka only", "raw"),
        ("the flow of the built-in pair", "flow", "built-in"),
        ("the flow of itself with the stock client", "flow", "flow, stock client"),
        ("exactly once of at least once", "flow", "flow at least once"),
        (
            "exactly once of at least once, Kafka only",
            "flow, Kafka only",
            "flow at least once, Kafka only",
        ),
    ):
        if above in runs and below in runs:
            per_cpu, per_s = (
                ratio(runs, above, below, key) for key in ("events_per_cpu_s", "events_per_s")
            )
            lines.append(f"* {text}: {per_cpu:.2f} per CPU-second, {per_s:.2f} per second")
    return lines


def _plot(result: dict[str, Any], path: Path) -> None:
    drawn = figure(2, height=3.4)
    if drawn is None:
        return
    canvas, axes = drawn
    names = list(result["medians"])[::-1]
    for axis, key, title in (
        (axes[0], "events_per_cpu_s", "million events per CPU-second"),
        (axes[1], "events_per_s", "million events per second"),
    ):
        values = [result["medians"][name][key] / 1e6 for name in names]
        axis.barh(names, values, color="#3b6ea5")
        for y, name in enumerate(names):
            runs = [run[key] / 1e6 for run in result["runs"][name]]
            axis.plot(runs, [y] * len(runs), "|", color="black")
        axis.set_xlabel(title)
    axes[1].set_yticklabels([])
    save(canvas, path)


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("results"))
