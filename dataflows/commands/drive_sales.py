"""Produce sales in bursts: `python -m dataflows.commands.drive_sales`.

Each burst is a random number of sales of the sellers LNK, OMA, KC and DEN, of 100 to 999 US
dollars each, that happen now; between two bursts it pauses. Topic, pace and number are
options; the brokers are KAFKA_BOOTSTRAP_SERVERS. Ctrl-C ends it; what was produced by then is
delivered.
"""

import argparse
import random
import time
from collections.abc import Iterable, Sequence

import numpy as np

from dataflows.commands.driver import Produced, drive
from sources.sales import Sales

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit status."""
    options = _options(arguments)
    chance = random.Random(options.seed)  # noqa: S311  # a simulation
    make = Sales(options.seed)

    def sales(before: int, count: int) -> Iterable[Produced]:
        now_ms = time.time_ns() // 1_000_000
        made = make(0, np.arange(before, before + count), np.full(count, now_ms))
        return [(None, value, now_ms) for value in made.values.to_pylist()]

    return drive(
        options.topic,
        "sales",
        lambda _: sales,
        size=lambda: chance.randint(1, options.burst),
        pause_s=options.pause,
        upto=options.sales,
    )


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


if __name__ == "__main__":
    raise SystemExit(main())
