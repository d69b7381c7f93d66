"""What the commands that produce records have in common: broker, pace, delivery, exit status."""

import sys
import time
from collections.abc import Callable, Iterable

from confluent_kafka import KafkaException, Producer

from dataflows.process import needed_kafka_config
from dataflows.settings import FlowSettings
from schemas.errors import FlowError
from sinks.kafka_topics import ensure_topic, producer_config

__all__ = ["Produced", "drive"]

_DONE, _FAILED = 0, 2
_FLUSH_S = 60.0
_PARTITIONS = 4

Produced = tuple[bytes | None, bytes, int]
"""Key, value and timestamp in ms of a record."""


def drive(
    topic: str,
    what: str,
    prepare: Callable[[FlowSettings], Callable[[int, int], Iterable[Produced]]],
    *,
    size: Callable[[], int],
    pause_s: float,
    upto: int | None,
) -> int:
    """Produce batches until there are enough, or Ctrl-C; the exit status.

    Args:
        topic: where to; made with 4 partitions when missing.
        what: the records' name, in the plural, for messages.
        prepare: makes, of the settings, what makes the records of a batch: of the number of
            those before, and of how many are wanted. They happen now.
        size: of the next batch.
        pause_s: between two batches; 0 for full speed.
        upto: end after so many; None for no end.
    """
    try:
        sent = _drive(topic, what, prepare, size, pause_s, upto)
    except FlowError as error:
        sys.stderr.write(f"error: {error}\n")
        return _FAILED
    sys.stdout.write(f"{sent:,} {what} sent to {topic}.\n")
    return _DONE


def _drive(
    topic: str,
    what: str,
    prepare: Callable[[FlowSettings], Callable[[int, int], Iterable[Produced]]],
    size: Callable[[], int],
    pause_s: float,
    upto: int | None,
) -> int:
    settings = FlowSettings.load()
    config = needed_kafka_config(settings)
    ensure_topic(config, topic, _PARTITIONS)
    make = prepare(settings)
    producer = Producer({**producer_config(config), "linger.ms": 20})
    sent = 0
    try:
        while upto is None or sent < upto:
            count = size() if upto is None else min(size(), upto - sent)
            for record in make(sent, count):
                _produce(producer, topic, record)
            sent += count
            producer.poll(0)
            time.sleep(pause_s)
    except KeyboardInterrupt:
        pass
    except KafkaException as error:
        raise FlowError(
            f"Kafka refuses one of the {what} ({error.args[0].str()})", "See its log."
        ) from error
    left = producer.flush(_FLUSH_S)
    if left:
        raise FlowError(
            f"{left:,} {what} were not delivered in {_FLUSH_S:.0f} s", "Look at the brokers."
        )
    return sent


def _produce(producer: Producer, topic: str, record: Produced) -> None:
    key, value, time_ms = record
    while True:
        try:
            producer.produce(topic, value, key, timestamp=time_ms)
        except BufferError:  # the client's queue is full: let it send
            producer.poll(0.1)
        else:
            return
