"""The page in Chromium: 200 instruments whose previews change five times a second each.

    python -m benchmarks.page

A feeder writes previews, closed candles of a second and statistics into a real Kafka; the real
server reads them; a real browser shows the market view with one chart. The delay of a row
counts from the feeder's clock just before it is produced to the end of the frame that painted
it, so it holds the broker, the server, its pause between two sends, and the page. Few and many
instruments take turns. All of it shares one machine.
"""

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

from benchmarks.components import ROOT
from benchmarks.machine import describe, sentence
from benchmarks.page_feeder import name
from benchmarks.turns import Run, Runs, keep, medians, ratio, say, take_turns
from tests.real.browser import Browser
from tests.real.kafka import KafkaBroker
from tests.real.page import PageServer
from tests.real.process import Child

__all__ = ["main"]

_SCRATCH = ROOT / ".cache" / "benchmarks"
_SETTLE_S = 60.0
_PARTITIONS = 4
_LISTEN = """
    window.seen = {delays: [], frames: 0, stamps: {}, counting: false};
    document.addEventListener("tidemark:applied", ({detail}) => {
        const now = Date.now();
        seen.frames += 1;
        for (const row of detail.rows) {
            if (row.kind !== "preview") continue;
            seen.stamps[row.instrument] = row.close_trade_time;
            if (seen.counting) seen.delays.push(now - Date.parse(row.close_trade_time));
        }
    });
"""
_BEGIN = "seen.delays = []; seen.frames = 0; seen.counting = true;"
_END = "seen.counting = false; return [seen.delays, seen.frames];"


