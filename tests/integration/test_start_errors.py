"""What an operator can get wrong: one paragraph, the remedy, a non-zero exit, nothing written."""

from pathlib import Path

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import NewPartitions

from tests import candles_io as io
from tests.oracle import T
from tests.real.kafka_client import Kafka
from tests.real.process import free_port


def refused(directory: Path, env: dict[str, str], recovery: Path | None = None) -> str:
    """The one paragraph that a flow prints when it refuses to run."""
    name = f"refused-{len(list(directory.iterdir()))}"
    code, output = io.run(directory, env, recovery=recovery, name=name, timeout_s=60)
    assert code != 0, output
    paragraphs = [line for line in output.splitlines() if line.startswith("error: ")]
    assert len(paragraphs) == 1, output
    return paragraphs[0]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("INTERVALS", "2m"),
        ("INTERVALS", "1m,1m"),
        ("SHARDS", "0"),
        ("LATENESS_S", "-1"),
        ("STOP_AT_END", "perhaps"),
        ("METRICS_PORT", "99999"),
        ("OUTPUT_TOPIC", "no spaces"),
        ("INPUT_FORMAT", "xml"),
        ("DATABASE_URL", "mysql://somewhere"),
    ],
)
def test_a_wrong_setting_stops_at_start_with_its_name(
    tmp_path: Path, name: str, value: str
) -> None:
    message = refused(tmp_path, {name: value, "DATA_DIR": str(tmp_path / "data")})
    assert name in message
    assert not (tmp_path / "data").exists(), "nothing was written"


def test_an_unreachable_broker(tmp_path: Path, postgres_url: str) -> None:
    address = f"127.0.0.1:{free_port()}"
    env = {"KAFKA_BOOTSTRAP_SERVERS": address, "DATABASE_URL": postgres_url}
    message = refused(tmp_path, env)
    assert "KAFKA_BOOTSTRAP_SERVERS" in message
    assert address in message
    assert io.count(postgres_url, "flows") == 0


def test_a_missing_topic(kafka: Kafka, topic: str, postgres_url: str, tmp_path: Path) -> None:
    message = refused(tmp_path, io.settings(kafka, topic, postgres_url))
    assert topic in message
    assert "INPUT_TOPIC" in message
    assert kafka.topics(topic) == []
    assert io.count(postgres_url, "flows") == 0


def test_an_unreachable_database_hides_its_password(
    kafka: Kafka, topic: str, tmp_path: Path
) -> None:
    kafka.create_topic(topic, 1)
    url = f"postgresql://someone:secret-word@127.0.0.1:{free_port()}/nowhere"
    message = refused(tmp_path, io.settings(kafka, topic, url))
    assert "DATABASE_URL" in message
    assert "secret-word" not in message
    assert kafka.topics(topic) == [topic], "nothing was written"


def test_an_input_whose_partition_count_changed(
    kafka: Kafka, topic: str, postgres_url: str, tmp_path: Path
) -> None:
    logs = [[T(io.BASE_MS, "A", 10**8, 10**8, 0, 1)], []]
    kafka.create_topic(topic, 2)
    io.produce(kafka, topic, logs)
    env = io.settings(kafka, topic, postgres_url)
    assert io.run(tmp_path, env)[0] == 0
    before = io.table_rows(postgres_url)
    for future in kafka.admin.create_partitions([NewPartitions(topic, 3)]).values():
        future.result(30)
    message = refused(tmp_path, env)
    assert "input_partitions was 2 and is now 3" in message
    assert "FLOW_VERSION" in message
    message = refused(tmp_path, env | {"SHARDS": "4", "FLOW_VERSION": "2"})
    assert "has 8 partitions" in message
    assert io.table_rows(postgres_url) == before


def test_an_offset_no_longer_in_the_log(
    kafka: Kafka, topic: str, postgres_url: str, tmp_path: Path
) -> None:
    logs = [[T(io.BASE_MS + i, "A", 10**8, 10**8, 0, i + 1) for i in range(20)]]
    kafka.create_topic(topic, 1)
    io.produce(kafka, topic, logs)
    env = io.settings(kafka, topic, postgres_url)
    recovery = tmp_path / "recovery"
    assert io.run(tmp_path, env, recovery=recovery)[0] == 0
    published = io.kafka_rows(kafka, f"{topic}-out")
    io.produce(kafka, topic, logs)
    for future in kafka.admin.delete_records([TopicPartition(topic, 0, 30)]).values():
        future.result(30)
    message = refused(tmp_path, env, recovery)
    assert "Offset 20 of partition 0 is no longer in topic" in message
    assert "FLOW_VERSION" in message
    assert io.kafka_rows(kafka, f"{topic}-out") == published


def test_an_output_other_than_the_recovery_store_knows(
    kafka: Kafka, topic: str, postgres_url: str, tmp_path: Path
) -> None:
    logs = [[T(io.BASE_MS + i, "A", 10**8, 10**8, 0, i + 1) for i in range(20)]]
    kafka.create_topic(topic, 1)
    io.produce(kafka, topic, logs)
    env = io.settings(kafka, topic, postgres_url)
    recovery = tmp_path / "recovery"
    assert io.run(tmp_path, env, recovery=recovery)[0] == 0
    message = refused(tmp_path, env | {"OUTPUT_TOPIC": f"{topic}-other"}, recovery)
    assert "empty recovery directory" in message
    assert all(not part for part in kafka.read(f"{topic}-other"))


def test_an_input_that_is_an_output(kafka: Kafka, topic: str, tmp_path: Path) -> None:
    kafka.create_topic(f"{topic}.rejected", 1)
    env = io.settings(kafka, f"{topic}.rejected", "off", OUTPUT_TOPIC=topic)
    assert "INPUT_TOPIC" in refused(tmp_path, env)
