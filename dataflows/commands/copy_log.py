"""Copy a day of an input topic, to compute that day again: `python -m dataflows.commands.copy_log`.

    python -m dataflows.commands.copy_log trades trades.2026-11-28 --day 2026-11-28

The copy has what a flow needs for the day: the records before it, from which it learns how far
time has come and which windows are open, and those after it, by which the last windows close and
are corrected. Partitions, keys, values, headers and timestamps stay as they are. The topic is
made, or is there and empty. docs/operator.md says what to do with it.

Exit status: 0 done, 1 there are no records in that span, 2 it could not be done.
"""

import argparse
import sys
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

from dataflows.connections import ConnectionSettings
from dataflows.process import needed_kafka_config
from schemas.errors import FlowError
from sinks.kafka_topics import TopicSpec, create_topics
from sources.log_span import copy_span, partition_count

__all__ = ["main"]

_DONE, _NOTHING, _FAILED = 0, 1, 2
_KEPT = {
    # As the records' own times demand; see the topics of the flows.
    "retention.ms": "-1",
    "message.timestamp.type": "CreateTime",
    "message.timestamp.after.max.ms": str(2**63 - 1),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit status."""
    options = _options(arguments)
    begin, end = options.begin, options.end
    if options.day is not None:
        begin = datetime(options.day.year, options.day.month, options.day.day, tzinfo=UTC)
        end = begin + timedelta(days=1)
    begin_ms, end_ms = (round(one.timestamp() * 1000) for one in (begin, end))
    try:
        config = needed_kafka_config(ConnectionSettings.load())
        partitions = partition_count(config, options.topic)
        create_topics(config, {options.target: TopicSpec(partitions, _KEPT)})
        copied = copy_span(
            config,
            options.topic,
            options.target,
            begin_ms - round(options.before * 1000),
            end_ms + round(options.after * 1000),
        )
    except FlowError as error:
        sys.stderr.write(f"error: {error}\n")
        return _FAILED
    if copied.first_ms is None or copied.last_ms is None:
        sys.stdout.write(f"{options.topic} has no records of that time.\n")
        return _NOTHING
    times = (datetime.fromtimestamp(ms / 1000, UTC) for ms in (copied.first_ms, copied.last_ms))
    first, last = (f"{one:%Y-%m-%d %H:%M:%S}" for one in times)
    sys.stdout.write(
        f"{copied.records:,} records, timestamps from {first} to {last}, are in {options.target}.\n"
    )
    return _DONE


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m dataflows.commands.copy_log",
        description="Copy a span of a topic, by the records' timestamps, into another topic.",
        epilog="The brokers are KAFKA_BOOTSTRAP_SERVERS, as for the flows.",
    )
    add = parser.add_argument
    add("topic", help="what the flow reads, such as trades")
    add("target", help="made with as many partitions, or empty")
    add("--day", type=date.fromisoformat, help="a day in UTC, such as 2026-11-28")
    add("--from", dest="begin", type=_moment, help="instead of a day: 2026-11-28T12:00Z")
    add("--to", dest="end", type=_moment, help="up to before this moment")
    add("--before", type=float, default=3_600, help="seconds before it to copy too")
    add("--after", type=float, default=900, help="and after it; more than CORRECTION_S")
    options = parser.parse_args(arguments)
    has_span = options.begin is not None and options.end is not None
    if (options.day is None) != has_span or (has_span and options.begin >= options.end):
        parser.error("name either --day, or --from and a later --to")
    if options.before < 0 or options.after < 0:
        parser.error("--before and --after must be 0 or more")
    if options.topic == options.target:
        parser.error("a topic cannot be copied into itself")
    return options


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


if __name__ == "__main__":
    raise SystemExit(main())
