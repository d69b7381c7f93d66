"""Memory and recovery store of the candles flow over time: `python -m benchmarks.memory`.

A feeder process produces simulated trades as fast as it can, and the flow keeps up with
Kafka and PostgreSQL on and a recovery store; every second its resident memory, threads, file
handles and the size of its recovery store are noted. Records that the flow has committed are
deleted from the topic, so that the disk is bounded too. Says whether the figures are flat:
the median of the last quarter against that of the second (the first is warm-up).
"""

import argparse
import json
import statistics
import sys
import time
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
from confluent_kafka import Consumer, KafkaException, TopicPartition

from benchmarks.components import ROOT, Components, components
from benchmarks.machine import describe, sentence
from benchmarks.plots import figure, save
from tests.real.flows import FlowProcess
from tests.real.process import Child

__all__ = ["main"]

_PARTITIONS = 4
_READY_S = 60.0
_SETTLE_S = 5.0
_KEPT = 200_000  # records per partition behind the committed offset
_TOPIC = {
    "segment.bytes": str(32 * 2**20),
    "segment.index.bytes": str(2**20),
    "file.delete.delay.ms": "1000",
}
_FIGURES = {
    "rss_mb": "resident memory, MB",
    "store_kb": "recovery store, kB",
    "threads": "threads",
    "handles": "file handles",
}


@dataclass(frozen=True, slots=True)
class Sample:
    """The flow at a moment.

    Attributes:
        at_s: seconds since the first sample.
        events: records behind the committed offsets.
        lag: records produced but not committed.
        rss_mb: resident memory.
        threads: their number.
        handles: open file descriptors.
        store_kb: size of the recovery store's files.
    """

    at_s: float
    events: int
    lag: int
    rss_mb: float
    threads: int
    handles: int
    store_kb: float


