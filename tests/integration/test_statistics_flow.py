"""The statistics flow on real Kafka and real PostgreSQL against the oracle."""

import pickle
import shutil
from pathlib import Path

import pytest

from operators.rolling import RollingState
from schemas.murmur2 import partition_of
from schemas.stream import NEVER
from sources.partitioned import ReplayState
from tests import candles_io as io
from tests import flow_io
from tests import statistics_io as sio
from tests.oracle import T
from tests.real.kafka_client import Kafka
from tests.rolling_oracle import Rolling, arrivals

FLOW = "dataflows.statistics"
SECOND = 1_000
POISON = [None, b"\xff\xff\xff", b"", b"\x0a\x01A"]
REASONS = ["no_value", "undecodable", "missing_instrument", "missing_timestamp"]


def produce_with_poison(kafka: Kafka, topic: str, logs: list[list[T]]) -> list[list[int]]:
    """Offsets of the trades by partition; a bad record before every hundredth."""
    out = []
    for partition, log in enumerate(logs):
        mixed: list[tuple[bytes | None, bytes | None, int]] = []
        offsets = []
        for i, t in enumerate(log):
            if i % 100 == 0:
                mixed.append((b"A", POISON[i // 100 % 4], t.time))
            offsets.append(len(mixed))
            mixed.append((t.key.encode(), io.message(t), t.time))
        kafka.produce(topic, partition, mixed)
        out.append(offsets)
    return out


@pytest.mark.parametrize(
    ("rule", "unset"),
    [
        (Rolling(20 * SECOND), ["STATISTICS_PANE_S", "STATISTICS_TICK_S", "STATISTICS_QUIET_S"]),
        (Rolling(120 * SECOND, 5 * SECOND, 15 * SECOND, 30 * SECOND, 0, 20 * SECOND), []),
        (Rolling(10 * SECOND, SECOND, SECOND, SECOND, 5 * SECOND), []),
    ],
    ids=["defaults", "ticks of three panes", "rows of the silent"],
)
def test_output_equals_the_oracle_in_both_sinks(
    rule: Rolling, unset: list[str], kafka: Kafka, topic: str, postgres_url: str, tmp_path: Path
) -> None:
    logs = sio.random_log(rule.window, 3_000)
    kafka.create_topic(topic, len(logs))
    offsets = produce_with_poison(kafka, topic, logs)
    env = sio.settings(kafka, topic, postgres_url, rule)
    env = {name: text for name, text in env.items() if name not in unset}
    flow_io.finish(FLOW, tmp_path, env)
    name = {20: "statistics_20s", 120: "statistics_2m", 10: "statistics_10s"}[rule.window // 1_000]
    rows = sio.published(kafka, f"{topic}-out")
    assert rows == sio.expected(sio.records(logs), rule)
    assert sio.stored(postgres_url, name) == sio.final(rows)
    assert any(row["trade_count"] == 0 for part in rows for row in part), "some window emptied"

    # Every record is applied, late or rejected; what is applied is in the rows.
    late = [
        [offsets[p][a.place[1]] for a in arrivals(p, log, sio.with_limit(rule)) if a.tick is None]
        for p, log in enumerate(sio.records(logs))
    ]
    found = kafka.read(f"{topic}-out.late")
    assert [[int(dict(r.headers)["offset"]) for r in part] for part in found] == late
    assert io.count(postgres_url, "late") == sum(map(len, late)) > 0
    rejected = kafka.read(f"{topic}-out.rejected")
    for p, log in enumerate(logs):
        headers = [dict(r.headers) for r in rejected[p]]
        bad = [0] if not log else range(0, len(log), 100)
        assert [int(h["offset"]) for h in headers] == [offsets[p][i] - 1 for i in bad]
        assert [h["reason"].decode() for h in headers] == [REASONS[i // 100 % 4] for i in bad]
    assert io.count(postgres_url, "rejected") == sum(map(len, rejected)) > 0

    if unset:  # and again, without any recovery store: nothing is written twice
        flow_io.finish(FLOW, tmp_path, env, workers=2, name="again")
        assert sio.published(kafka, f"{topic}-out") == rows
        assert sio.stored(postgres_url, name) == sio.final(rows)


def test_a_growing_log_on_one_worker_two_workers_and_two_processes(
    kafka: Kafka, topic: str, postgres_url: str, tmp_path: Path
) -> None:
    """Before the last run the recovery store is lost."""
    rule = Rolling(20 * SECOND)
    logs = sio.random_log(2, 3_000)
    kafka.create_topic(topic, len(logs) + 1)  # one partition stays empty
    env = sio.settings(kafka, topic, postgres_url, rule)
    recovery = tmp_path / "recovery"
    # Partitions end far apart in event time, and at other places of it each time.
    shares = [(0.3, 0.2, 0.4), (0.6, 0.7, 0.5), (0.8, 0.9, 0.95), (1, 1, 1)]
    done = [0] * len(logs)
    rows: list[list[dict]] = [[] for _ in range(io.SHARDS)]
    for step, (workers, processes) in enumerate([(1, 1), (2, 1), (1, 2), (1, 1)]):
        upto = [int(len(log) * share) for log, share in zip(logs, shares[step], strict=True)]
        io.produce(kafka, topic, [log[a:b] for log, a, b in zip(logs, done, upto, strict=True)])
        done = upto
        if step == 3:
            shutil.rmtree(recovery)
        flow_io.finish(
            FLOW, tmp_path, env, workers=workers, processes=processes, recovery=recovery,
            name=str(step),
        )  # fmt: skip
        so_far = sio.records([*(log[:n] for log, n in zip(logs, done, strict=True)), []])
        rows = sio.going_on(rows, sio.expected(so_far, rule))
        assert sio.published(kafka, f"{topic}-out") == rows, f"run {step}"
        # The recovery store holds places and ticks, and no windows.
        states = sio.snapshots(recovery)
        assert {ReplayState, RollingState} <= set(map(type, states))
        assert max(len(pickle.dumps(state)) for state in states) < 500
    assert sio.stored(postgres_url, "statistics_20s") == sio.final(rows)


def test_a_process_without_a_shard_is_told_nothing_and_reads_more_again(
    kafka: Kafka, topic: str, tmp_path: Path
) -> None:
    rule = Rolling(20 * SECOND)
    logs = sio.random_log(4, 1_500)
    kafka.create_topic(topic, len(logs))
    env = sio.settings(kafka, topic, "off", rule, SHARDS="1")
    rows: list[list[dict]] = [[]]
    for share in (0.6, 1):
        parts = [log[: int(len(log) * share)] for log in logs]
        done = kafka.end_offsets(topic)
        io.produce(kafka, topic, [part[n:] for part, n in zip(parts, done, strict=True)])
        flow_io.finish(
            FLOW, tmp_path, env, processes=2, recovery=tmp_path / "recovery", name=str(share)
        )
        rows = sio.going_on(rows, sio.expected(sio.records(parts), rule, shards=1))
        assert sio.published(kafka, f"{topic}-out") == rows
        places = [s for s in sio.snapshots(tmp_path / "recovery") if isinstance(s, ReplayState)]
        assert any(s.emitted_ms == NEVER and s.start.offset == 0 < s.reached for s in places)


def test_what_a_finite_run_flushes_is_not_what_every_shard_has_emitted(
    kafka: Kafka, topic: str, tmp_path: Path
) -> None:
    """The silent one's only trade lies far before what the busy one's shard emits in the end."""
    rule = Rolling(20 * SECOND, quiet=5 * SECOND)
    slow, silent, busy = "I0", "I1", "I4"
    assert len({partition_of(key.encode(), io.SHARDS) for key in (slow, silent, busy)}) == 3
    base = io.BASE_MS
    held_up = [T(base + i * SECOND, slow, 5, 5) for i in range(40)]
    ahead = [T(base + 8 * SECOND, silent, 5, 5)]
    ahead += [T(base + 9 * SECOND + i * 40, busy, 5, 5) for i in range(2_200)]
    kafka.create_topic(topic, 2)
    env = sio.settings(kafka, topic, "off", rule)
    rows: list[list[dict]] = [[] for _ in range(io.SHARDS)]
    for first, last in ((0, 10), (10, 40)):
        io.produce(kafka, topic, [held_up[first:last], [] if first else ahead])
        flow_io.finish(FLOW, tmp_path, env, recovery=tmp_path / "recovery", name=str(first))
        rows = sio.going_on(rows, sio.expected(sio.records([held_up[:last], ahead]), rule))
        assert sio.published(kafka, f"{topic}-out") == rows
    assert any(
        row["trade_count"] == 0 and row["instrument"] == silent for part in rows for row in part
    )
