"""What a restart of rolling statistics costs, which reads the trades of a day again.

The flow has a recovery store and has published a log of more than a day. Some minutes of
trades come to the log, the flow is started again, and it is measured until a reader holds a
row of a tick that was not published before: wall time from the start of the process, and the
CPU-seconds of the whole process by then, imports and all. Then it is killed with -9, and the
next turn begins.
"""

import time
from contextlib import closing
from typing import Any

import psutil  # type: ignore[import-untyped]
from confluent_kafka import Consumer, TopicPartition

from benchmarks.components import Components, Topic
from benchmarks.turns import SHARDS, Run, say
from tests.real.flows import FlowProcess

__all__ = ["resume"]

_MORE_S = 600
_WAIT_S = 120.0


def resume(servers: Components, topic: Topic, output: str, repeat: int) -> list[Run]:
    """Runs of the flow that has written `output` from `topic`; the topic grows."""
    runs = []
    for turn in range(repeat):
        topic = servers.extend(topic, topic.load.trades + round(_MORE_S * topic.load.rate))
        runs.append(_resume(servers, topic, output))
        say(f"resume {turn + 1}: {runs[-1]}")
    return runs


def _resume(servers: Components, topic: Topic, output: str) -> Run:
    kafka = servers.kafka
    config = {
        "bootstrap.servers": kafka.bootstrap,
        "group.id": "resume",
        "enable.auto.commit": False,
        "isolation.level": "read_committed",
        "fetch.wait.max.ms": 10,
    }
    with closing(Consumer(config)) as reader:
        ends = kafka.end_offsets(output)
        reader.assign([TopicPartition(output, p, end) for p, end in enumerate(ends)])
        reader.poll(0)
        started = time.perf_counter()
        flow = FlowProcess(
            "dataflows.statistics",
            log=servers.directory / "resume.log",
            env={
                "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap,
                "DATABASE_URL": "off",
                "INPUT_TOPIC": topic.name,
                "OUTPUT_TOPIC": output,
                "SHARDS": str(SHARDS),
            },
            recovery_dir=servers.directory / f"recovery-{output}",
        )
        try:
            message = reader.poll(_WAIT_S)
            wall_s = time.perf_counter() - started
            used = psutil.Process(flow.pid).cpu_times()
            if message is None or message.error() is not None:
                raise RuntimeError(f"No row after {wall_s:.0f} s: {flow.output()}")
        finally:
            flow.kill9()
    found: dict[str, Any] = {"wall_s": wall_s, "user_s": used.user, "system_s": used.system}
    return found | {"cpu_s": used.user + used.system, "log_trades": topic.load.trades}
