"""The Kafka sink writes each row once, whatever happens to the broker or the process."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pytest
from confluent_kafka import Producer

from schemas import failpoints
from sinks.kafka import KafkaRecord
from tests.integration.kafka_rows import Route, Setup, item, values
from tests.real.kafka import KafkaBroker
from tests.real.kafka_client import Kafka

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.kafka


@pytest.fixture
def setup(kafka: Kafka, topic: str) -> Setup:
    setup = Setup(kafka.bootstrap, topic)
    setup.prepare()
    return setup


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


def test_clients_find_their_only_broker_again(kafka_broker: KafkaBroker, setup: Setup) -> None:
    """Some releases of the client lose it when it leaves the metadata before it stops."""
    config = {
        **setup.client_config,
        "topic.metadata.refresh.interval.ms": 10,  # one must meet the last moments of the broker
        "log_level": 0,
    }
    clients = [Producer(config) for _ in range(60)]
    for client in clients:
        client.produce(setup.topic, b"1")
    assert [client.flush(30) for client in clients] == [0] * len(clients)
    kafka_broker.restart()
    for client in clients:
        client.produce(setup.topic, b"2")
    deadline_s = time.monotonic() + 30
    left = [client.flush(max(deadline_s - time.monotonic(), 0.1)) for client in clients]
    for client in clients:
        client.purge()
    assert left == [0] * len(clients)


@dataclass
class InterruptedRoute(Route):
    """After its first record, lets the broker pause for two seconds, once."""

    broker: KafkaBroker
    paused: bool = False

    def records(self, rows: pa.RecordBatch) -> Iterable[KafkaRecord]:
        for record in super().records(rows):
            yield record
            if not self.paused:
                self.paused = True
                time.sleep(0.3)  # the record is sent, and its partition part of the transaction
                child = self.broker._child
                assert child is not None
                child.send(signal.SIGSTOP)
                threading.Timer(2, child.send, (signal.SIGCONT,)).start()


def test_a_transaction_that_fails_starts_over(
    kafka_broker: KafkaBroker, setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    points: list[str] = []
    monkeypatch.setattr(failpoints, "reached", points.append)
    setup.client_config["message.timeout.ms"] = 1000
    setup.routes["results"] = InterruptedRoute(setup.topic, kafka_broker)
    sink = setup.partition()
    for values_ in ([1, 2, 3], [4]):
        sink.write_batch([item(values_)])
        sink.snapshot()
    sink.close()
    assert points.count("kafka.before_write") == 3
    assert points.count("kafka.after_commit") == 2
    assert values(kafka_broker, setup.topic)[0] == [1, 2, 3, 4]


PROGRAM = """
import sys
sys.path.insert(0, ".")
from schemas import failpoints
from tests.integration.kafka_rows import Setup, item
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
