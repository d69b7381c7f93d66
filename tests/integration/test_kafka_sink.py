"""The Kafka sink writes each row once, as it is, and nothing that does not belong."""

import threading
import time

import pytest
from confluent_kafka import Producer

from schemas.errors import FlowError
from tests.integration.kafka_rows import PARTITIONS, T0_MS, Route, Setup, item, progress, values
from tests.real.kafka_client import Kafka
from tests.real.process import HOST, free_port

pytestmark = pytest.mark.kafka


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


def test_opening_waits_until_open_transactions_are_decided(kafka: Kafka, setup: Setup) -> None:
    first = setup.partition()
    first.write_batch([item([1])])
    first.snapshot()
    # Of another version, say; until it is decided, a reader sees nothing that lies behind.
    other = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": setup.topic})
    other.init_transactions(30)
    other.begin_transaction()
    other.produce(setup.progress_topic, b"{}", b"2/results-00", 0)
    other.flush(30)
    first.write_batch([item([2])])
    first.close()
    timer = threading.Timer(1, other.abort_transaction, (30,))
    timer.start()
    second = setup.partition()
    second.write_batch([item([1, 2, 3])])
    second.close()
    timer.join()
    assert values(kafka, setup.topic)[0] == [1, 2, 3]


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
