"""The topics a sink writes: created when missing, checked when not.

An output partition is a lane, so the partition count of an output topic defines the
output as much as a window's length does: a topic with another count is an error, never
something to adapt to.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, NewTopic

from schemas.errors import FlowError
from schemas.kafka_cluster import REACH_S, kafka_cluster

__all__ = [
    "ClientConfig",
    "TopicSpec",
    "admin_client",
    "create_topics",
    "ensure_topic",
    "existing_topics",
    "producer_config",
]

ClientConfig = Mapping[str, str | int | float | bool]
"""librdkafka settings for reaching the brokers: `bootstrap.servers`, security, and so on."""


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """How a topic is created, and what an existing one must match.

    Attributes:
        partitions: Number of partitions; an existing topic must have as many.
        config: Topic settings by name, for a new topic only.
    """

    partitions: int
    config: Mapping[str, str] = field(default_factory=dict)


def existing_topics(client_config: ClientConfig, topics: Mapping[str, TopicSpec]) -> set[str]:
    """Which of `topics` exist; changes nothing.

    Raises:
        FlowError: The brokers cannot be reached, or a topic has another partition count.
    """
    found = kafka_cluster(client_config).topics
    for name, spec in topics.items():
        if name in found and len(found[name].partitions) != spec.partitions:
            raise FlowError(
                f"Topic {name} has {len(found[name].partitions)} partitions, and this flow "
                f"writes {spec.partitions}",
                "Set SHARDS and the inputs as they were when the topic was created, or choose "
                "another OUTPUT_TOPIC together with a new FLOW_VERSION.",
            )
    return set(topics.keys() & found.keys())


def create_topics(client_config: ClientConfig, topics: Mapping[str, TopicSpec]) -> None:
    """Create those of `topics` that are missing, and wait until all are there.

    Several processes may do so at the same time.

    Raises:
        FlowError: As `existing_topics`; or a topic cannot be created.
    """
    missing = topics.keys() - existing_topics(client_config, topics)
    if not missing:
        return
    admin = admin_client(client_config)
    wanted = [
        NewTopic(
            name,
            num_partitions=topics[name].partitions,
            replication_factor=-1,  # the brokers' default
            config=dict(topics[name].config),
        )
        for name in sorted(missing)
    ]
    for name, future in admin.create_topics(wanted, operation_timeout=REACH_S).items():
        try:
            future.result(timeout=2 * REACH_S)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise FlowError(
                    f"Topic {name} cannot be created ({error.args[0].str()})",
                    f"Create it with {topics[name].partitions} partitions, or let the flow's "
                    "user create topics.",
                ) from error
    deadline_s = time.monotonic() + REACH_S
    while topics.keys() != existing_topics(client_config, topics):
        if time.monotonic() > deadline_s:
            raise FlowError(
                f"Topics {', '.join(sorted(missing))} were created but do not appear",
                "Look at the state of the brokers and start the flow again.",
            )
        time.sleep(0.05)


def ensure_topic(client_config: ClientConfig, topic: str, partitions: int) -> None:
    """Create a topic with so many partitions unless it exists, with whatever number.

    Raises:
        FlowError: As `create_topics`.
    """
    if topic not in kafka_cluster(client_config).topics:
        create_topics(client_config, {topic: TopicSpec(partitions)})


def admin_client(config: Mapping[str, Any]) -> AdminClient:
    """A client for questions; silent, since the caller tells what went wrong, once."""
    return AdminClient({**config, "log_level": 0})


def producer_config(client_config: ClientConfig) -> dict[str, Any]:
    """Settings every producer of the sinks shares; `client_config` may override them."""
    return {
        "compression.type": "lz4",
        "linger.ms": 1,
        "socket.nagle.disable": True,  # or small requests wait 40 ms for the other end's receipt
        "reconnect.backoff.max.ms": 1000,  # of 10 s, which would prolong every outage
        # Which size is too large is the topic's own setting, so let the brokers decide.
        "message.max.bytes": 64 * 1024 * 1024,
        **client_config,
        "enable.idempotence": True,
        # Where Java clients put a key, so that readers can join topics by partition.
        "partitioner": "murmur2_random",
    }
