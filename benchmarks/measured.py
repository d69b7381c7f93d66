"""One measurement in a fresh process: `python -m benchmarks.measured CONTENDER JSON`.

Prints one line of JSON. Counted is what lies between the end of start-up (imports, kernels
loaded and run once), or a later moment that the contender names, and the end of the run:
connecting, reading, computing, writing, flushing and leaving. CPU-seconds are user and system
time of this process with all its threads, as the kernel accounts them; neither the broker nor
PostgreSQL are in them.
"""

import gc
import importlib
import json
import resource
import statistics
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import psutil  # type: ignore[import-untyped]
from bytewax._bytewax import cli_main
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig, init_db_dir
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition
from prometheus_client import REGISTRY
from typing_extensions import override

from benchmarks import at_least_once, builtin_windows, instruments
from benchmarks.rolling_cost import FullShards
from operators.compiled import compile_kernels
from schemas.stream import Output
from sources import kafka, log_partition
from sources.emitted import Emitted
from sources.kafka import CONSUMER_CONFIG
from sources.replication import ReplicationStream

__all__ = ["main"]

_EPOCH_S = 5
_READ = "tidemark_source_records"
_SAMPLE_S = 0.1
_SLOT_MESSAGES = 4_000  # what the product takes at once
_SLOT_REST_S = 0.004


class _Moment(NamedTuple):
    """What has been used so far: seconds of a clock and of CPU, and records read by a flow."""

    at_s: float
    user_s: float
    system_s: float
    records: int

    @classmethod
    def now(cls) -> "_Moment":
        used = resource.getrusage(resource.RUSAGE_SELF)
        read = sum(
            sample.value
            for metric in REGISTRY.collect()
            if metric.name == _READ
            for sample in metric.samples
            if sample.name.endswith("_total")
        )
        return cls(time.perf_counter(), used.ru_utime, used.ru_stime, int(read))


class _Found(NamedTuple):
    """What a contender tells of its run: where the counted part begins, and figures."""

    begin: _Moment
    more: dict[str, Any]


_Contender = Callable[[dict[str, Any]], _Found | None]


def main() -> None:
    """Run the contender that the command line names."""
    name, given = sys.argv[1], json.loads(sys.argv[2])
    run = _CONTENDERS[name]
    compile_kernels()
    started = _Moment.now()
    begin, more = run(given) or (started, {})
    end = _Moment.now()
    read = end.records - begin.records if end.records else sum(given.get("sizes", ()))
    print(
        json.dumps(
            {
                "events": given.get("events", read),
                "read": read,
                "wall_s": end.at_s - begin.at_s,
                "user_s": end.user_s - begin.user_s,
                "system_s": end.system_s - begin.system_s,
                "start_up_cpu_s": started.user_s + started.system_s,
                "peak_rss_mb": _peak_rss_mb(),
                **more,
            }
        )
    )


def _peak_rss_mb() -> float:
    # The kernel's own `ru_maxrss` goes on from that of the process which started this one.
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


class _Mark(Emitted):
    """Notes the moment at which a flow has emitted a tick, and counts the rows."""

    def __init__(self, mark_ms: int) -> None:
        super().__init__()
        self._mark_ms = mark_ms
        self._rows_before = 0
        self._rows = 0
        self._begin: _Moment | None = None

    @override
    def hear(self, step_id: str, item: tuple[str, Output]) -> None:
        super().hear(step_id, item)
        if self._begin is None and self() >= self._mark_ms:
            self._begin, self._rows_before = _Moment.now(), self._rows
        self._rows += item[1].rows.num_rows

    @property
    def found(self) -> _Found:
        """What to tell.

        Raises:
            ValueError: The flow has not come to the mark.
        """
        if self._begin is None:
            raise ValueError(f"The log ends before {self._mark_ms}")
        return _Found(self._begin, {"rows": self._rows - self._rows_before, "all_rows": self._rows})


