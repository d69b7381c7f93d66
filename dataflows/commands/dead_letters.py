"""Dead letters: list the rejected records of a flow, look at one, send some again.

    python -m dataflows.commands.dead_letters list candles.1m.rejected
    python -m dataflows.commands.dead_letters show candles.1m.rejected 0:17
    python -m dataflows.commands.dead_letters replay candles.1m.rejected --reason undecodable

Exit status: 0 done, 1 nothing matched, 2 it could not be done.
"""

import argparse
import itertools
import json
import sys
from collections.abc import Callable, Iterator, Sequence

from dataflows.connections import ConnectionSettings
from dataflows.process import kafka_config
from schemas.errors import FlowError
from sinks.kafka_topics import TopicSpec, create_topics
from sources.dead_letters import DeadLetter, Place, marks_topic, read_letters, replay

__all__ = ["main"]

_DONE, _NOTHING, _FAILED = 0, 1, 2
_SHOWN_BYTES = 60
_LINE_BYTES = 16


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit status."""
    options = _options(arguments)
    try:
        return _COMMANDS[options.command](options)
    except FlowError as error:
        sys.stderr.write(f"error: {error}\n")
        return _FAILED


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m dataflows.commands.dead_letters",
        description="List, show and replay the records that a flow has rejected.",
        epilog="The brokers are KAFKA_BOOTSTRAP_SERVERS, as for the flows. Exit status: 0 done, "
        "1 nothing matched, 2 it could not be done.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    listing = commands.add_parser("list", help="one line for each")
    showing = commands.add_parser("show", help="all of one record")
    replaying = commands.add_parser("replay", help="send them to where they came from, once each")
    for command in (listing, showing, replaying):
        command.add_argument("topic", help="such as candles.1m.rejected")
    showing.add_argument("place", type=_place, help="partition:offset in that topic")
    for command in (listing, replaying):
        command.add_argument("--reason", action="append", help="only these; may be repeated")
        command.add_argument("--from-topic", help="only those that came from this topic")
        command.add_argument("--limit", type=_positive, help="at most so many")
        command.add_argument(
            "--again", action="store_true", help="also those that were replayed before"
        )
    listing.add_argument("--json", action="store_true", help="a JSON object for each")
    replaying.add_argument(
        "--place",
        type=_place,
        action="append",
        help="only these, partition:offset; may be repeated",
    )
    replaying.add_argument("--dry-run", action="store_true", help="only say how many there are")
    return parser.parse_args(arguments)


def _place(text: str) -> Place:
    partition, _, offset = text.partition(":")
    if not (partition.isdecimal() and offset.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r} is not like 0:17, partition:offset")
    return Place(int(partition), int(offset))


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1")
    return int(text)


def _client_config() -> dict[str, str | int]:
    settings = ConnectionSettings.load()
    if settings.kafka_bootstrap_servers is None:
        raise FlowError(
            "KAFKA_BOOTSTRAP_SERVERS is not set",
            "Set it to the brokers. An embedded run has its rejected records in the table "
            "rejected only.",
        )
    return kafka_config(settings)


def _chosen(options: argparse.Namespace, config: dict[str, str | int]) -> Iterator[DeadLetter]:
    def is_wanted(letter: DeadLetter) -> bool:
        return (
            (options.reason is None or letter.reason in options.reason)
            and (options.from_topic is None or letter.topic == options.from_topic)
            and (options.again or letter.replayed is None)
            and (options.command == "list" or not options.place or letter.place in options.place)
        )

    letters = filter(is_wanted, read_letters(config, options.topic))
    return itertools.islice(letters, options.limit)


def _list(options: argparse.Namespace) -> int:
    n = 0
    for letter in _chosen(options, _client_config()):
        n += 1
        sys.stdout.write(f"{_as_json(letter) if options.json else _as_line(letter)}\n")
    return _DONE if n else _NOTHING


def _show(options: argparse.Namespace) -> int:
    letters = read_letters(_client_config(), options.topic)
    letter = next((one for one in letters if one.place == options.place), None)
    if letter is None:
        sys.stderr.write(f"There is no record {options.place} in {options.topic}.\n")
        return _NOTHING
    sys.stdout.write(
        f"place      {letter.place} of {options.topic}\n"
        f"came from  {letter.origin} of {letter.topic}\n"
        f"reason     {letter.reason}\n"
        f"time       {letter.time or 'none'}\n"
        f"replayed   {letter.replayed or 'no'}\n"
        f"key        {_shown(letter.key)}\n"
        f"value      {'none' if letter.value is None else f'{len(letter.value):,} bytes'}\n"
    )
    value = letter.value or b""
    for at in range(0, len(value), _LINE_BYTES):
        part = value[at : at + _LINE_BYTES]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)  # noqa: PLR2004  # ASCII
        sys.stdout.write(f"{at:8x}  {part.hex(' '):<{3 * _LINE_BYTES}} {text}\n")
    return _DONE


def _replay(options: argparse.Namespace) -> int:
    config = _client_config()
    letters = _chosen(options, config)
    if options.dry_run:
        n = sum(1 for _ in letters)
        sys.stdout.write(f"{n:,} records would be sent.\n")
        return _DONE if n else _NOTHING
    marks = TopicSpec(1, {"cleanup.policy": "compact"})
    first = next(letters, None)
    if first is None:
        sys.stdout.write("No record matches.\n")
        return _NOTHING
    create_topics(config, {marks_topic(options.topic): marks})
    n = replay(config, options.topic, itertools.chain([first], letters))
    sys.stdout.write(f"{n:,} records sent.\n")
    return _DONE


def _as_line(letter: DeadLetter) -> str:
    time = "-" if letter.time is None else f"{letter.time:%Y-%m-%d %H:%M:%S}"
    again = " (replayed)" if letter.replayed else ""
    return (
        f"{letter.place!s:>10}  {time:<19}  {letter.reason:<20}  "
        f"{letter.topic}/{letter.origin}{again}  {_shown(letter.value)}"
    )


def _as_json(letter: DeadLetter) -> str:
    return json.dumps(
        {
            "place": str(letter.place),
            "topic": letter.topic,
            "partition": letter.origin.partition,
            "offset": letter.origin.offset,
            "reason": letter.reason,
            "time": letter.time and letter.time.isoformat(),
            "key": letter.key and letter.key.hex(),
            "value": None if letter.value is None else letter.value.hex(),
            "replayed": letter.replayed and letter.replayed.isoformat(),
        }
    )


def _shown(data: bytes | None) -> str:
    if data is None:
        return "none"
    text = repr(data[:_SHOWN_BYTES])[2:-1]
    return text + ("…" if len(data) > _SHOWN_BYTES else "")


_COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "list": _list,
    "show": _show,
    "replay": _replay,
}

if __name__ == "__main__":
    raise SystemExit(main())
