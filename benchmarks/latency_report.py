"""Table, plot and histogram of a latency measurement."""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.machine import sentence
from benchmarks.plots import figure, save

__all__ = ["write"]

_PERCENTILES = (50, 90, 99, 99.9, 100)


def write(
    found: dict[int, dict[str, NDArray[np.float64]]],
    options: argparse.Namespace,
    machine: dict[str, Any],
) -> None:
    """Write `latency.json`, `.md` and `.svg` to the directory of results; print the table.

    Args:
        found: by rate, then by path (`preview`, `closed`): milliseconds of each sample.
        options: of the command.
        machine: from `benchmarks.machine`.
    """
    text = _table(found, options, machine)
    print(text)
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "latency.md").write_text(text)
    result = {
        "machine": machine,
        "preview_ms": options.preview_ms,
        "rates": {
            rate: {
                path: {**_summary(samples), "histogram": _histogram(samples)}
                for path, samples in paths.items()
            }
            for rate, paths in found.items()
        },
    }
    (options.output / "latency.json").write_text(json.dumps(result, indent=1) + "\n")
    _plot(found, options.output / "latency.svg")


def _summary(samples: NDArray[np.float64]) -> dict[str, float]:
    if not len(samples):
        return {"samples": 0}
    return {
        "samples": len(samples),
        "mean_ms": round(statistics.fmean(samples), 3),
        **{f"p{p:g}_ms": round(float(np.percentile(samples, p)), 3) for p in _PERCENTILES},
    }


def _histogram(samples: NDArray[np.float64]) -> dict[str, list[float]]:
    edges = np.logspace(0, 4, 81)
    counts, _ = np.histogram(np.clip(samples, 1, 10_000), edges)
    return {"edges_ms": edges.round(3).tolist(), "counts": counts.tolist()}


def _table(
    found: dict[int, dict[str, NDArray[np.float64]]],
    options: argparse.Namespace,
    machine: dict[str, Any],
) -> str:
    names = [f"p{p:g}" if p < 100 else "max" for p in _PERCENTILES]
    lines = [
        "# Latency of the candles flow",
        "",
        (
            f"{options.instruments} instruments, 1-second candles, preview throttle "
            f"{options.preview_ms} ms, a snapshot every {options.snapshot} s, exactly once into "
            f"Kafka and PostgreSQL; {options.duration:.0f} s per rate after "
            f"{options.warm_up:.0f} s of warm-up. Milliseconds."
        ),
        "",
        "| trades/s | path | samples | " + " | ".join(names) + " |",
        "|--:|---|--:|" + "--:|" * len(names),
    ]
    for rate, paths in found.items():
        for path, text in (
            ("preview", "produced → preview readable"),
            ("closed", "watermark passed → closed candle readable, read_committed"),
        ):
            figures = _summary(paths[path])
            shown = " | ".join(f"{figures.get(f'p{p:g}_ms', 0):.1f}" for p in _PERCENTILES)
            lines.append(f"| {rate:,} | {text} | {figures['samples']:,.0f} | {shown} |")
    return "\n".join([*lines, "", sentence(machine), ""])


def _plot(found: dict[int, dict[str, NDArray[np.float64]]], path: Path) -> None:
    drawn = figure(2)
    if drawn is None:
        return
    canvas, axes = drawn
    for axis, name, title in (
        (axes[0], "preview", "produced → preview readable"),
        (axes[1], "closed", "watermark passed → closed candle readable"),
    ):
        for rate, paths in found.items():
            samples = np.sort(paths[name])
            if not len(samples):
                continue
            above = 1 - np.arange(len(samples)) / len(samples)
            axis.step(samples, above, where="post", label=f"{rate:,} trades/s")
        axis.set(xscale="log", yscale="log", ylim=(1e-4, 1.1), title=title)
        axis.set(xlabel="ms", ylabel="share slower")
        axis.axvline(20, color="grey", linewidth=0.5)
        axis.axvline(100, color="grey", linewidth=0.5)
        axis.legend()
    save(canvas, path)