class _Watch(threading.Thread):
    """Samples resident memory and the recovery store for as long as a flow has more to read."""

    def __init__(self, recovery: Path, records: int) -> None:
        super().__init__(daemon=True)
        self._recovery = recovery
        self._records = records
        self._begin = _Moment.now()
        self._samples: list[dict[str, float]] = []

    @override
    def run(self) -> None:
        process = psutil.Process()
        while (read := _Moment.now().records) < self._records:
            if read:
                store = sum(file.stat().st_size for file in self._recovery.glob("*.sqlite3*"))
                rss = process.memory_info().rss
                self._samples.append({"rss_mb": rss / 2**20, "store_mb": store / 2**20})
            time.sleep(_SAMPLE_S)

    @property
    def found(self) -> _Found:
        """Medians of a fifth of the samples in the middle of the run and at its end."""
        n = len(self._samples)
        parts = {
            "middle": self._samples[n * 2 // 5 : n * 3 // 5 + 1],
            "end": self._samples[-n // 5 :],
        }
        figures = {
            f"{name}_{part}": statistics.median(one[name] for one in samples)
            for part, samples in parts.items()
            for name in ("rss_mb", "store_mb")
        }
        return _Found(self._begin, figures)


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


def _raw_slot(given: dict[str, Any]) -> None:
    """Count row changes of a slot, and leave it as it is."""
    stream = ReplicationStream(given["url"])
    stream.start(given["slot"], given["publication"], 0)
    left = sum(given["sizes"])
    while left > 0:
        messages = stream.read(_SLOT_MESSAGES)
        left -= sum(message[:1] in (b"I", b"U", b"D") for _, message in messages)
        if not messages:
            time.sleep(_SLOT_REST_S)
    stream.close()


def _run(flow: Dataflow, given: dict[str, Any]) -> None:
    recovery = Path(given["recovery"])
    if not recovery.exists():
        recovery.mkdir()
        init_db_dir(recovery, 1)  # type: ignore[no-untyped-call]
    store = RecoveryConfig(recovery, timedelta(0))  # type: ignore[no-untyped-call]
    epoch = timedelta(seconds=given.get("epoch_s", _EPOCH_S))
    cli_main(flow, epoch_interval=epoch, recovery_config=store)  # type: ignore[no-untyped-call]


def _flow(given: dict[str, Any]) -> _Found | None:
    """A flow of the product; with `mark_ms`, statistics from the tick on that this names.

    With `largest_batch`, in batches of at most so many records.
    """
    module = importlib.import_module(f"dataflows.{given.get('flow', 'candles')}")
    if "largest_batch" in given:
        vars(log_partition)["_LARGEST_BATCH"] = given["largest_batch"]
    mark = _Mark(given["mark_ms"]) if "mark_ms" in given else None
    if mark is not None:
        vars(module)["Emitted"] = lambda: mark
    _run(module.flow(), given)
    return None if mark is None else mark.found


def _without_metrics(given: dict[str, Any]) -> _Found | None:
    instruments.silence()
    return _flow(given)


def _counted(given: dict[str, Any]) -> _Found:
    counted, begin = instruments.Counted(), _Moment.now()
    _flow(given)
    return _Found(begin, counted.figures())


def _watched(given: dict[str, Any]) -> _Found:
    watch = _Watch(Path(given["recovery"]), sum(given["sizes"]))
    watch.start()
    _flow(given)
    return watch.found


def _stock(given: dict[str, Any]) -> None:
    vars(kafka)["is_available"] = lambda: False  # as where librdkafka cannot be drained directly
    _flow(given)


def _builtin(given: dict[str, Any]) -> None:
    flow = builtin_windows.candles(given["bootstrap"], given["topic"], given["output"])
    _run(flow, given)


def _builtin_rolling(given: dict[str, Any]) -> None:
    flow = builtin_windows.rolling(
        given["bootstrap"], given["topic"], given["output"], given["window_s"], given["tick_s"]
    )
    _run(flow, given)


def _rolling_shards(given: dict[str, Any]) -> _Found:
    shards = FullShards(**given["shards"])
    begin = _Moment.now()
    shards.measured()
    more = {
        "events": shards.measured_trades,
        "panes": shards.panes,
        "window_trades": shards.trades,
    }
    return _Found(begin, more)


_CONTENDERS: dict[str, _Contender] = {
    "raw": lambda given: _raw(given, [list(range(len(given["sizes"])))]),
    "raw_each": lambda given: _raw(given, [[p] for p in range(len(given["sizes"]))]),
    "raw_slot": _raw_slot,
    "flow": _flow,
    "flow_watched": _watched,
    "flow_without_metrics": _without_metrics,
    "flow_counted": _counted,
    "flow_stock": _stock,
    "at_least_once": lambda given: _run(at_least_once.flow(), given),
    "builtin": _builtin,
    "builtin_rolling": _builtin_rolling,
    "rolling_shards": _rolling_shards,
}

if __name__ == "__main__":
    main()
