"""Throughput of the candles flow beside what it could be: `python -m benchmarks.throughput`.

Starts a broker and a PostgreSQL, fills a topic, and measures the contenders in turn, each
time in a fresh process, with a fresh database and fresh output topics. What was written is
read back and counted: a run that lost a trade is no measurement. Writes a JSON file with
every run, a Markdown table, and a plot where matplotlib is installed.
"""

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks import throughput_report
from benchmarks.components import ROOT, Components, Load, Topic, aggregated, components
from benchmarks.machine import describe
from benchmarks.turns import SHARDS, Run, measure, medians, new_output, say, take_turns
from tests.candles_io import count

__all__ = ["CONTENDERS", "Contender"]

_ABANDONED = 0.2  # by the built-in pair at most; its watermark follows the wall clock


@dataclass(frozen=True, slots=True)
class Contender:
    """One thing measured.

    Attributes:
        name: in results.
        run: contender of `benchmarks.measured`.
        what: for the reader.
        postgres: whether it writes there.
        small: whether it runs on the smaller topic.
    """

    name: str
    run: str
    what: str
    postgres: bool = False
    small: bool = False


CONTENDERS = (
    Contender("raw", "raw", "`consume(10000)` and count, one consumer of all partitions"),
    Contender("raw each", "raw_each", "`consume(10000)` and count, a consumer per partition"),
    Contender("flow", "flow", "the flow, exactly once, Kafka and PostgreSQL", postgres=True),
    Contender(
        "flow at least once",
        "at_least_once",
        "the same, at-least-once writes",
        postgres=True,
    ),
    Contender(
        "flow, stock client",
        "flow_stock",
        "the first one through confluent-kafka's message objects",
        postgres=True,
    ),
    Contender("flow, Kafka only", "flow", "the flow, exactly once, Kafka alone"),
    Contender("flow at least once, Kafka only", "at_least_once", "the same, at-least-once writes"),
    Contender("built-in", "builtin", "Bytewax's KafkaSource, fold_window, KafkaSink", small=True),
)


def main() -> None:
    """Measure, write results, print the table."""
    options = _options()
    chosen = {one.name: one for one in CONTENDERS if not options.only or one.name in options.only}
    with components() as servers:
        machine = describe(servers.postgres.url)
        topic = servers.fill(Load(options.trades, rate=options.rate))
        say(f"{options.trades:,} trades are there")
        small = servers.fill(Load(min(options.small, options.trades), rate=options.rate))
        # An uncounted run makes the broker's internal topics and warms its code up.
        _measure(servers, Contender("warm-up", "flow", "", postgres=True), small)
        runs = take_turns(
            list(chosen),
            options.repeat,
            lambda name: _measure(servers, chosen[name], small if chosen[name].small else topic),
        )
    result = {
        "machine": machine,
        "topic": asdict(topic),
        "small": asdict(small),
        "what": {one.name: one.what for one in chosen.values()},
        "medians": medians(runs),
        "runs": runs,
    }
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "throughput.json").write_text(json.dumps(result, indent=1) + "\n")
    throughput_report.write(options.output)


def _measure(servers: Components, one: Contender, topic: Topic) -> Run:
    output, url = new_output(), servers.new_database() if one.postgres else "off"
    if one.run == "builtin":
        servers.kafka.create_topic(output, SHARDS)
    run = measure(servers, one.run, topic, output, url=url)
    if not one.run.startswith("raw"):
        run |= _check(servers, one, topic.load.trades, output, url)
    if one.postgres:
        servers.postgres.drop_database(url.rpartition("/")[2])
    return run


def _check(
    servers: Components, one: Contender, events: int, output: str, url: str
) -> dict[str, int]:
    """Count what was written, and remove it."""
    trades, records = aggregated(servers.kafka, output)
    late = 0
    if one.run != "builtin":
        late = sum(servers.kafka.end_offsets(f"{output}.late"))
        if one.run != "at_least_once":
            late = sum(len(partition) for partition in servers.kafka.read(f"{output}.late"))
        if trades + late != events:
            raise RuntimeError(f"{one.name}: {trades} + {late} late of {events} trades")
        if one.postgres and count(url, "late") != late:
            raise RuntimeError(f"{one.name}: PostgreSQL has other late trades")
    elif trades < events * (1 - _ABANDONED):
        raise RuntimeError(f"{one.name}: {trades} of {events} trades")
    servers.kafka.delete_topics(output)
    return {"trades": trades, "late": late, "records": records}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trades", type=int, default=10_000_000)
    parser.add_argument("--small", type=int, default=1_000_000, help="trades for the built-in pair")
    parser.add_argument("--rate", type=float, default=10_000, help="trades per second, event time")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--only", nargs="*", choices=[one.name for one in CONTENDERS])
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results")
    return parser.parse_args()


if __name__ == "__main__":
    main()
