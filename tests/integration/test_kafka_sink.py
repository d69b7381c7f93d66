"""The Kafka sink writes each row once, whatever happens to the broker or the process."""

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from confluent_kafka import Producer

from schemas.errors import FlowError
from schemas.stream import FlowIdentity, Output
from sinks import failpoints
from sinks.group_commit import GroupCommitPartition
from sinks.kafka import KafkaRecord, TopicSpec, kafka_sink, prepare_kafka
from tests.real.kafka import KafkaBroker
from tests.real.kafka_client import Kafka
from tests.real.process import HOST, free_port

ROOT = Path(__file__).parents[2]
PARTITIONS = 3
T0_MS = 1_700_000_000_000

pytestmark = pytest.mark.kafka


@dataclass
class Route:
    """Rows are numbers; key, value and headers say which."""

    topic: str

    @property
    def topics(self) -> Mapping[str, TopicSpec]:
        return {self.topic: TopicSpec(PARTITIONS, {"retention.ms": "-1"})}

    def records(self, output: Output) -> Iterable[KafkaRecord]:
        for value in output.rows["value"].to_pylist():
            text = str(value).encode()
            headers = [("lane", output.lane.encode())] if value % 2 else None
            yield KafkaRecord(self.topic, b"k" + text, text, T0_MS + value, headers)


class Setup:
    """A flow whose topics all begin with `prefix`."""

    def __init__(self, bootstrap: str, prefix: str, *, version: str = "1", shards: int = 3) -> None:
        self.topic = f"{prefix}.out"
        self.progress_topic = f"{prefix}.progress"
        self.identity = FlowIdentity(prefix, version, {"shards": shards})
        self.routes = {"results": Route(self.topic), "late": Route(f"{prefix}.late")}
        self.client_config: dict[str, str | int] = {
            "bootstrap.servers": bootstrap,
            "reconnect.backoff.max.ms": 200,
        }

    def prepare(self, **more: int) -> None:
        prepare_kafka(
            self.identity,
            self.routes,
            client_config=self.client_config,
            progress_topic=self.progress_topic,
            **more,
        )

    def partition(self, name: str = "00") -> GroupCommitPartition:
        sink = kafka_sink(
            self.identity,
            self.routes,
            client_config=self.client_config,
            progress_topic=self.progress_topic,
        )
        return sink.build_part("out", name, None)


def item(values: Sequence[int], lane: int = 0, kind: str = "results") -> Output:
    """Rows whose value is their position."""
    positions = np.array(values, np.int64)
    rows = pa.record_batch({"value": positions})
    return Output(kind, lane, positions, int(positions[-1]), rows)


def values(kafka: Kafka, topic: str) -> list[list[int]]:
    return [[int(r.value or b"") for r in part] for part in kafka.read(topic)]


def progress(kafka: Kafka, setup: Setup) -> dict[str, object]:
    records = [r for part in kafka.read(setup.progress_topic) for r in part]
    return {(r.key or b"").decode(): json.loads(r.value or b"") for r in records}


@pytest.fixture
def setup(kafka: Kafka, topic: str) -> Setup:
    setup = Setup(kafka.bootstrap, topic)
    setup.prepare()
    return setup


def test_rows_positions_and_settings_are_stored(kafka: Kafka, setup: Setup) -> None:
    sink = setup.partition()
    sink.write_batch([item([1, 2]), item([7], lane=2), item([5], lane=1, kind="late")])
    sink.write_batch([item([3])])
    sink.snapshot()
    sink.close()
    assert values(kafka, setup.topic) == [[1, 2, 3], [], [7]]
    first, second, _ = kafka.read(setup.topic)[0]
    assert (first.key, first.timestamp_ms, first.headers) == (
        *(b"k1", T0_MS + 1),
        (("lane", b"results-00"),),
    )
    assert second.headers == ()
    assert values(kafka, f"{setup.identity.name}.late") == [[], [5], []]
    assert progress(kafka, setup) == {
        "1/fingerprint": {"shards": 3},
        "1/results-00": {"position": 3},
        "1/results-02": {"position": 7},
        "1/late-01": {"position": 5},
    }


