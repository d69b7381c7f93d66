"""The flow with a clock around each stage: the child of `benchmarks.profile_flow`.

Takes the directory of a new recovery store; prints one line of JSON: CPU-seconds of the
process, of each of its threads by name, and of each stage without those it calls.
"""

import functools
import json
import os
import resource
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from bytewax._bytewax import cli_main
from bytewax.recovery import RecoveryConfig, init_db_dir

from dataflows import candles
from operators import combine, tumbling, window_table, windows
from operators.candle import CANDLE
from operators.compiled import compile_kernels
from schemas import trades
from sinks import (
    group_commit,
    kafka_transactions,
    live,
    postgres_transactions,
    routes,
    staging,
)
from sources import kafka, kafka_client, librdkafka, partitioned, timeline

__all__ = ["measure"]

_EPOCH = timedelta(seconds=5)


class _Clock:
    """CPU time by stage, of any thread."""

    def __init__(self) -> None:
        self.own_s: dict[str, float] = defaultdict(float)
        self.calls: dict[str, int] = defaultdict(int)
        self._local = threading.local()

    def around(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            local = self._local.__dict__
            outer = local.get("inner_s", 0.0)
            local["inner_s"] = 0.0
            started = time.thread_time()
            try:
                return function(*args, **kwargs)
            finally:
                spent = time.thread_time() - started
                self.own_s[stage] += spent - local["inner_s"]
                self.calls[stage] += 1
                local["inner_s"] = outer + spent

        return timed

    def wrap(self, owner: Any, name: str, stage: str) -> None:  # noqa: ANN401
        setattr(owner, name, self.around(stage, getattr(owner, name)))


def measure(directory: str) -> None:
    """Run the flow once."""
    compile_kernels()
    clock = _Clock()
    _instrument(clock)
    recovery = Path(directory)
    recovery.mkdir()
    init_db_dir(recovery, 1)  # type: ignore[no-untyped-call]
    threads = _Threads()
    before = resource.getrusage(resource.RUSAGE_SELF)
    started = time.perf_counter()
    # One worker runs on the calling thread, as under bytewax.run.
    worker_s = time.thread_time()
    store = RecoveryConfig(recovery, timedelta(0))  # type: ignore[no-untyped-call]
    flow = candles.flow()
    cli_main(flow, epoch_interval=_EPOCH, recovery_config=store)  # type: ignore[no-untyped-call]
    worker_s = time.thread_time() - worker_s
    wall_s = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_SELF)
    print(
        json.dumps(
            {
                "wall_s": wall_s,
                "cpu_s": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
                "main_thread_s": worker_s,
                "threads_s": threads.stop(),
                "stages_s": clock.own_s,
                "calls": clock.calls,
            }
        )
    )


class _Threads:
    """CPU of each thread by name; sampled, since a thread's account ends with it."""

    def __init__(self) -> None:
        self._ended = threading.Event()
        self._own_s = 0.0
        self._found: dict[int, tuple[str, float]] = {}
        self._begin = dict(self._read())
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def stop(self) -> dict[str, float]:
        self._ended.set()
        self._thread.join()
        self._found.update(self._read())
        total: dict[str, float] = defaultdict(float)
        for thread, (name, spent_s) in self._found.items():
            kind = "rdk:broker" if name.startswith("rdk:broker") else name.rstrip("0123456789")
            total[kind] += spent_s - self._begin.get(thread, ("", 0.0))[1]
        total["(this sampling)"] = self._own_s
        return dict(total)

    def _sample(self) -> None:
        while not self._ended.wait(0.25):
            self._found.update(self._read())
        self._own_s = time.thread_time()

    def _read(self) -> list[tuple[int, tuple[str, float]]]:
        found = []
        for task in Path("/proc/self/task").iterdir():
            try:
                name = (task / "comm").read_text().strip()
                if int(task.name) == os.getpid():
                    name = "worker"
                spent_ns = int((task / "schedstat").read_text().split()[0])
            except (OSError, ValueError):
                continue
            found.append((int(task.name), (name, spent_ns / 1e9)))
        return found


