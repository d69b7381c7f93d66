"""The progress topic: how far each lane of a Kafka output has been written.

A record is written in the same transaction as the rows it counts:

    key    <version>/<lane>        value  {"position": <int64>}
    key    <version>/fingerprint   value  the settings that define the output

The topic is compacted, and sink partition n writes to its partition n alone. Were one
partition shared, an open transaction of a dead process would hide the committed records
behind it (a `read_committed` reader stops at the first open transaction), and only its
own successor could end it, which starts second.
"""

import json
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import OffsetSpec

from schemas.errors import FlowError
from schemas.kafka_cluster import REACH_S
from schemas.stream import FlowIdentity
from sinks.fingerprint import fingerprint_json
from sinks.kafka_topics import ClientConfig, TopicSpec, admin_client

__all__ = [
    "TRANSACTION_TIMEOUT_S",
    "Progress",
    "fingerprint_record",
    "position_record",
    "progress_spec",
    "read_progress",
]

TRANSACTION_TIMEOUT_S = 60
"""After this time the brokers abort a transaction whose process is gone for good."""

_LOGGER = logging.getLogger(__name__)
_AGAIN_S = 0.05
_NO_LEADER_YET = {
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.UNKNOWN_LEADER_EPOCH,
    KafkaError.FENCED_LEADER_EPOCH,
    KafkaError._NOENT,  # noqa: SLF001  # public name: the client found no leader to ask
    KafkaError.UNKNOWN_TOPIC_OR_PART,
}
_READ_S = TRANSACTION_TIMEOUT_S + 30.0
_FINGERPRINT = "fingerprint"


class Progress(NamedTuple):
    """What is stored for one version of a flow.

    Attributes:
        positions: Position of each lane.
        fingerprint: Settings the output was begun with; None before the first transaction.
    """

    positions: dict[str, int]
    fingerprint: dict[str, Any] | None


def progress_spec(partitions: int) -> TopicSpec:
    """The progress topic for a sink with so many partitions."""
    return TopicSpec(
        partitions,
        {
            "cleanup.policy": "compact",
            # Only closed segments are compacted, and a start reads the whole topic: keep
            # segments at the smallest size allowed, and compact as soon as one is closed.
            "segment.bytes": str(1024 * 1024),
            "min.cleanable.dirty.ratio": "0.01",
            # Markers of transactions outlive their records by this time: a day by default,
            # which at hundreds of transactions a second is gigabytes.
            "delete.retention.ms": str(10 * 60 * 1000),
        },
    )


def position_record(version: str, lane: str, position: int) -> tuple[bytes, bytes]:
    """Key and value that store a lane's position."""
    return f"{version}/{lane}".encode(), json.dumps({"position": position}).encode()


def fingerprint_record(identity: FlowIdentity) -> tuple[bytes, bytes]:
    """Key and value that store what defines the output."""
    return f"{identity.version}/{_FINGERPRINT}".encode(), fingerprint_json(identity).encode()


def read_progress(
    client_config: ClientConfig,
    topic: str,
    partitions: Sequence[int],
    version: str,
    *,
    decided: bool,
) -> Progress:
    """Read partitions of the progress topic from start to end, committed records only.

    Args:
        client_config: For reaching the brokers.
        topic: The progress topic; exists.
        partitions: Which partitions to read.
        version: Whose progress.
        decided: Whether to wait until every transaction open now is decided; without, the
            end is the first open one.

    Raises:
        FlowError: The end was not reached in time.
    """
    ends = _written_ends(client_config, topic, partitions) if decided else {}
    left = set(partitions)
    stored: dict[str, Any] = {}
    deadline_s = time.monotonic() + _READ_S
    consumer = Consumer(
        {
            **client_config,
            "group.id": f"{topic}.reader",  # required, and never joined
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
            "fetch.wait.max.ms": 10,  # the end is reported by an empty fetch
            "fetch.queue.backoff.ms": 5,
        },
        logger=_LOGGER,
    )
    try:
        # By number: to ask for the beginning takes the client half a second.
        consumer.assign([TopicPartition(topic, number, 0) for number in partitions])
        while left:
            for message in consumer.consume(1000, timeout=0.02):
                error = message.error()
                if error is None:
                    _store(stored, version, message.key(), message.value())
                # Offsets have holes (markers, compaction): only this event, never the last
                # record, tells where reading has got to.
                elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001  # public name
                    number, offset = message.partition(), message.offset()
                    if number is not None and offset is not None and offset >= ends.get(number, 0):
                        left.discard(number)
            if left and time.monotonic() > deadline_s:
                raise FlowError(
                    f"The end of topic {topic} was not reached in {_READ_S:.0f} s",
                    "Look at the state of the brokers and for transactions that hang, and "
                    "start the flow again.",
                )
    finally:
        consumer.close()
    fingerprint = stored.pop(_FINGERPRINT, None)
    return Progress({lane: value["position"] for lane, value in stored.items()}, fingerprint)


def _store(stored: dict[str, Any], version: str, key: bytes | None, value: bytes | None) -> None:
    if key is None or value is None:
        return
    owner, _, name = key.decode().rpartition("/")
    if owner == version:
        stored[name] = json.loads(value)


def _written_ends(
    client_config: ClientConfig, topic: str, partitions: Sequence[int]
) -> Mapping[int, int]:
    """End of each partition, undecided transactions included."""
    newest = OffsetSpec.latest()
    admin = admin_client(client_config)  # the answers come only while it is referred to
    deadline_s = time.monotonic() + REACH_S
    while True:
        futures = admin.list_offsets(
            {TopicPartition(topic, number): newest for number in partitions},
            isolation_level=IsolationLevel.READ_UNCOMMITTED,
            request_timeout=REACH_S,
        )
        try:
            return {
                key.partition: future.result(timeout=2 * REACH_S).offset
                for key, future in futures.items()
            }
        except (KafkaException, TimeoutError) as error:
            # A topic made a moment ago has leaders that do not know it yet.
            code = error.args[0].code() if isinstance(error, KafkaException) else None
            if code not in _NO_LEADER_YET or time.monotonic() > deadline_s:
                raise FlowError(
                    f"Kafka does not tell where topic {topic} ends ({error})",
                    "Look at the state of the brokers and start the flow again.",
                ) from error
            time.sleep(_AGAIN_S)
