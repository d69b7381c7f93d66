"""One measurement in a fresh process: `python -m benchmarks.measured CONTENDER JSON`.

Prints one line of JSON. Counted is what lies between the end of start-up (imports, kernels
loaded and run once) and the end of the run: connecting, reading, computing, writing,
flushing and leaving. CPU-seconds are user and system time of this process with all its
threads, as the kernel accounts them; neither the broker nor PostgreSQL are in them.
"""

import gc
import json
import resource
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from bytewax._bytewax import cli_main
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig, init_db_dir
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from benchmarks import at_least_once, builtin_windows
from dataflows import candles
from operators.compiled import compile_kernels
from sources import kafka
from sources.kafka import CONSUMER_CONFIG

__all__ = ["main"]

_EPOCH = timedelta(seconds=5)


def main() -> None:
    """Run the contender that the command line names."""
    name, given = sys.argv[1], json.loads(sys.argv[2])
    run = _CONTENDERS[name]
    compile_kernels()
    started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
    run(given)
    after, ended = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    print(
        json.dumps(
            {
                "wall_s": ended - started,
                "user_s": after.ru_utime - before.ru_utime,
                "system_s": after.ru_stime - before.ru_stime,
                "start_up_cpu_s": before.ru_utime + before.ru_stime,
                "peak_rss_mb": after.ru_maxrss / 1024,
            }
        )
    )


def _raw(given: dict[str, Any], groups: list[list[int]]) -> None:
    """Count messages, one consumer per group of partitions, in turn."""
    # As the product does: a list of 10,000 messages wakes the collector for nothing.
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)
    config = {**CONSUMER_CONFIG, "bootstrap.servers": given["bootstrap"], "group.id": "raw"}
    config["enable.partition.eof"] = False  # an event would be counted as a message
    waiting = []
    for group in groups:
        consumer = Consumer(config)
        consumer.assign([TopicPartition(given["topic"], p, OFFSET_BEGINNING) for p in group])
        waiting.append([consumer, sum(given["sizes"][p] for p in group)])
    consumers = [consumer for consumer, _ in waiting]
    while waiting:
        for place in waiting:
            # A short wait, so that four consumers neither spin nor hold each other up.
            place[1] -= len(place[0].consume(10_000, 0.1 if len(groups) == 1 else 0.01))
        waiting = [place for place in waiting if place[1] > 0]
    for consumer in consumers:
        consumer.close()


def _run(flow: Dataflow, given: dict[str, Any]) -> None:
    recovery = Path(given["recovery"])
    recovery.mkdir()
    init_db_dir(recovery, 1)  # type: ignore[no-untyped-call]
    store = RecoveryConfig(recovery, timedelta(0))  # type: ignore[no-untyped-call]
    cli_main(flow, epoch_interval=_EPOCH, recovery_config=store)  # type: ignore[no-untyped-call]


def _stock(given: dict[str, Any]) -> None:
    vars(kafka)["is_available"] = lambda: False  # as where librdkafka cannot be drained directly
    _run(candles.flow(), given)


def _builtin(given: dict[str, Any]) -> None:
    _run(builtin_windows.flow(given["bootstrap"], given["topic"], given["output"]), given)


_CONTENDERS: dict[str, Callable[[dict[str, Any]], None]] = {
    "raw": lambda given: _raw(given, [list(range(len(given["sizes"])))]),
    "raw_each": lambda given: _raw(given, [[p] for p in range(len(given["sizes"]))]),
    "flow": lambda given: _run(candles.flow(), given),
    "flow_stock": _stock,
    "at_least_once": lambda given: _run(at_least_once.flow(), given),
    "builtin": _builtin,
}

if __name__ == "__main__":
    main()