def main() -> None:
    """Measure, write results, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--duration", type=float, default=600, help="seconds")
    parser.add_argument("--rate", type=float, default=10_000, help="trades per second, event time")
    parser.add_argument("--instruments", type=int, default=200)
    parser.add_argument("--snapshot", type=int, default=5, help="seconds between snapshots")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results")
    options = parser.parse_args()
    with components() as servers:
        machine = describe(servers.postgres.url)
        samples = _measure(servers, options)
    verdict = _verdict(samples)
    text = _table(samples, verdict, options, machine)
    print(text)
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "memory.md").write_text(text)
    result = {"machine": machine, "verdict": verdict, "samples": [asdict(one) for one in samples]}
    (options.output / "memory.json").write_text(json.dumps(result) + "\n")
    _plot(samples, options.output / "memory.svg")


def _measure(servers: Components, options: argparse.Namespace) -> list[Sample]:
    kafka, number = servers.kafka, uuid.uuid4().hex[:8]
    topic = kafka.create_topic(f"trades-{number}", _PARTITIONS, _TOPIC)
    recovery = servers.directory / f"recovery-{number}"
    flow = FlowProcess(
        "dataflows.candles",
        log=servers.directory / "flow.log",
        env={
            "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap,
            "DATABASE_URL": servers.new_database(),
            "INPUT_TOPIC": topic,
            "OUTPUT_TOPIC": f"out-{number}",
        },
        recovery_dir=recovery,
        snapshot_interval_s=options.snapshot,
    )
    deadline = time.monotonic() + _READY_S
    while not any(name.endswith(".progress") for name in kafka.topics(f"out-{number}")):
        if flow.returncode is not None or time.monotonic() > deadline:
            raise RuntimeError(f"The flow does not start: {flow.output()}")
        time.sleep(0.1)
    time.sleep(_SETTLE_S)  # a new broker makes its internal topics now, unhurried
    feeder = Child(
        [
            *(sys.executable, "-m", "benchmarks.memory_feeder", kafka.bootstrap, topic),
            *(str(_PARTITIONS), str(options.instruments), str(options.rate)),
        ],
        log=servers.directory / "feeder.log",
        cwd=ROOT,
    )
    watched = psutil.Process(flow.pid)
    lag = _Lag(servers, topic)
    samples: list[Sample] = []
    started = time.monotonic()
    try:
        while (at_s := time.monotonic() - started) < options.duration:
            if flow.returncode is not None or feeder.returncode is not None:
                raise RuntimeError(f"{flow.output()}\n{feeder.tail()}")
            committed, produced = lag.read()
            with watched.oneshot():
                samples.append(
                    Sample(
                        round(at_s, 2),
                        committed,
                        produced - committed,
                        round(watched.memory_info().rss / 1e6, 1),
                        watched.num_threads(),
                        watched.num_fds(),
                        sum(file.stat().st_size for file in recovery.glob("*")) / 1e3,
                    )
                )
            time.sleep(1)
    finally:
        feeder.kill()
        flow.kill9()
    return samples


class _Lag:
    """What the flow has committed; trims the topic behind it."""

    def __init__(self, servers: Components, topic: str) -> None:
        self._admin = servers.kafka.admin
        self._end = servers.kafka.end_offsets
        self._topic = topic
        self._partitions = [TopicPartition(topic, p) for p in range(_PARTITIONS)]
        self._consumer = Consumer(
            {
                "bootstrap.servers": servers.kafka.bootstrap,
                "group.id": "candles-v1",
                "enable.auto.commit": False,
                "log_level": 0,
            }
        )

    def read(self) -> tuple[int, int]:
        """Records committed, records produced."""
        try:
            found = self._consumer.committed(self._partitions, timeout=5)
        except KafkaException:  # before the first commit there may be no coordinator
            found = []
        offsets = {one.partition: max(one.offset, 0) for one in found}
        trimmed = [
            TopicPartition(self._topic, p, offset - _KEPT)
            for p, offset in offsets.items()
            if offset > _KEPT
        ]
        if trimmed:
            self._admin.delete_records(trimmed)
        return sum(offsets.values()), sum(self._end(self._topic))


def _verdict(samples: list[Sample]) -> dict[str, Any]:
    n = len(samples) // 4
    early, late = samples[n : 2 * n], samples[-n:]
    found: dict[str, Any] = {}
    for name in _FIGURES:
        before = statistics.median(getattr(one, name) for one in early)
        after = statistics.median(getattr(one, name) for one in late)
        found[name] = {
            "second_quarter": round(before, 1),
            "last_quarter": round(after, 1),
            "change": round(after / before - 1, 4) if before else None,
            "most": max(getattr(one, name) for one in samples),
        }
    first, last = samples[n], samples[-1]
    found["events_per_s"] = round((last.events - first.events) / (last.at_s - first.at_s))
    return found


def _table(
    samples: list[Sample],
    verdict: dict[str, Any],
    options: argparse.Namespace,
    machine: dict[str, Any],
) -> str:
    last = samples[-1]
    lines = [
        "# Memory and recovery store of the candles flow",
        "",
        (
            f"{last.at_s:.0f} s at full speed: {last.events:,} trades, {verdict['events_per_s']:,} "
            f"a second, {options.instruments} instruments, {options.rate:,.0f} trades/s of event "
            f"time, a snapshot every {options.snapshot} s. Medians."
        ),
        "",
        "| | second quarter | last quarter | change | most |",
        "|---|--:|--:|--:|--:|",
    ]
    for name, text in _FIGURES.items():
        one = verdict[name]
        change = "" if one["change"] is None else f"{one['change']:+.1%}"
        lines.append(
            f"| {text} | {one['second_quarter']:,} | {one['last_quarter']:,} | {change} "
            f"| {one['most']:,.0f} |"
        )
    return "\n".join([*lines, "", sentence(machine), ""])


def _plot(samples: list[Sample], path: Path) -> None:
    drawn = figure(2, rows=2, height=2.4)
    if drawn is None:
        return
    canvas, axes = drawn
    for axis, (name, text) in zip(axes.flat, _FIGURES.items(), strict=True):
        axis.plot([one.at_s for one in samples], [getattr(one, name) for one in samples])
        axis.set(title=text, xlabel="s", ylim=(0, None))
    save(canvas, path)


if __name__ == "__main__":
    main()
