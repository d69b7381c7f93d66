"""The exactly-once sink for Kafka: all topics of a flow, one transaction at a time.

A flow calls `prepare_kafka` once, before anything is written, and gives `kafka_sink` to
`op.output` for items `(lane, Output)`. Readers with `isolation.level=read_committed` see
each row once, in the lane's order.
"""

from collections.abc import Mapping

from schemas.stream import FlowIdentity
from sinks.fingerprint import check_fingerprint
from sinks.group_commit import ExactlyOnceSink
from sinks.kafka_progress import progress_spec, read_progress
from sinks.kafka_records import KafkaRecord, KafkaRoute
from sinks.kafka_topics import ClientConfig, TopicSpec, create_topics, existing_topics
from sinks.kafka_transactions import KafkaCommitter

__all__ = [
    "KafkaRecord",
    "KafkaRoute",
    "TopicSpec",
    "has_kafka_output",
    "kafka_sink",
    "prepare_kafka",
]


def kafka_sink(
    identity: FlowIdentity,
    routes: Mapping[str, KafkaRoute],
    *,
    client_config: ClientConfig,
    progress_topic: str,
    partitions: int = 2,
) -> ExactlyOnceSink:
    """A sink for items `(lane, Output)`.

    Args:
        identity: Whose progress; with `progress_topic` it names the transactional ids, so a second
            process of the same flow and version shuts out the first.
        routes: How each kind of output becomes records, by kind.
        client_config: librdkafka settings for reaching the brokers.
        progress_topic: Topic of the positions, see `sinks.kafka_progress`.
        partitions: Transactions on their way at a time; never changes for a progress topic.
    """
    return ExactlyOnceSink(
        lambda name: KafkaCommitter(identity, routes, client_config, progress_topic, name),
        partitions,
        flow=identity.name,
        sink="kafka",
    )


def prepare_kafka(
    identity: FlowIdentity,
    routes: Mapping[str, KafkaRoute],
    *,
    client_config: ClientConfig,
    progress_topic: str,
    partitions: int = 2,
    other_topics: Mapping[str, TopicSpec] | None = None,
) -> None:
    """Check that a flow may go on with its Kafka output, and create missing topics.

    All checks come before the first change. Several processes may prepare at a time.

    Args:
        identity: As for `kafka_sink`, like all but the last.
        routes: Their topics are created with the brokers' default replication.
        client_config: As above.
        progress_topic: As above.
        partitions: As above.
        other_topics: Further topics to create or check, such as those of previews.

    Raises:
        FlowError: The brokers cannot be reached (within 10 s), a topic has another
            partition count, or the output was begun with other settings.
    """
    topics = dict(other_topics or {})
    for route in routes.values():
        topics.update(route.topics)
    topics[progress_topic] = progress_spec(partitions)
    if progress_topic in existing_topics(client_config, topics):
        stored = read_progress(
            client_config, progress_topic, range(partitions), identity.version, decided=False
        )
        check_fingerprint(identity, stored.fingerprint)
    create_topics(client_config, topics)


def has_kafka_output(
    identity: FlowIdentity,
    *,
    client_config: ClientConfig,
    progress_topic: str,
    partitions: int = 2,
) -> bool:
    """Whether this version of the flow has ever written; arguments as of `prepare_kafka`."""
    stored = read_progress(
        client_config, progress_topic, range(partitions), identity.version, decided=False
    )
    return stored.fingerprint is not None
