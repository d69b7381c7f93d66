"""What benchmarks that compare contenders share: fresh processes, turns, medians and ratios.

Contract: a contender is measured by `benchmarks.measured` in a process of its own, with fresh
output topics; contenders take turns, so that a slow minute of the machine hits all of them.
"""

import json
import statistics
import sys
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.components import ROOT, Components, Filled, Load
from tests.real.flows import _environment as flow_environment
from tests.real.process import Child

__all__ = [
    "SHARDS",
    "Run",
    "Runs",
    "keep",
    "measure",
    "medians",
    "new_output",
    "quartiles",
    "ratio",
    "run_child",
    "say",
    "table",
    "take_turns",
    "warm_up",
]

SHARDS = 8

_TIMEOUT_S = 900.0
_WARM_TRADES = 50_000

Run = dict[str, Any]
"""Figures of one measurement."""

Runs = dict[str, list[Run]]
"""Those of each contender, turn by turn."""


def run_child(
    servers: Components,
    contender: str,
    given: dict[str, Any],
    env: dict[str, str] | None = None,
) -> Run:
    """Figures of one contender of `benchmarks.measured`, with its rates.

    Args:
        servers: for scratch.
        contender: its name.
        given: what it takes.
        env: settings of a flow.

    Raises:
        RuntimeError: It failed.
    """
    child = Child(
        [sys.executable, "-m", "benchmarks.measured", contender, json.dumps(given)],
        log=servers.directory / f"{contender}-{uuid.uuid4().hex[:8]}.log",
        env=flow_environment(env or {}),
        cwd=ROOT,
    )
    try:
        code = child.wait(_TIMEOUT_S)
    finally:
        child.kill()
    if code:
        raise RuntimeError(f"{contender} ended with {code}; {child.tail()}")
    run: Run = json.loads(child.output().splitlines()[-1])
    if not run["events"]:
        raise RuntimeError(f"{contender} had nothing left to count: its log is too short")
    run["cpu_s"] = run["user_s"] + run["system_s"]
    run["events_per_s"] = run["events"] / run["wall_s"]
    run["events_per_cpu_s"] = run["events"] / run["cpu_s"]
    return run


def measure(
    servers: Components,
    contender: str,
    topic: Filled,
    output: str,
    *,
    url: str = "off",
    given: dict[str, Any] | None = None,
    env: dict[str, str] | None = None,
) -> Run:
    """The same for a contender that reads a topic to its end.

    Args:
        servers: where it reads and writes.
        contender: its name.
        topic: what it reads.
        output: topic it writes to; the recovery store is named after it.
        url: of its database.
        given: what it takes besides.
        env: settings besides.
    """
    standard = {
        "bootstrap": servers.kafka.bootstrap,
        "topic": topic.name,
        "sizes": topic.sizes,
        "output": output,
        "recovery": str(servers.directory / f"recovery-{output}"),
    }
    settings = {
        "KAFKA_BOOTSTRAP_SERVERS": servers.kafka.bootstrap,
        "DATABASE_URL": url,
        "INPUT_TOPIC": topic.name,
        "OUTPUT_TOPIC": output,
        "STOP_AT_END": "1",
        "SHARDS": str(SHARDS),
    }
    return run_child(servers, contender, standard | (given or {}), settings | (env or {}))


def warm_up(servers: Components) -> None:
    """An uncounted run: the broker makes its internal topics and warms its code up."""
    measure(servers, "flow", servers.fill(Load(_WARM_TRADES)), new_output())


def new_output() -> str:
    """A name for an output topic that nobody has used."""
    return f"out-{uuid.uuid4().hex[:8]}"


def take_turns(names: Sequence[str], repeat: int, run_one: Callable[[str], Run]) -> Runs:
    """Measure each contender `repeat` times, in turn."""
    runs: Runs = {name: [] for name in names}
    for turn in range(repeat):
        # Each turn begins with another one and every other turn goes backwards, so that none
        # always follows the same: what one leaves behind for the broker, the next one pays.
        first = turn % len(names)
        for name in (*names[first:], *names[:first])[:: -1 if turn % 2 else 1]:
            runs[name].append(run_one(name))
            say(f"turn {turn + 1}, {name}: {runs[name][-1]}")
    return runs


def medians(runs: Runs) -> dict[str, Run]:
    """The median of each figure of each contender."""
    return {
        name: {key: statistics.median(run[key] for run in found) for key in found[0]}
        for name, found in runs.items()
    }


def ratio(runs: Runs, above: str, below: str, key: str) -> float:
    """Median of the ratios within each turn."""
    return quartiles(runs, above, below, key)[1]


def quartiles(runs: Runs, above: str, below: str, key: str) -> tuple[float, float, float]:
    """Quartiles of the ratios within each turn, the median in the middle."""
    pairs = zip(runs[above], runs[below], strict=True)
    found = [float(one[key] / other[key]) for one, other in pairs]
    if len(found) == 1:
        return found[0], found[0], found[0]
    low, middle, high = statistics.quantiles(found, n=4, method="inclusive")
    return low, middle, high


def table(runs: Runs, reference: str, what: str = "events") -> list[str]:
    """Medians as lines of Markdown, and what each is of the reference in the same turn."""
    lines = [
        f"| | wall s | {what}/s | CPU s | {what} per CPU-s | of {reference} |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    lines += [
        f"| {name} | {one['wall_s']:.2f} | {one['events_per_s']:,.0f} | {one['cpu_s']:.2f} "
        f"| {one['events_per_cpu_s']:,.0f} "
        f"| {ratio(runs, name, reference, 'events_per_cpu_s'):.2f} |"
        for name, one in medians(runs).items()
    ]
    return lines


def keep(directory: Path, name: str, result: dict[str, Any], text: str) -> None:
    """Write figures as JSON and the page about them, and print the page."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
    (directory / f"{name}.md").write_text(text)
    print(text)


def say(text: str) -> None:
    """Tell whoever waits."""
    print(text, file=sys.stderr, flush=True)
