"""How long a committed change takes to be readable: `python -m benchmarks.vehicles_latency`.

From the commit time of the source's transaction, which the change carries, to the moment at
which a `read_committed` reader in another process than the flow holds it. The flow writes Kafka
and PostgreSQL as in production and captures through a slot, then through the topics of a real
Debezium; the simulated inventory lives in a process of its own. All share this machine's clock.

Void is a run that leaves out a revision of a vehicle.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
from confluent_kafka import Consumer, TopicPartition

from benchmarks.components import ROOT, Components, components
from benchmarks.machine import describe, sentence
from benchmarks.turns import SHARDS, keep, new_output, say, warm_up
from schemas.vehicles_pb2 import Change
from sources.inventory_driver import InventoryDriver
from tests.real.debezium import Debezium
from tests.real.flows import FlowProcess
from tests.real.process import Child

__all__ = ["main"]

_READY_S = 60.0
_DRAIN_S = 3.0
_SNAPSHOT_S = 5
_SOURCES = ("slot", "debezium")


def main() -> None:
    """Measure, write results, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rates", type=int, nargs="*", default=[50, 500], help="transactions/s")
    parser.add_argument("--duration", type=float, default=15, help="seconds counted per rate")
    parser.add_argument("--warm-up", type=float, default=10, help="seconds before, not counted")
    parser.add_argument("--size", type=int, default=2_000, help="vehicles, about")
    parser.add_argument("--sources", nargs="*", choices=_SOURCES, default=_SOURCES)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results")
    options = parser.parse_args()
    with components() as servers:
        machine = describe(servers.postgres.url)
        warm_up(servers)
        runs = [run for source in options.sources for run in _measure(servers, source, options)]
    keep(
        options.output,
        "vehicles_latency",
        {"machine": machine, "runs": runs},
        _markdown(runs, machine),
    )


def _measure(servers: Components, source: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    url, output = servers.new_database(), new_output()
    InventoryDriver(url).close()  # makes the tables
    runs = []
    with _flow(servers, source, url, output) as flow:
        reader = _Reader(servers.kafka.bootstrap, output)
        for rate in options.rates:
            count = round(rate * (options.warm_up + options.duration))
            begin_s = time.time() + options.warm_up
            driver = Child(
                [
                    *(sys.executable, "-m", "dataflows.commands.drive_inventory", "--url", url),
                    *("--rate", str(rate), "--transactions", str(count)),
                    *("--size", str(options.size)),
                ],
                log=servers.directory / f"driver-{output}-{rate}.log",
                cwd=ROOT,
            )
            delays_ms = reader.delays_ms(driver, begin_s)
            if flow.returncode is not None or driver.returncode or not delays_ms:
                raise RuntimeError(f"{flow.output()}\n{driver.tail()}")
            words = driver.output().split()  # 1,000 transactions, 2,000 changes in 20.0 s …
            run = {
                "source": source,
                "offered_per_s": rate,
                "transactions_per_s": count / float(words[5]),
                "changes": len(delays_ms),
                **{f"p{p}_ms": float(np.percentile(delays_ms, p)) for p in (50, 99, 100)},
            }
            say(f"{run}")
            runs.append(run)
        reader.close()
    return runs


@contextmanager
def _flow(servers: Components, source: str, url: str, output: str) -> Iterator[FlowProcess]:
    """The flow, and Debezium where it takes it, which read the source's log."""
    env = {
        "KAFKA_BOOTSTRAP_SERVERS": servers.kafka.bootstrap,
        "DATABASE_URL": servers.new_database(),
        "OUTPUT_TOPIC": output,
        "SHARDS": str(SHARDS),
    }
    if source == "slot":
        env["SOURCE_DATABASE_URL"] = url
    else:
        directory = servers.directory / f"debezium-{output}"
        directory.mkdir()
        env["VEHICLES_TOPIC_PREFIX"] = prefix = f"source-{output}"
        debezium = Debezium(
            directory,
            servers.kafka.bootstrap,
            url,
            prefix=prefix,
            slot="debezium",
            with_schemas="false",
        )
        debezium.start()
    flow = FlowProcess(
        "dataflows.vehicles",
        log=servers.directory / f"flow-{output}.log",
        env=env,
        recovery_dir=servers.directory / f"recovery-{output}",
        snapshot_interval_s=_SNAPSHOT_S,
    )
    try:
        _await_ready(servers, url, output, flow)
        yield flow
    finally:
        flow.kill9()
        if source != "slot":
            debezium.stop()


def _await_ready(servers: Components, url: str, output: str, flow: FlowProcess) -> None:
    deadline = time.monotonic() + _READY_S
    query = (
        "SELECT count(*) FROM pg_replication_slots WHERE active AND database = current_database()"
    )
    with closing(psycopg.connect(url, autocommit=True)) as connection:
        while connection.execute(query).fetchone() == (
            0,
        ) or f"{output}.progress" not in servers.kafka.topics(output):
            if flow.returncode is not None or time.monotonic() > deadline:
                raise RuntimeError(f"The flow does not start: {flow.output()}")
            time.sleep(0.1)


class _Reader:
    """Reads all changes once, in order, as a user would."""

    def __init__(self, bootstrap: str, output: str) -> None:
        self._revisions: dict[str, int] = {}
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": output,
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "fetch.queue.backoff.ms": 1,
                "socket.nagle.disable": True,
            }
        )
        self._consumer.assign([TopicPartition(output, p, 0) for p in range(SHARDS)])

    def delays_ms(self, driver: Child, begin_s: float) -> list[float]:
        """Of the changes committed from then on until the driver has ended."""
        delays = []
        deadline_s = None
        while deadline_s is None or time.time() < deadline_s:
            if deadline_s is None and driver.returncode is not None:
                deadline_s = time.time() + _DRAIN_S
            message = self._consumer.poll(0.05)
            if message is None or message.error() is not None:
                continue
            now_s = time.time()
            change = Change.FromString(message.value() or b"")
            self._check(change)
            committed_s = change.changed_at.ToMicroseconds() / 1e6
            if committed_s >= begin_s:
                delays.append((now_s - committed_s) * 1000)
        return delays

    def close(self) -> None:
        """Let go of the connection."""
        self._consumer.close()

    def _check(self, change: Change) -> None:
        before = self._revisions.get(change.entity_uuid, 0)
        if change.revision_number != before + 1:
            raise RuntimeError(f"A revision is missing or twice before {change}")
        self._revisions[change.entity_uuid] = change.revision_number


def _markdown(runs: list[dict[str, Any]], machine: dict[str, Any]) -> str:
    lines = [
        "# From commit to a readable change",
        "",
        "Exactly once into Kafka and PostgreSQL; one worker.",
        "",
        "| source | offered/s | transactions/s | changes | p50 ms | p99 ms | most ms |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    lines += [
        f"| {one['source']} | {one['offered_per_s']:,} | {one['transactions_per_s']:,.0f} "
        f"| {one['changes']:,} | {one['p50_ms']:,.1f} | {one['p99_ms']:,.1f} "
        f"| {one['p100_ms']:,.1f} |"
        for one in runs
    ]
    return "\n".join([*lines, "", sentence(machine), ""])


if __name__ == "__main__":
    main()
