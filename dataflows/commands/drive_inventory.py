"""Make load on a PostgreSQL as an application does that keeps vehicles and engines.

Creates the tables when missing, then creates, updates, moves and deletes, at an even pace, until
Ctrl-C. Run it: `python -m dataflows.commands.drive_inventory --url postgresql://…`.
"""

import argparse
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import closing

import psycopg

from dataflows.vehicles_settings import VehiclesSettings
from schemas.errors import FlowError
from sources import stopping
from sources.inventory_driver import InventoryDriver

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit status."""
    options = _options(arguments)
    stopping.install()
    started_s = time.monotonic()
    done = changed = 0

    def count(transactions: int, changes: int) -> None:
        nonlocal done, changed
        done, changed = transactions, changes

    try:
        driver = InventoryDriver(
            options.url or _source_url(),
            seed=options.seed,
            rate=None if options.full_speed else options.rate,
            size=options.size,
        )
        with closing(driver):
            driver.run(stopping.requested, transactions=options.transactions, report=count)
    except (FlowError, psycopg.Error) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    span_s = time.monotonic() - started_s
    sys.stdout.write(
        f"{done:,} transactions, {changed:,} changes in {span_s:.1f} s "
        f"({changed / max(span_s, 1e-9):,.0f} changes/s)\n"
    )
    return 0


def _source_url() -> str:
    url = VehiclesSettings.load().source_database_url
    if url is None:
        raise FlowError(
            "Neither SOURCE_DATABASE_URL nor --url says where", "Set one of them to a libpq URL."
        )
    return url


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m dataflows.commands.drive_inventory",
        description="Make load on a PostgreSQL: vehicles and engines come, change and go.",
    )
    parser.add_argument(
        "--url",
        help="libpq URL of the database; left out: SOURCE_DATABASE_URL, which no list of "
        "processes shows",
    )
    parser.add_argument("--rate", type=float, default=20.0, help="transactions per second")
    parser.add_argument("--full-speed", action="store_true", help="as many as the server takes")
    parser.add_argument("--seed", type=int, default=1, help="of the choices")
    parser.add_argument("--size", type=int, default=1_000, help="vehicles, about")
    parser.add_argument("--transactions", type=int, help="stop after so many")
    options = parser.parse_args(arguments)
    if options.rate <= 0 or options.size < 1:
        parser.error("--rate and --size must be positive")
    return options


if __name__ == "__main__":
    sys.exit(main())