def main() -> None:
    """Measure and write `page.*`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--instruments", type=int, nargs="+", default=[20, 200])
    parser.add_argument("--updates", type=float, default=5, help="of each, per second")
    parser.add_argument("--duration", type=float, default=60, help="seconds counted")
    parser.add_argument("--warm-up", type=float, default=15, help="seconds before that")
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results")
    given = parser.parse_args()
    with _scratch() as directory:
        kafka = KafkaBroker(directory)
        kafka.start()
        machine = describe()
        try:
            runs = take_turns(
                [str(count) for count in given.instruments],
                given.repeat,
                lambda count: _measure(kafka, directory, int(count), given),
            )
        finally:
            kafka.stop()
    result = {"machine": machine, "options": _options(given), "runs": runs}
    keep(given.output, "page", result, _markdown(runs, given, machine))


def _measure(kafka: KafkaBroker, directory: Path, count: int, given: argparse.Namespace) -> Run:
    prefix = f"page-{uuid.uuid4().hex[:8]}"
    topics = {"candle": "candles", "preview": "live", "statistics": "statistics"}
    for topic in topics.values():
        kafka.create_topic(f"{prefix}.{topic}", _PARTITIONS)
    server = PageServer(
        directory / f"{prefix}.log",
        {
            "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap,
            "DATABASE_URL": "off",
            "PAGE_TOPICS": ",".join(f"{kind}={prefix}.{topic}" for kind, topic in topics.items()),
        },
    )
    feeder = Child(
        [
            *(sys.executable, "-m", "benchmarks.page_feeder"),
            *(kafka.bootstrap, prefix, str(count), str(given.updates)),
        ],
        log=directory / f"{prefix}-feeder.log",
        cwd=ROOT,
    )
    browser = Browser()
    try:
        server.start()
        browser.open(f"{server.url}/#/market/{name(0)}/1s")
        browser.run(_LISTEN)
        browser.wait(f"Object.keys(seen.stamps).length === {count}", timeout_s=120)
        browser.wait("document.querySelector('#chart .plot-container')", timeout_s=120)
        time.sleep(given.warm_up)
        return _count(browser, server, feeder, given)
    finally:
        feeder.kill()
        browser.stop()
        server.kill()
        kafka.delete_topics(prefix)


def _count(browser: Browser, server: PageServer, feeder: Child, given: argparse.Namespace) -> Run:
    before = _Used(browser, server)
    browser.run(_BEGIN)
    time.sleep(given.duration / 2)
    middle = browser.heap_bytes()
    time.sleep(given.duration / 2)
    delays_ms, frames = browser.run(_END)
    after = _Used(browser, server)
    # What is still on its way once nothing is written any more.
    feeder.stop(timeout_s=30)
    ended_s = time.monotonic()
    told = json.loads(feeder.output().splitlines()[-1])
    browser.wait(
        "Object.entries(arguments[0]).every(([n, ms]) => Date.parse(seen.stamps[n]) >= ms)",
        told["stamps"],
        timeout_s=_SETTLE_S,
    )
    settled_s = time.monotonic() - ended_s
    wall_s = after.at_s - before.at_s
    fifth = max(1, len(delays_ms) // 5)
    return {
        "written_per_s": told["previews"] / told["wall_s"],
        "applied_per_s": len(delays_ms) / wall_s,
        "frames_per_s": frames / wall_s,
        "p50_ms": statistics.median(delays_ms),
        "p99_ms": statistics.quantiles(delays_ms, n=100)[98],
        "p50_first_fifth_ms": statistics.median(delays_ms[:fifth]),
        "p50_last_fifth_ms": statistics.median(delays_ms[-fifth:]),
        "settled_s": settled_s,
        "server_cpu": (after.server_s - before.server_s) / wall_s,
        "browser_cpu": (after.browser_s - before.browser_s) / wall_s,
        "heap_middle_mb": middle / 2**20,
        "heap_end_mb": browser.heap_bytes() / 2**20,
    }


class _Used:
    """CPU-seconds of the server and of all processes of the browser so far."""

    def __init__(self, browser: Browser, server: PageServer) -> None:
        self.at_s = time.monotonic()
        used = psutil.Process(server.pid).cpu_times()
        self.server_s = used.user + used.system
        self.browser_s = browser.cpu_s()


def _options(given: argparse.Namespace) -> dict[str, Any]:
    return {key: value for key, value in vars(given).items() if key != "output"}


@contextmanager
def _scratch() -> Iterator[Path]:
    _SCRATCH.mkdir(parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix="page-", dir=_SCRATCH))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _markdown(runs: Runs, given: argparse.Namespace, machine: dict[str, Any]) -> str:
    few, many = str(min(given.instruments)), str(max(given.instruments))
    lines = [
        "# The page in a browser",
        "",
        (
            f"Previews of every instrument {given.updates:g} times a second, its candle of a "
            f"second and its statistics each second, for {given.duration:g} s; market view with "
            "one chart in Chromium. Delay: from the writer's clock before it is produced to the "
            f"end of the frame that painted the row. Medians of {given.repeat} turns."
        ),
        "",
        (
            "| instruments | written/s | applied/s | delay p50 ms | p99 ms | first → last fifth ms "
            "| on the page after the end s | frames/s | server CPU | browser CPU "
            "| heap MiB middle → end |"
        ),
        "|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for count, one in medians(runs).items():
        lines.append(
            f"| {count} | {one['written_per_s']:,.0f} | {one['applied_per_s']:,.0f} "
            f"| {one['p50_ms']:,.0f} | {one['p99_ms']:,.0f} "
            f"| {one['p50_first_fifth_ms']:,.0f} → {one['p50_last_fifth_ms']:,.0f} "
            f"| {one['settled_s']:.2f} | {one['frames_per_s']:.1f} | {one['server_cpu']:.2f} "
            f"| {one['browser_cpu']:.2f} "
            f"| {one['heap_middle_mb']:.1f} → {one['heap_end_mb']:.1f} |"
        )
    lines += [
        "",
        (
            f"{many} instruments of {few}, in the same turn: delay "
            f"{ratio(runs, many, few, 'p50_ms'):.2f}, server CPU "
            f"{ratio(runs, many, few, 'server_cpu'):.2f}, browser CPU "
            f"{ratio(runs, many, few, 'browser_cpu'):.2f}."
        ),
        "",
        sentence(machine),
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    say("The page in Chromium")
    main()
