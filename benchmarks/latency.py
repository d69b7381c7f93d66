"""Latency of the live candles flow: `python -m benchmarks.latency`.

The flow runs as in production, Kafka and PostgreSQL on, with 1-second candles (so that there
are many to time) and a preview throttle of 10 ms. A feeder plays the simulated market at its
own pace; an observer reads both outputs. All three are processes of this machine and share
its clock.

* preview: from just before `produce()` of a trade to the moment a reader holds the preview
  that includes it. Trades of one candle are counted in log order, so a preview that counts
  n of them includes the first n; a trade that no preview ever counted (its window had closed)
  is left out, and how many those are is told.
* closed: from just before `produce()` of the record that moves the last partition's watermark
  past the end of the window, to the moment a `read_committed` reader holds the closed candle.
"""

import argparse
import pickle
import sys
import time
import uuid
from collections import defaultdict
from pathlib import Path

import numpy as np
from confluent_kafka import Producer
from numpy.typing import NDArray

from benchmarks import latency_report
from benchmarks.components import ROOT, Components, components
from benchmarks.machine import describe
from schemas.market_pb2 import Candle
from schemas.trades import TradeCodec
from sources.market import SimulatedMarket
from tests.real.flows import FlowProcess
from tests.real.kafka_client import Kafka
from tests.real.process import Child

__all__ = ["main"]

_SHARDS = 8
_PARTITIONS = 4
_LATENESS_MS = 2_000
_WINDOW_MS = 1_000
_READY_S = 60.0
_WARM_TRANSACTIONS = 2_000
_LEAD_MS = 3_000
_DRAIN_S = 4.0


