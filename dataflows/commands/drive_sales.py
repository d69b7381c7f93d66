"""Produce sales in bursts: `python -m dataflows.commands.drive_sales`.

Each burst is a random number of sales of the sellers LNK, OMA, KC and DEN, of 100 to 999 US
dollars each, that happen now; between two bursts it pauses. Topic, pace and number are
options; the brokers are KAFKA_BOOTSTRAP_SERVERS. Ctrl-C ends it; what was produced by then is
delivered.
"""

import argparse
import random
import sys
import time
from collections.abc import Sequence

import numpy as np
from confluent_kafka import KafkaException, Producer

from dataflows.settings import FlowSettings
from schemas.errors import FlowError
from sinks.kafka_topics import ensure_topic, producer_config
from sources.sales import Sales

__all__ = ["main"]

_DONE, _FAILED = 0, 2
_FLUSH_S = 60.0
_PARTITIONS = 4


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit status."""
    options = _options(arguments)
    try:
        sent = _drive(options)
    except FlowError as error:
        sys.stderr.write(f"error: {error}\n")
        return _FAILED
    sys.stdout.write(f"{sent:,} sales sent to {options.topic}.\n")
    return _DONE


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m dataflows.commands.drive_sales", description="Produce sales in bursts."
    )
    add = parser.add_argument
    add("--topic", default="sales-usd", help="made with 4 partitions when missing")
    add("--burst", type=int, default=20, help="sales in the largest burst")
    add("--pause", type=float, default=1.0, help="seconds between two bursts; 0 for full speed")
    add("--sales", type=int, help="end after so many")
    add("--seed", type=int, default=1, help="of sellers, amounts and bursts")
    options = parser.parse_args(arguments)
    if options.burst < 1 or options.pause < 0 or (options.sales is not None and options.sales < 1):
        parser.error("--burst and --sales must be 1 or more, --pause 0 or more")
    return options


def _drive(options: argparse.Namespace) -> int:
    servers = FlowSettings.load().kafka_bootstrap_servers
    if servers is None:
        raise FlowError("KAFKA_BOOTSTRAP_SERVERS is not set", "Set it to the brokers.")
    config = {"bootstrap.servers": servers}
    ensure_topic(config, options.topic, _PARTITIONS)
    producer = Producer({**producer_config(config), "linger.ms": 20})
    chance = random.Random(options.seed)  # noqa: S311  # a simulation
    make = Sales(options.seed)
    sent = 0
    try:
        while options.sales is None or sent < options.sales:
            size = chance.randint(1, options.burst)
            if options.sales is not None:
                size = min(size, options.sales - sent)
            now_ms = np.full(size, time.time_ns() // 1_000_000)
            for value in make(0, np.arange(sent, sent + size), now_ms).values.to_pylist():
                _produce(producer, options.topic, value)
            sent += size
            producer.poll(0)
            time.sleep(options.pause)
    except KeyboardInterrupt:
        pass
    except KafkaException as error:
        raise FlowError(f"Kafka refuses a sale ({error.args[0].str()})", "See its log.") from error
    left = producer.flush(_FLUSH_S)
    if left:
        raise FlowError(
            f"{left:,} sales were not delivered in {_FLUSH_S:.0f} s", "Look at the brokers."
        )
    return sent


def _produce(producer: Producer, topic: str, value: bytes) -> None:
    while True:
        try:
            producer.produce(topic, value)
        except BufferError:  # the client's queue is full: let it send
            producer.poll(0.1)
        else:
            return


if __name__ == "__main__":
    raise SystemExit(main())
