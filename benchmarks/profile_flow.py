"""Where the CPU of the candles flow goes: `python -m benchmarks.profile_flow`.

The flow runs as it is in a process of its own, with a clock around each stage. The clock is
the kernel's CPU time of the calling thread, so waiting and other processes do not count; a
stage's time is its own, without the stages it calls. What the worker's thread spends outside
all stages is Bytewax itself and the glue between steps; threads of the client library are
listed by the kernel's accounting. The clock itself costs about a microsecond a call, of
which there are some hundreds a batch of 10,000 events.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.components import ROOT, Load, components
from benchmarks.machine import describe, sentence
from tests.real.flows import _environment as flow_environment
from tests.real.process import Child

__all__ = ["main"]

_TIMEOUT_S = 600.0


def main() -> None:
    """Measure in a child, print the table and keep it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trades", type=int, default=5_000_000)
    parser.add_argument("--rate", type=float, default=10_000, help="trades per second, event time")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results")
    parser.add_argument("--no-postgres", action="store_true")
    options = parser.parse_args()
    with components() as servers:
        machine = describe(servers.postgres.url)
        topic = servers.fill(Load(options.trades, rate=options.rate))
        found: dict[str, Any] = {}
        for turn in ("warm-up", "profile"):
            child = Child(
                [
                    *(sys.executable, "-m", "benchmarks.profile_stages"),
                    str(servers.directory / turn),
                ],
                log=servers.directory / f"{turn}.log",
                env=flow_environment(
                    {
                        "KAFKA_BOOTSTRAP_SERVERS": servers.kafka.bootstrap,
                        "DATABASE_URL": "off" if options.no_postgres else servers.new_database(),
                        "INPUT_TOPIC": topic.name,
                        "OUTPUT_TOPIC": f"out-{turn}",
                        "STOP_AT_END": "1",
                    }
                ),
                cwd=ROOT,
            )
            if child.wait(_TIMEOUT_S):
                raise RuntimeError(child.tail())
            found = json.loads(child.output().splitlines()[-1])
    text = _table(found, options.trades, sentence(machine))
    print(text)
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "profile.md").write_text(text)
    result = {"machine": machine, "trades": options.trades, "rate": options.rate, **found}
    (options.output / "profile.json").write_text(json.dumps(result, indent=1) + "\n")


def _table(found: dict[str, Any], trades: int, where: str) -> str:
    cpu_s = found["cpu_s"]
    rows = sorted(found["stages_s"].items(), key=lambda item: -item[1])
    lines = [
        "# Where the CPU of the candles flow goes",
        "",
        (
            f"{trades:,} trades, {cpu_s:.2f} CPU-seconds in all ({found['wall_s']:.2f} s of wall "
            f"time), {trades / cpu_s:,.0f} events per CPU-second with the clocks in place."
        ),
        "",
        "| stage | CPU s | share | ns per event | calls |",
        "|---|--:|--:|--:|--:|",
    ]
    staged_s = 0.0
    for stage, spent_s in rows:
        staged_s += spent_s
        lines.append(_row(stage, spent_s, cpu_s, trades, f"{found['calls'][stage]:,}"))
    client_s = sum(s for name, s in found["threads_s"].items() if name.startswith("rdk:"))
    lines.append(_row("client library's threads", client_s, cpu_s, trades, ""))
    rest_s = cpu_s - staged_s - client_s - found["threads_s"]["(this sampling)"]
    lines.append(_row("Bytewax, glue, and what has no stage", rest_s, cpu_s, trades, ""))
    lines += ["", "By thread:", "", "| thread | CPU s |", "|---|--:|"]
    lines += [
        f"| {name} | {spent_s:.2f} |"
        for name, spent_s in sorted(found["threads_s"].items(), key=lambda item: -item[1])
        if spent_s >= 0.005
    ]
    return "\n".join([*lines, "", where, ""])


def _row(stage: str, spent_s: float, cpu_s: float, trades: int, calls: str) -> str:
    return (
        f"| {stage} | {spent_s:.2f} | {spent_s / cpu_s:.1%} | {spent_s / trades * 1e9:.0f} "
        f"| {calls} |"
    )


if __name__ == "__main__":
    main()