def _instrument(clock: _Clock) -> None:
    """Put the clock around every stage."""
    for client in (librdkafka.NativeConsumer, kafka_client.StockConsumer):
        clock.wrap(client, "consume", "source: consume")
        clock.wrap(client, "commit", "source: commit offsets")
    clock.wrap(librdkafka, "_drain", "source: messages to columns")
    clock.wrap(kafka.KafkaFetcher, "poll", "source: watermark and the rest")
    clock.wrap(kafka.KafkaFetcher, "__init__", "source: open")
    clock.wrap(partitioned.LogPartition, "next_batch", "source: watermark and the rest")
    clock.wrap(partitioned.LogPartition, "next_awake", "source: watermark and the rest")
    clock.wrap(timeline.Timeline, "pass_records", "source: watermark and the rest")

    clock.wrap(trades.TradeCodec, "decode", "decode: the rest")
    clock.wrap(trades, "read_fields", "decode: fields")
    clock.wrap(trades, "intern_keys", "decode: keys")
    clock.wrap(trades, "_figures", "decode: fixed point")
    clock.wrap(trades, "_judge", "decode: judge")
    clock.wrap(combine, "effective_ticks", "combine: effective ticks")
    clock.wrap(combine, "group", "combine: group")
    clock.wrap(combine.Combine, "_to_shards", "combine: cut by shard")
    clock.wrap(combine, "asides", "combine: late and rejected")
    clock.wrap(combine.Combine, "__call__", "combine: the rest")
    for name, stage in (("lift", "combine: lift"), ("lower", "shard: rows")):
        # Fields of a frozen instance.
        object.__setattr__(CANDLE, name, clock.around(stage, getattr(CANDLE, name)))
    clock.wrap(tumbling.TumblingShard, "on_batch", "shard: the rest")
    clock.wrap(tumbling.TumblingShard, "on_notify", "shard: the rest")
    clock.wrap(tumbling.TumblingShard, "notify_at", "shard: the rest")
    clock.wrap(tumbling.TumblingShard, "snapshot", "shard: snapshot")
    clock.wrap(window_table.WindowTable, "add", "shard: take in partials")
    clock.wrap(window_table.WindowTable, "_advance", "shard: choose due partials")
    clock.wrap(window_table.WindowTable, "forming", "shard: previews")
    clock.wrap(tumbling, "preview_rows", "shard: previews")
    clock.wrap(windows, "advance", "shard: merge and close")
    clock.wrap(windows, "forming", "shard: previews")
    clock.wrap(group_commit.GroupCommitPartition, "write_batch", "sinks: queue")
    clock.wrap(group_commit.GroupCommitPartition, "snapshot", "sinks: wait at snapshot")
    clock.wrap(group_commit.GroupCommitPartition, "close", "sinks: close")
    clock.wrap(kafka_transactions.KafkaCommitter, "commit", "thread kafka: transaction")
    clock.wrap(kafka_transactions.KafkaCommitter, "open", "thread kafka: open")
    clock.wrap(postgres_transactions.PostgresCommitter, "commit", "thread postgres: transaction")
    clock.wrap(postgres_transactions.PostgresCommitter, "open", "thread postgres: open")
    clock.wrap(routes.MessageRoute, "records", "encode records")
    kafka_live, postgres_live = live._KafkaLivePartition, live._PostgresLivePartition  # noqa: SLF001
    clock.wrap(kafka_live, "write_batch", "previews: Kafka")
    clock.wrap(postgres_live, "write_batch", "previews: PostgreSQL, queue")
    clock.wrap(postgres_live, "_store", "thread previews: PostgreSQL")
    clock.wrap(staging, "to_csv", "thread postgres: CSV")


if __name__ == "__main__":
    measure(sys.argv[1])
