"""Sessions of many devices, from Kafka to Kafka: `python -m benchmarks.sessions`.

The flow reads a log of device events, publishes every event again under its session and a row
per session, exactly once and without a database; in turn with `consume(10000)` and counting.
In a run before, with a snapshot every second, its resident memory and the size of its recovery
store are sampled while it reads: what they are in the middle and at the end tells whether
sessions that have ended are gone. Events that are not in the output make a run void.
"""

import argparse
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.components import (
    OPENED_AT_MS,
    ROOT,
    Components,
    Filled,
    components,
    count_records,
)
from benchmarks.machine import describe, sentence
from benchmarks.turns import (
    Run,
    keep,
    measure,
    medians,
    new_output,
    say,
    table,
    take_turns,
)
from sources.devices import Devices
from sources.simulated import SimulatedLog

__all__ = ["main"]

_PARTITIONS = 4
_RAW, _FLOW = "raw", "sessions"
_WATCHED = {"flow": "sessions", "epoch_s": 1}


def main() -> None:
    """Measure, write results, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=3_000_000)
    parser.add_argument("--devices", type=int, default=100_000)
    parser.add_argument("--rate", type=float, default=100_000, help="events per second, event time")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results")
    options = parser.parse_args()
    log = SimulatedLog(
        "events",
        Devices(options.devices, _PARTITIONS, 1),
        OPENED_AT_MS,
        partitions=_PARTITIONS,
        rate=options.rate,
        records=options.events,
    )
    with components() as servers:
        machine = describe()
        topic = servers.copy(log)
        say(f"{options.events:,} events are there")
        # The first run also has the broker make its internal topics and warm its code up.
        watched = _measure(servers, "flow_watched", topic, _WATCHED)
        say(f"watched: {watched}")
        measures: dict[str, Callable[[], Run]] = {
            _RAW: lambda: measure(servers, "raw", topic, ""),
            _FLOW: lambda: _measure(servers, "flow", topic, {"flow": "sessions"}),
        }
        runs = take_turns(list(measures), options.repeat, lambda name: measures[name]())
    result = {
        "machine": machine,
        "topic": asdict(topic),
        "devices": options.devices,
        "rate": options.rate,
        "medians": medians(runs),
        "runs": runs,
        "watched": watched,
    }
    keep(options.output, "sessions", result, _markdown(result))


def _measure(servers: Components, contender: str, topic: Filled, given: dict[str, Any]) -> Run:
    output, kafka = new_output(), servers.kafka
    run = measure(servers, contender, topic, output, given=given)
    again, late = count_records(kafka, f"{output}.events"), count_records(kafka, f"{output}.late")
    if again + late != sum(topic.sizes):
        raise RuntimeError(f"{again} + {late} late of {sum(topic.sizes)} events")
    run |= {"sessions": count_records(kafka, output), "late": late}
    kafka.delete_topics(output)
    return run


def _markdown(result: dict[str, Any]) -> str:
    found, watched = result["medians"][_FLOW], result["watched"]
    events = sum(result["topic"]["sizes"])
    lines = [
        "# Sessions",
        "",
        (
            f"{events:,} events of {result['devices']:,} devices, {result['rate']:,.0f} events/s "
            f"of event time, every event published again, {found['sessions']:,.0f} sessions, "
            f"{found['late']:,.0f} late; Kafka to Kafka, exactly once. One worker, median of "
            f"{len(result['runs'][_FLOW])}."
        ),
        "",
        *table(result["runs"], _RAW),
        "",
        "One run with a snapshot every second:",
        "",
        "| | middle of the run | end |",
        "|---|--:|--:|",
    ]
    lines += [
        f"| {text}, MiB | {watched[f'{name}_middle']:,.1f} | {watched[f'{name}_end']:,.1f} |"
        for name, text in (("rss_mb", "resident memory"), ("store_mb", "recovery store"))
    ]
    return "\n".join([*lines, "", sentence(result["machine"]), ""])


if __name__ == "__main__":
    main()
