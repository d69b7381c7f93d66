"""Produce events of devices: `python -m dataflows.commands.drive_devices`.

At each step a random one of device-1 to device-N tells something that happens now: with equal
chances that it woke up, that all data are sent, and twice as often a measurement of pressure,
temperature, wind or humidity, from 0 to below 1. Topic, pace and number are options; the
brokers are KAFKA_BOOTSTRAP_SERVERS. With SCHEMA_REGISTRY_URL values carry its wire format.
Ctrl-C ends it; what was produced by then is delivered.
"""

import argparse
import sys
import time
from collections.abc import Sequence

import numpy as np
from confluent_kafka import KafkaException, Producer

from dataflows.settings import FlowSettings
from schemas.avro_registry import avro_header
from schemas.errors import FlowError
from sinks.kafka_topics import ensure_topic, producer_config
from sources.devices import Devices

__all__ = ["main"]

_DONE, _FAILED = 0, 2
_FLUSH_S = 60.0
_PARTITIONS = 4
_FULL_SPEED = 1_000  # events in one go


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit status."""
    options = _options(arguments)
    try:
        sent = _drive(options)
    except FlowError as error:
        sys.stderr.write(f"error: {error}\n")
        return _FAILED
    sys.stdout.write(f"{sent:,} events sent to {options.topic}.\n")
    return _DONE


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m dataflows.commands.drive_devices", description="Produce device events."
    )
    add = parser.add_argument
    add("--topic", default="events", help="made with 4 partitions when missing")
    add("--devices", type=int, default=10, help="how many there are")
    add("--rate", type=float, default=3.0, help="events per second; 0 for full speed")
    add("--events", type=int, help="end after so many")
    add("--seed", type=int, default=1, help="of who tells what")
    options = parser.parse_args(arguments)
    if (
        options.devices < 1
        or options.rate < 0
        or (options.events is not None and options.events < 1)
    ):
        parser.error("--devices and --events must be 1 or more, --rate 0 or more")
    return options


def _drive(options: argparse.Namespace) -> int:
    settings = FlowSettings.load()
    servers, url = settings.kafka_bootstrap_servers, settings.schema_registry_url
    if servers is None:
        raise FlowError("KAFKA_BOOTSTRAP_SERVERS is not set", "Set it to the brokers.")
    config = {"bootstrap.servers": servers}
    ensure_topic(config, options.topic, _PARTITIONS)
    prefix = avro_header(url, [options.topic], "devices.avsc") if url else b""
    make = Devices(options.devices, 1, options.seed, prefix)
    producer = Producer({**producer_config(config), "linger.ms": 20})
    sent = 0
    try:
        while options.events is None or sent < options.events:
            size = 1 if options.rate else _FULL_SPEED
            if options.events is not None:
                size = min(size, options.events - sent)
            now_ms = time.time_ns() // 1_000_000
            made = make(0, np.arange(sent, sent + size), np.full(size, now_ms))
            assert made.keys is not None  # noqa: S101  # devices have names
            for key, value in zip(made.keys.to_pylist(), made.values.to_pylist(), strict=True):
                _produce(producer, options.topic, key, value, now_ms)
            sent += size
            producer.poll(0)
            if options.rate:
                time.sleep(1 / options.rate)
    except KeyboardInterrupt:
        pass
    except KafkaException as error:
        raise FlowError(
            f"Kafka refuses an event ({error.args[0].str()})", "See its log."
        ) from error
    left = producer.flush(_FLUSH_S)
    if left:
        raise FlowError(
            f"{left:,} events were not delivered in {_FLUSH_S:.0f} s", "Look at the brokers."
        )
    return sent


def _produce(producer: Producer, topic: str, key: bytes, value: bytes, now_ms: int) -> None:
    while True:
        try:
            producer.produce(topic, value, key, timestamp=now_ms)
        except BufferError:  # the client's queue is full: let it send
            producer.poll(0.1)
        else:
            return


if __name__ == "__main__":
    raise SystemExit(main())
