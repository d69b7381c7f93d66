"""Plots, where matplotlib is installed (the optional extra `bench`); without it, none."""

import sys
from pathlib import Path
from typing import Any

try:
    from matplotlib import pyplot as plt
except ImportError:
    plt = None

__all__ = ["figure", "save"]


def figure(columns: int, *, rows: int = 1, height: float = 3.0) -> tuple[Any, Any] | None:
    """A figure and its axes; None, with a word about it, without matplotlib."""
    if plt is None:
        print("No plot: matplotlib is not installed.", file=sys.stderr)
        return None
    plt.switch_backend("Agg")
    plt.rcParams["svg.hashsalt"] = "benchmarks"  # the same figures give the same file
    found = plt.subplots(rows, columns, figsize=(5.0 * columns, height * rows))
    return found[0], found[1]


def save(canvas: Any, path: Path) -> None:  # noqa: ANN401  # a matplotlib figure
    """Write an SVG file without a date in it."""
    canvas.tight_layout()
    canvas.savefig(path, metadata={"Date": None})
