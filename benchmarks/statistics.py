"""Rolling statistics of a day, from Kafka to Kafka: `python -m benchmarks.statistics`.

Five questions, each answered by things measured in turn, exactly once and without a database:

* Does the length of the window matter? The same log, of more than a day of event time, with
  windows of 24 hours and of one minute. Counted is what follows the first tick whose day is
  full, and nothing but `STATISTICS_WINDOW_S` differs: the same trades come in, and panes leave
  as fast as they come. The log is dense enough for nearly every instrument to trade each
  minute, so that the rows are nearly as many too; their numbers are told. Once with ticks of
  a second, as by default, where rows are most of the work, and once with ticks of a minute.
* Does its fullness? See `benchmarks.rolling_cost`.
* How much memory do a day of 5,000 instruments and panes of a second take? The most that the
  process had resident, with the log's real density: an instrument has panes for the seconds
  in which it trades.
* What does a restart cost, which reads a day again? See `benchmarks.resume`.
* What would the ordinary way be? Bytewax's own sliding windows, on as few trades as they can
  bear, see `benchmarks.builtin_windows`; rates are compared, though its log is sparser.

A run whose output topic does not hold every row that was emitted is no measurement.
"""

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import statistics_report
from benchmarks.components import (
    OPENED_AT_MS,
    ROOT,
    Components,
    Load,
    Topic,
    aggregated,
    components,
    count_records,
)
from benchmarks.machine import describe
from benchmarks.resume import resume
from benchmarks.rolling_cost import DAY_S
from benchmarks.turns import (
    SHARDS,
    Run,
    Runs,
    keep,
    measure,
    new_output,
    run_child,
    say,
    take_turns,
    warm_up,
)
from schemas.trades import TradeCodec

__all__ = ["main"]

_HOUR_S = 3_600
_LEAST_RATE = 0.001  # that the simulated market offers
_MARK_MS = OPENED_AT_MS + DAY_S * 1000
_WINDOWS = {
    "24 h": {},
    "1 min": {"STATISTICS_WINDOW_S": "60"},
    "24 h, tick 60 s": {"STATISTICS_TICK_S": "60"},
    "1 min, tick 60 s": {"STATISTICS_WINDOW_S": "60", "STATISTICS_TICK_S": "60"},
}
_EDGE_S = 2 * _HOUR_S
_EDGE_SHARE = 0.09  # of the fuller window's trades, so that a tenth of them leaves some over
_MANY = {"STATISTICS_TICK_S": "60", "STATISTICS_QUIET_S": "3600"}
_MANY_INSTRUMENTS = 5_000
_MANY_HOURS = 25
_BUILTIN_HOURS = 30
_BUILTIN = {"every 60 s": (60, 20, 1), "every 1 s": (1, 1, 40)}
"""How often windows begin, s; instruments; part of the trades that these can bear."""
_FOLDED = 0.98  # of the trades at least: few come too late for windows without corrections


def main() -> None:
    """Measure, write results, print the tables."""
    options = _options()
    with components() as servers:
        machine = describe()
        topic = servers.fill(_spread(options.trades, options.hours, options.instruments))
        say(f"{options.trades:,} trades are there")
        warm_up(servers)
        windows, output = _windows(servers, topic, options.repeat)
        result = {
            "machine": machine,
            "topic": asdict(topic),
            "windows": windows,
            "resume": resume(servers, topic, output, options.repeat),
            "fullness": _fullness(servers, options.window_trades, options.repeat),
            "many": _many(servers, options.many_trades),
            "builtin": _builtin(servers, options.builtin_trades, options.repeat),
        }
    keep(options.output, "statistics", result, statistics_report.markdown(result))


def _spread(trades: int, hours: float, instruments: int) -> Load:
    rate = max(trades / (hours * _HOUR_S), _LEAST_RATE)
    return Load(trades, instruments=instruments, rate=rate)


