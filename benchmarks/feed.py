"""How many trades the exchange feed bears, and how fast it heals: `python -m benchmarks.feed`.

The simulated exchange runs in a process of its own and publishes every 100 ms; the flow
`deribit` writes its trades exactly once to Kafka, with one worker and one connection, and
where it is said to the table `trades` too. The output topic stamps records as they are
appended, so what is told comes from the topic itself: trades appended a second, and how long
a trade took from the exchange's clock to the log, of which up to 100 ms are the exchange's
wait. CPU-seconds are those of each process.

A trade that was sent and is not in the topic makes the run void. While gaps are measured the
exchange swallows a notification now and then. Whoever reads the topic lacks something until
all trades up to that moment are there; told is that time less the 100 ms after which the
next notification shows the gap, beside the same figure for moments without a gap.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import psutil  # type: ignore[import-untyped]
from numpy.typing import NDArray

from benchmarks.components import ROOT, Components, committed, components
from benchmarks.machine import describe, sentence
from benchmarks.turns import keep, new_output, say
from schemas.stream import Int64s
from schemas.trades import TradeCodec
from tests.real.flows import FlowProcess
from tests.real.kafka_client import Kafka
from tests.real.process import Child

__all__ = ["main"]

_INSTRUMENTS = 20
_PARTITIONS = 8
_READY_S = 60.0
_NOTIFY_MS = 100
_HEAL_RATE = 2_000.0
_GAP_EVERY_S = 1.0
_SETTLE_S = 3.0


class _Log(NamedTuple):
    """The output topic as columns, one row a trade: all (n,) int64."""

    traded_ms: Int64s
    appended_ms: Int64s
    instrument: Int64s
    sequence: Int64s


def main() -> None:
    """Measure, write results, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rates", type=float, nargs="*", default=[20_000, 40_000])
    parser.add_argument("--duration", type=float, default=20, help="seconds counted each")
    parser.add_argument("--warm-up", type=float, default=5, help="seconds before, not counted")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results")
    options = parser.parse_args()
    with components() as servers:
        machine = describe(servers.postgres.url)
        runs = [
            _measure(servers, rate, options, table=table)
            for rate in options.rates
            for table in (False, True)
        ]
        healing = _healing(servers, options)
    result = {"machine": machine, "runs": runs, "healing": healing}
    keep(options.output, "feed", result, _markdown(result))


