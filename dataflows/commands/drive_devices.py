"""Produce events of devices: `python -m dataflows.commands.drive_devices`.

At each step a random one of device-1 to device-N tells something that happens now: with equal
chances that it woke up, that all data are sent, and twice as often a measurement of pressure,
temperature, wind or humidity, from 0 to below 1. Topic, pace and number are options; the
brokers are KAFKA_BOOTSTRAP_SERVERS. With SCHEMA_REGISTRY_URL values carry its wire format.
Ctrl-C ends it; what was produced by then is delivered.
"""

import argparse
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import repeat

import numpy as np

from dataflows.commands.driver import Produced, drive
from dataflows.settings import FlowSettings
from schemas.avro_registry import avro_header
from sources.devices import Devices

__all__ = ["main"]

_FULL_SPEED = 1_000  # events in one go


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit status."""
    options = _options(arguments)

    def prepare(settings: FlowSettings) -> Callable[[int, int], Iterable[Produced]]:
        registry = settings.registry
        prefix = avro_header(registry, [options.topic], "devices.avsc") if registry else b""
        make = Devices(options.devices, 1, options.seed, prefix)

        def events(before: int, count: int) -> Iterable[Produced]:
            now_ms = time.time_ns() // 1_000_000
            made = make(0, np.arange(before, before + count), np.full(count, now_ms))
            assert made.keys is not None  # noqa: S101  # devices have names
            return zip(made.keys.to_pylist(), made.values.to_pylist(), repeat(now_ms))

        return events

    return drive(
        options.topic,
        "events",
        prepare,
        size=lambda: 1 if options.rate else _FULL_SPEED,
        pause_s=1 / options.rate if options.rate else 0,
        upto=options.events,
    )


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


if __name__ == "__main__":
    raise SystemExit(main())