def test_topics_are_created_as_wanted(kafka: Kafka, setup: Setup) -> None:
    assert kafka.partitions(setup.topic) == PARTITIONS
    assert kafka.topic_config(setup.topic)["retention.ms"] == "-1"
    assert kafka.partitions(setup.progress_topic) == 2
    config = kafka.topic_config(setup.progress_topic)
    assert config["cleanup.policy"] == "compact"
    assert int(config["segment.bytes"]) <= 2**20


def test_what_is_stored_is_dropped_after_reopening(kafka: Kafka, setup: Setup) -> None:
    first = setup.partition()
    for value in range(1, 31):  # each a transaction, and so a hole in the offsets
        first.write_batch([item([value])])
        first.snapshot()
    first.close()
    second = setup.partition()
    second.write_batch([item(range(1, 29)), item(range(29, 34))])
    second.close()
    assert values(kafka, setup.topic)[0] == list(range(1, 34))


def test_versions_have_their_own_progress(kafka: Kafka, setup: Setup, topic: str) -> None:
    for version in ("1", "2", "1/2"):
        other = Setup(kafka.bootstrap, topic, version=version)
        other.prepare()
        sink = other.partition()
        sink.write_batch([item([1, 2])])
        sink.close()
    assert values(kafka, setup.topic)[0] == [1, 2] * 3


def test_a_zombie_is_fenced(kafka: Kafka, setup: Setup) -> None:
    zombie = setup.partition()
    zombie.write_batch([item([1])])
    zombie.snapshot()
    successor = setup.partition()
    zombie.write_batch([item([2, 3])])
    with pytest.raises(FlowError, match="Another process has taken over"):
        zombie.snapshot()
    zombie.close()
    successor.write_batch([item([2])])
    successor.close()
    assert values(kafka, setup.topic)[0] == [1, 2]


def test_another_partitions_open_transaction_hides_no_progress(kafka: Kafka, setup: Setup) -> None:
    first = setup.partition("00")
    first.write_batch([item([1])])
    first.snapshot()
    dead = Producer(
        {"bootstrap.servers": kafka.bootstrap, "transactional.id": f"{setup.identity.flow_id}-01"}
    )
    dead.init_transactions(30)
    dead.begin_transaction()
    dead.produce(setup.progress_topic, b"{}", b"1/results-01", 1)
    dead.flush(30)
    first.write_batch([item([2])])
    first.close()
    begin_s = time.monotonic()
    second = setup.partition("00")
    second.write_batch([item([1, 2, 3])])
    second.close()
    assert time.monotonic() - begin_s < 10
    assert values(kafka, setup.topic)[0] == [1, 2, 3]
    dead.abort_transaction(30)


def test_other_settings_are_refused_before_anything_is_written(
    kafka: Kafka, setup: Setup, topic: str
) -> None:
    sink = setup.partition()
    sink.write_batch([item([1])])
    sink.close()
    changed = Setup(kafka.bootstrap, topic, shards=4)
    changed.routes["new"] = Route(f"{topic}.new")
    with pytest.raises(FlowError) as caught:
        changed.prepare()
    assert str(caught.value) == (
        f"The output of flow {topic}, version 1, was begun with other settings: shards was 3 and "
        "is now 4. Restore the old setting to go on with that output, or set a new FLOW_VERSION "
        "to begin another, and OUTPUT_TOPIC to keep the two apart."
    )
    assert f"{topic}.new" not in kafka.topics(topic)
    with pytest.raises(FlowError, match="shards was 3"):
        changed.partition()


def test_another_partition_count_is_refused(kafka: Kafka, setup: Setup, topic: str) -> None:
    with pytest.raises(FlowError, match=r"progress has 2 partitions, and this flow writes 3"):
        setup.prepare(partitions=3)
    kafka.create_topic(f"{topic}.other", 5)
    setup.routes["other"] = Route(f"{topic}.other")
    with pytest.raises(FlowError, match=r"other has 5 partitions.* SHARDS .*OUTPUT_TOPIC"):
        setup.prepare()


def test_unreachable_brokers_are_named(topic: str) -> None:
    setup = Setup(f"{HOST}:{free_port()}", topic)
    begin_s = time.monotonic()
    with pytest.raises(FlowError) as caught:
        setup.prepare()
    assert time.monotonic() - begin_s < 15
    address = setup.client_config["bootstrap.servers"]
    assert f"KAFKA_BOOTSTRAP_SERVERS={address}" in str(caught.value)
    assert "refused" in str(caught.value)