class _Feed:
    """Exchange and flow, running; `with` it."""

    def __init__(
        self, servers: Components, rate: float, *, gap_every_s: float = 0.0, table: bool = False
    ) -> None:
        config = {"message.timestamp.type": "LogAppendTime"}
        self.topic = servers.kafka.create_topic(new_output(), _PARTITIONS, config)
        opened_at_ms = time.time_ns() // 1_000_000 - 1_000
        self.exchange = Child(
            [
                *(sys.executable, "-m", "benchmarks.feed_exchange", str(rate)),
                *(str(_INSTRUMENTS), str(opened_at_ms), str(gap_every_s)),
            ],
            log=servers.directory / f"exchange-{self.topic}.log",
            cwd=ROOT,
        )
        deadline = time.monotonic() + _READY_S
        while "\n" not in self.exchange.output():
            if self.exchange.returncode is not None or time.monotonic() > deadline:
                raise RuntimeError(self.exchange.tail())
            time.sleep(0.05)
        listed = json.loads(self.exchange.output().splitlines()[0])
        self.flow = FlowProcess(
            "dataflows.deribit",
            log=servers.directory / f"feed-{self.topic}.log",
            env={
                "KAFKA_BOOTSTRAP_SERVERS": servers.kafka.bootstrap,
                "DATABASE_URL": servers.new_database() if table else "off",
                "OUTPUT_TOPIC": self.topic,
                "DERIBIT_ENDPOINT": listed["url"],
                "DERIBIT_INSTRUMENTS": ",".join(listed["names"]),
                "DERIBIT_PARTITIONS": str(_PARTITIONS),
            },
            recovery_dir=servers.directory / f"recovery-{self.topic}",
            snapshot_interval_s=5,
        )
        while not sum(servers.kafka.end_offsets(self.topic)):
            if self.flow.returncode is not None or time.monotonic() > deadline:
                raise RuntimeError(f"The feed does not start: {self.flow.output()}")
            time.sleep(0.1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.flow.kill9()
        self.exchange.kill()

    def cpu_s(self) -> tuple[float, float]:
        """CPU-seconds so far of the flow and of the exchange."""
        used = [psutil.Process(pid).cpu_times() for pid in (self.flow.pid, self.exchange.pid)]
        return used[0].user + used[0].system, used[1].user + used[1].system

    def finish(self) -> None:
        """Stop the flow, so that all it has taken is written."""
        self.flow.terminate()
        if self.flow.wait(_READY_S):
            raise RuntimeError(self.flow.output())


def _measure(
    servers: Components, rate: float, options: argparse.Namespace, *, table: bool
) -> dict[str, Any]:
    with _Feed(servers, rate, table=table) as feed:
        time.sleep(options.warm_up)
        begin_s, before = time.time(), feed.cpu_s()
        time.sleep(options.duration)
        end_s, after = time.time(), feed.cpu_s()
        feed.finish()
    log = _read(servers.kafka, feed.topic)
    counted = (log.appended_ms >= begin_s * 1000) & (log.appended_ms < end_s * 1000)
    delay_ms = (log.appended_ms - log.traded_ms)[counted]
    trades, flow_cpu_s = int(np.sum(counted)), after[0] - before[0]
    run = {
        "offered_per_s": rate,
        "table": table,
        "trades": trades,
        "trades_per_s": trades / (end_s - begin_s),
        "flow_cpu_s": flow_cpu_s,
        "exchange_cpu_s": after[1] - before[1],
        "cpu_share": flow_cpu_s / (end_s - begin_s),
        "trades_per_cpu_s": trades / flow_cpu_s,
        **_percentiles(delay_ms),
    }
    say(f"{rate:,.0f} trades/s: {run}")
    return run


def _healing(servers: Components, options: argparse.Namespace) -> dict[str, Any]:
    with _Feed(servers, _HEAL_RATE, gap_every_s=_GAP_EVERY_S) as feed:
        time.sleep(options.warm_up)
        begin_ms = time.time() * 1000
        time.sleep(options.duration)
        end_ms = time.time() * 1000
        time.sleep(_SETTLE_S)
        noted = [json.loads(line) for line in feed.exchange.output().splitlines()[1:]]
        feed.finish()
    swallowed = np.array([one["swallowed_ms"] for one in noted], np.float64)
    swallowed = swallowed[(swallowed >= begin_ms) & (swallowed < end_ms)]
    log = _read(servers.kafka, feed.topic)
    order = np.argsort(log.traded_ms, kind="stable")
    complete_ms = np.maximum.accumulate(log.appended_ms[order])

    def lacking_ms(moments: NDArray[np.float64]) -> NDArray[np.float64]:
        at = np.searchsorted(log.traded_ms[order], moments, side="right") - 1
        return np.maximum(complete_ms[at] - moments - _NOTIFY_MS, 0.0)

    # Half-way between two gaps, when the former is healed by far.
    calm = swallowed + _GAP_EVERY_S * 500
    found = {
        "gaps": len(swallowed),
        "rate": _HEAL_RATE,
        "healed": _percentiles(lacking_ms(swallowed)),
        "without": _percentiles(lacking_ms(calm)),
    }
    say(f"gaps: {found}")
    return found


def _percentiles(ms: NDArray[Any]) -> dict[str, float]:
    return {
        name: float(np.percentile(ms, share))
        for name, share in (("p50_ms", 50), ("p99_ms", 99), ("max_ms", 100))
    }


def _read(kafka: Kafka, topic: str) -> _Log:
    """The topic's trades.

    Raises:
        RuntimeError: A sequence is not whole.
    """
    codec, codes = TradeCodec(), dict[str, int]()
    parts = []
    for fetched in committed(kafka, topic):
        decoded = codec.decode(fetched.values)
        own = np.array([codes.setdefault(name, len(codes)) for name in decoded.key_names])
        columns = decoded.event_time_ms, fetched.timestamps_ms, own[decoded.key_codes]
        parts.append((*columns, decoded.columns["seq"]))
    log = _Log(*(np.concatenate(column) for column in zip(*parts, strict=True)))
    for code, name in enumerate(codes):
        sequence = log.sequence[log.instrument == code]
        if np.any(np.diff(sequence) != 1):
            raise RuntimeError(f"{name} is not whole in {topic}")
    return log


def _markdown(result: dict[str, Any]) -> str:
    lines = [
        "# The exchange feed",
        "",
        (
            f"{_INSTRUMENTS} instruments, notifications every {_NOTIFY_MS} ms, exactly once into "
            "Kafka, one worker and one connection. Delay: from the exchange's clock to the log."
        ),
        "",
        "| offered/s | table | trades/s | CPU s per s | trades per CPU-s | delay p50 ms | p99 ms |",
        "|--:|---|--:|--:|--:|--:|--:|",
    ]
    lines += [
        f"| {one['offered_per_s']:,.0f} | {'on' if one['table'] else 'off'} "
        f"| {one['trades_per_s']:,.0f} | {one['cpu_share']:.2f} | {one['trades_per_cpu_s']:,.0f} "
        f"| {one['p50_ms']:,.0f} | {one['p99_ms']:,.0f} |"
        for one in result["runs"]
    ]
    healing = result["healing"]
    lines += [
        "",
        (
            f"{healing['gaps']} gaps at {healing['rate']:,.0f} trades/s, from the notification "
            "that shows the gap to a topic that has all:"
        ),
        "",
        "| | p50 ms | most ms |",
        "|---|--:|--:|",
    ]
    lines += [
        f"| {text} | {healing[name]['p50_ms']:,.0f} | {healing[name]['max_ms']:,.0f} |"
        for text, name in (("gap", "healed"), ("the same without a gap", "without"))
    ]
    return "\n".join([*lines, "", sentence(result["machine"]), ""])


if __name__ == "__main__":
    main()
