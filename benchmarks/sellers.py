"""Sales totals, from Kafka to Kafka: `python -m benchmarks.sellers`.

The flow reads JSON sales of many sellers and writes a row per seller and minute, exactly once,
to Kafka alone and to Kafka and PostgreSQL; in turn with `consume(10000)` and counting. Sales
that no row counts make the run void.
"""

import argparse
import json
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
    warm_up,
)
from sources.sales import Sales
from sources.simulated import SimulatedLog

__all__ = ["main"]

_PARTITIONS = 4
_RAW, _KAFKA, _TABLE = "raw", "Kafka alone", "Kafka and PostgreSQL"


def main() -> None:
    """Measure, write results, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sales", type=int, default=5_000_000)
    parser.add_argument("--sellers", type=int, default=250)
    parser.add_argument("--rate", type=float, default=10_000, help="sales per second, event time")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results")
    options = parser.parse_args()
    log = SimulatedLog(
        "sales",
        Sales(1, [f"seller-{1 + number}" for number in range(options.sellers)]),
        OPENED_AT_MS,
        partitions=_PARTITIONS,
        rate=options.rate,
        records=options.sales,
    )
    with components() as servers:
        machine = describe(servers.postgres.url)
        topic = servers.copy(log)
        say(f"{options.sales:,} sales are there")
        warm_up(servers)
        runs = take_turns(
            [_RAW, _KAFKA, _TABLE], options.repeat, lambda name: _measure(servers, name, topic)
        )
    result = {
        "machine": machine,
        "topic": asdict(topic),
        "sellers": options.sellers,
        "rate": options.rate,
        "medians": medians(runs),
        "runs": runs,
    }
    keep(options.output, "sellers", result, _markdown(result))


def _measure(servers: Components, name: str, topic: Filled) -> Run:
    if name == _RAW:
        return measure(servers, "raw", topic, "")
    output, kafka = new_output(), servers.kafka
    url = servers.new_database() if name == _TABLE else "off"
    run = measure(servers, "flow", topic, output, url=url, given={"flow": "sellers"})
    last: dict[tuple[str, str], int] = {}
    for partition in kafka.read(output):
        for record in partition:
            row = json.loads(record.value or b"")
            last[row["seller_id"], row["window_start"]] = row["sale_count"]
    late = count_records(kafka, f"{output}.late")
    if sum(last.values()) + late != sum(topic.sizes):
        raise RuntimeError(f"{sum(last.values())} + {late} late of {sum(topic.sizes)} sales")
    kafka.delete_topics(output)
    if name == _TABLE:
        servers.postgres.drop_database(url.rpartition("/")[2])
    return run | {"rows": len(last), "late": late}


def _markdown(result: dict[str, Any]) -> str:
    found, sales = result["medians"][_KAFKA], sum(result["topic"]["sizes"])
    lines = [
        "# Sales totals",
        "",
        (
            f"{sales:,} sales of {result['sellers']:,} sellers, {result['rate']:,.0f} sales/s of "
            f"event time, {found['rows']:,.0f} rows; from Kafka, exactly once. One worker, median "
            f"of {len(result['runs'][_KAFKA])}."
        ),
        "",
        *table(result["runs"], _RAW),
    ]
    return "\n".join([*lines, "", sentence(result["machine"]), ""])


if __name__ == "__main__":
    main()