def _windows(servers: Components, topic: Topic, repeat: int) -> tuple[Runs, str]:
    """Runs of each window; the output topic of the last one with a day, which is kept."""
    kept = ""

    def run_one(name: str) -> Run:
        nonlocal kept
        output = new_output()
        given = {"flow": "statistics", "mark_ms": _MARK_MS}
        run = measure(servers, "flow", topic, output, given=given, env=_WINDOWS[name])
        written = count_records(servers.kafka, output)
        if written != run["all_rows"]:
            raise RuntimeError(f"{name}: {written} records of {run['all_rows']} rows")
        if name == "24 h":
            output, kept = kept, output
        if output:
            servers.kafka.delete_topics(output)
        return run

    return take_turns(list(_WINDOWS), repeat, run_one), kept


def _fullness(servers: Components, window_trades: int, repeat: int) -> Runs:
    """Runs of the operator with a tenth of so many trades in its windows, and with all."""
    edge_rate = _EDGE_SHARE * window_trades / _EDGE_S

    def run_one(name: str) -> Run:
        in_window = window_trades / (10 if name == "a tenth" else 1)
        middle_rate = (in_window - edge_rate * _EDGE_S) / (DAY_S - _EDGE_S)
        shards = {
            "instruments": 200,
            "edge_s": _EDGE_S,
            "edge_rate": edge_rate,
            "middle_rate": middle_rate,
        }
        return run_child(servers, "rolling_shards", {"shards": shards})

    return take_turns(["a tenth", "all"], repeat, run_one)


def _many(servers: Components, trades: int) -> dict[str, Any]:
    """One run with many instruments; memory is not a matter of turns."""
    load = _spread(trades, _MANY_HOURS, _MANY_INSTRUMENTS)
    topic, output = servers.fill(load), new_output()
    run = measure(servers, "flow", topic, output, given={"flow": "statistics"}, env=_MANY)
    servers.kafka.delete_topics(output)
    say(f"{_MANY_INSTRUMENTS:,} instruments: {run}")
    return {"topic": asdict(topic), "panes": _panes(load), "run": run}


def _panes(load: Load) -> int:
    """Panes of a second that the last day of a log fills."""
    market, codec = load.market(), TradeCodec()
    total = 0
    for partition in range(load.partitions):  # a key lies in one partition
        codes: dict[str, int] = {}
        found = [np.empty(0, np.int64)]
        fetcher = market.open(partition, None)
        while (fetched := fetcher.poll(100_000)) is not None:
            decoded = codec.decode(fetched.values)
            own = np.array([codes.setdefault(name, len(codes)) for name in decoded.key_names])
            seconds = decoded.event_time_ms // 1000
            found.append(np.unique(own[decoded.key_codes] * 2**40 + seconds))
        panes = np.unique(np.concatenate(found))
        seconds = panes % 2**40
        total += int(np.sum(seconds >= seconds.max(initial=0) + 1 - DAY_S))
    return total


def _builtin(servers: Components, trades: int, repeat: int) -> Runs:
    """Runs of Bytewax's own windows, each on a log that it can bear."""
    topics = {
        name: servers.fill(_spread(max(trades // part, 1), _BUILTIN_HOURS, instruments))
        for name, (_, instruments, part) in _BUILTIN.items()
    }

    def run_one(name: str) -> Run:
        tick_s, topic = _BUILTIN[name][0], topics[name]
        output = servers.kafka.create_topic(new_output(), SHARDS)
        given = {"window_s": DAY_S, "tick_s": tick_s}
        run = measure(servers, "builtin_rolling", topic, output, given=given)
        folded, rows = aggregated(servers.kafka, output)
        servers.kafka.delete_topics(output)
        if folded < _FOLDED * topic.load.trades * DAY_S / tick_s:
            raise RuntimeError(f"Built-in, {name}: trades were folded {folded} times")
        return run | {"rows": rows}

    return take_turns(list(_BUILTIN), repeat, run_one)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trades", type=int, default=5_000_000, help="in the log of --hours")
    parser.add_argument("--hours", type=float, default=30, help="event time; more than a day")
    parser.add_argument("--instruments", type=int, default=200, help="in that log")
    parser.add_argument("--window-trades", type=int, default=8_000_000, help="in a full window")
    parser.add_argument("--many-trades", type=int, default=10_000_000, help="of 5,000 instruments")
    parser.add_argument("--builtin-trades", type=int, default=2_000, help="for Bytewax's windows")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results")
    return parser.parse_args()


if __name__ == "__main__":
    main()