def main() -> None:
    """Measure each rate, write results, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rates", type=int, nargs="*", default=[1_000, 10_000])
    parser.add_argument("--duration", type=float, default=60, help="seconds counted per rate")
    parser.add_argument("--warm-up", type=float, default=15, help="seconds before, not counted")
    parser.add_argument("--preview-ms", type=int, default=10)
    parser.add_argument("--snapshot", type=int, default=5, help="seconds between snapshots")
    parser.add_argument("--instruments", type=int, default=200)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results")
    options = parser.parse_args()
    with components() as servers:
        machine = describe(servers.postgres.url)
        _warm(servers.kafka)
        found = {rate: _measure(servers, rate, options) for rate in options.rates}
    latency_report.write(found, options, machine)


def _warm(kafka: Kafka) -> None:
    """Have the broker compile its transaction paths; a closed candle a second would not."""
    topic = f"warm-{uuid.uuid4().hex[:8]}"
    kafka.create_topic(topic, _SHARDS)
    producer = Producer(
        {
            "bootstrap.servers": kafka.bootstrap,
            "transactional.id": topic,
            "linger.ms": 0,
            "socket.nagle.disable": True,
            "retry.backoff.ms": 1,
        }
    )
    producer.init_transactions(_READY_S)
    for _ in range(_WARM_TRANSACTIONS):
        producer.begin_transaction()
        for partition in range(_SHARDS):
            producer.produce(topic, b"warm", partition=partition)
        producer.commit_transaction(_READY_S)


def _measure(
    servers: Components, rate: int, options: argparse.Namespace
) -> dict[str, NDArray[np.float64]]:
    kafka, number = servers.kafka, uuid.uuid4().hex[:8]
    topic, output = f"trades-{number}", f"out-{number}"
    kafka.create_topic(topic, _PARTITIONS)
    flow = FlowProcess(
        "dataflows.candles",
        log=servers.directory / f"flow-{number}.log",
        env={
            "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap,
            "DATABASE_URL": servers.new_database(),
            "INPUT_TOPIC": topic,
            "OUTPUT_TOPIC": output,
            "INTERVALS": "1s",
            "PREVIEW_MS": str(options.preview_ms),
            "LATENESS_S": str(_LATENESS_MS / 1000),
            "SHARDS": str(_SHARDS),
        },
        recovery_dir=servers.directory / f"recovery-{number}",
        snapshot_interval_s=options.snapshot,
    )
    seen = servers.directory / f"seen-{number}.pickle"
    try:
        deadline = time.monotonic() + _READY_S
        while not any(name.endswith(".progress") for name in kafka.topics(output)):
            if flow.returncode is not None or time.monotonic() > deadline:
                raise RuntimeError(f"The flow does not start: {flow.output()}")
            time.sleep(0.1)
        seconds = options.warm_up + options.duration
        observer = Child(
            [
                *(sys.executable, "-m", "benchmarks.latency_observer", kafka.bootstrap),
                *(output, str(_SHARDS), str(_LEAD_MS / 1000 + seconds + _DRAIN_S), str(seen)),
            ],
            log=servers.directory / f"observer-{number}.log",
            cwd=ROOT,
        )
        time.sleep(1)
        fed = _feed(kafka.bootstrap, topic, rate, seconds, options.instruments)
        if observer.wait(_DRAIN_S + 30):
            raise RuntimeError(observer.tail())
        if flow.returncode is not None:
            raise RuntimeError(flow.output())
    finally:
        flow.kill9()
    previews, closed = pickle.loads(seen.read_bytes())
    counted_from = fed.started + options.warm_up
    return {
        "preview": _preview_latency(fed, previews, counted_from),
        "closed": _closed_latency(fed, closed, counted_from),
    }


class _Fed:
    """What was produced: each candle's times of producing, each partition's progress."""

    def __init__(self) -> None:
        self.started = time.time()
        self.windows: dict[tuple[str, int], list[float]] = defaultdict(list)
        # by partition: (newest event time, when it was produced), both rising
        self.progress: list[list[tuple[int, float]]] = [[] for _ in range(_PARTITIONS)]


def _feed(bootstrap: str, topic: str, rate: int, seconds: float, instruments: int) -> _Fed:
    """Play the market at its own pace; everything is made beforehand."""
    producer = Producer(
        {"bootstrap.servers": bootstrap, "linger.ms": 1, "socket.nagle.disable": True}
    )
    opened_at_ms = int(time.time() * 1000) + _LEAD_MS
    market = SimulatedMarket(
        opened_at_ms,
        partitions=_PARTITIONS,
        instruments=instruments,
        rate=rate,
        trades=int(rate * (seconds + 5)),
        pace="fast",
    )
    plan: list[tuple[int, int, str, int, bytes]] = []
    codec = TradeCodec()
    for partition in range(_PARTITIONS):
        fetcher = market.open(partition, None)
        while (fetched := fetcher.poll(100_000)) is not None:
            decoded = codec.decode(fetched.values)
            keys = [decoded.key_names[code] for code in decoded.key_codes]
            plan += zip(
                fetched.timestamps_ms.tolist(),
                [partition] * len(keys),
                keys,
                decoded.event_time_ms.tolist(),
                fetched.values.to_pylist(),
                strict=True,
            )
    plan.sort(key=lambda trade: trade[0])
    while time.time() * 1000 < opened_at_ms:
        time.sleep(0.005)
    fed = _Fed()
    newest = [0] * _PARTITIONS
    for due_ms, partition, key, time_ms, value in plan:
        if due_ms > opened_at_ms + seconds * 1000:
            break
        while (ahead_s := due_ms / 1000 - time.time()) > 0:
            producer.poll(0)
            time.sleep(min(ahead_s, 0.001))
        now = time.time()
        producer.produce(topic, value, key, partition, timestamp=due_ms)
        fed.windows[key, time_ms // _WINDOW_MS * _WINDOW_MS].append(now)
        if time_ms > newest[partition]:
            newest[partition] = time_ms
            fed.progress[partition].append((time_ms, now))
    producer.flush(10)
    return fed


def _preview_latency(
    fed: _Fed, seen: list[tuple[float, bytes]], counted_from: float
) -> NDArray[np.float64]:
    """Milliseconds from each trade to the first preview that counts it."""
    shown: dict[tuple[str, int], int] = defaultdict(int)
    samples = []
    for at, value in seen:
        candle = Candle.FromString(value)
        window = candle.instrument, candle.open_time_ms
        before = shown[window]
        if candle.trade_count > before:
            produced = fed.windows.get(window, [])[before : candle.trade_count]
            samples += [(at - t) * 1000 for t in produced if t >= counted_from]
            shown[window] = candle.trade_count
    fed_trades = sum(t >= counted_from for times in fed.windows.values() for t in times)
    print(f"{fed_trades - len(samples):,} of {fed_trades:,} trades in no preview", file=sys.stderr)
    return np.array(samples)


def _closed_latency(
    fed: _Fed, seen: list[tuple[float, bytes]], counted_from: float
) -> NDArray[np.float64]:
    """Milliseconds from the watermark's passing to each closed candle, revision 0."""
    times = [np.array([event for event, _ in one]) for one in fed.progress]
    samples = []
    for at, value in seen:
        candle = Candle.FromString(value)
        if candle.revision:
            continue
        needed = candle.close_time_ms + _LATENESS_MS
        index = [int(np.searchsorted(one, needed)) for one in times]
        if any(i == len(one) for i, one in zip(index, times, strict=True)):
            continue
        passed = max(fed.progress[p][i][1] for p, i in enumerate(index))
        if passed >= counted_from:
            samples.append((at - passed) * 1000)
    return np.array(samples)


if __name__ == "__main__":
    main()