def test_a_record_that_the_topic_refuses_ends_the_run(kafka: Kafka, topic: str) -> None:
    setup = Setup(kafka.bootstrap, topic)
    kafka.create_topic(setup.topic, PARTITIONS, {"max.message.bytes": "200"})
    setup.prepare()
    setup.client_config["compression.type"] = "none"
    sink = setup.partition()
    sink.write_batch([item(range(1, 1000))])
    begin_s = time.monotonic()
    with pytest.raises(FlowError, match=r"Kafka refuses .*large"):
        sink.snapshot()
    assert time.monotonic() - begin_s < 20
    sink.close()
    assert values(kafka, setup.topic) == [[]] * PARTITIONS


def test_more_rows_than_the_client_queues(kafka: Kafka, setup: Setup) -> None:
    setup.client_config["queue.buffering.max.messages"] = 1000
    sink = setup.partition()
    sink.write_batch([item(range(20_000))])
    sink.close()
    assert values(kafka, setup.topic)[0] == list(range(20_000))


@pytest.mark.parametrize("stop", ["kill", "stop"])
def test_the_broker_restarts_under_load(kafka_broker: KafkaBroker, setup: Setup, stop: str) -> None:
    sink = setup.partition()
    written = [0]
    over = threading.Event()

    def load() -> None:
        while not over.wait(0.002):
            n = written[-1] + 2
            sink.write_batch([item([n - 1, n], lane=lane) for lane in range(2)])
            written.append(n)

    loading = threading.Thread(target=load)
    loading.start()
    time.sleep(0.7)
    getattr(kafka_broker, stop)()  # from this thread: a server dies with the one that started it
    time.sleep(0.3)
    kafka_broker.start()
    time.sleep(0.7)
    over.set()
    loading.join()
    sink.snapshot()
    sink.close()
    everything = list(range(1, written[-1] + 1))
    assert values(kafka_broker, setup.topic) == [everything, everything, []]


def test_a_transaction_that_fails_starts_over(
    kafka_broker: KafkaBroker, setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    points: list[str] = []
    monkeypatch.setattr(failpoints, "reached", points.append)
    setup.client_config["message.timeout.ms"] = 1000
    sink = setup.partition()
    sink.write_batch([item([1])])
    sink.snapshot()
    assert kafka_broker._child is not None
    kafka_broker._child.send(signal.SIGSTOP)  # as in a long pause of its garbage collector
    sink.write_batch([item([2, 3])])
    time.sleep(2)
    kafka_broker._child.send(signal.SIGCONT)
    sink.write_batch([item([4])])
    sink.snapshot()
    sink.close()
    assert points.count("kafka.before_write") > points.count("kafka.after_commit")
    assert values(kafka_broker, setup.topic)[0] == [1, 2, 3, 4]


PROGRAM = """
import sys
sys.path.insert(0, ".")
from sinks import failpoints
from tests.integration.test_kafka_sink import Setup, item
failpoints.configure(sys.argv[3])
sink = Setup(sys.argv[1], sys.argv[2]).partition()
for value in range(1, 8):
    sink.write_batch([item([value]), item([value], lane=1)])
    sink.snapshot()
sink.close()
"""


@pytest.mark.parametrize("point", ["before_write", "between_write_and_commit", "after_commit"])
def test_a_process_dies_at_a_bad_moment(kafka: Kafka, setup: Setup, topic: str, point: str) -> None:
    codes = []
    begin_s = time.monotonic()
    for spec in (f"kafka.{point}:1", f"kafka.{point}:3", ""):
        command = [sys.executable, "-c", PROGRAM, kafka.bootstrap, topic, spec]
        codes.append(subprocess.run(command, cwd=ROOT, timeout=60, check=False).returncode)
    assert codes == [-signal.SIGKILL, -signal.SIGKILL, 0]
    # The successor decides what was left open; it does not wait for it to time out.
    assert time.monotonic() - begin_s < 30
    assert values(kafka, setup.topic) == [list(range(1, 8)), list(range(1, 8)), []]
