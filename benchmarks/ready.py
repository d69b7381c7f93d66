"""From the start of a container to the first event: `python -m benchmarks.ready`.

Each start is that of the image: its script, an empty recovery store, kernels for any processor
copied from where the image keeps them, and nothing else to write to. Counted from the moment at
which the script begins, until the flow

* serves its metrics, which is what the probes ask for;
* has read and decoded its first records, by its own counter, asked every 20 ms;
* has published a first row that a `read_committed` consumer sees.

Flows take turns. `warm`: files are in the page cache. `first`: the kernel was told to forget the
environment's files, as on a node that has just fetched the image. `no kernels`: the kernels are
compiled at the start, what an image without them would do; once, and of one flow.

The image is what `make image-size` leaves: packages, kernels, our files, as the Dockerfile makes
them. With `--native` it is the checkout with its own environment and kernels, which says nothing
about the image and needs no making.
"""

import argparse
import os
import re
import statistics
import sys
import time
import urllib.request
import uuid
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import psutil  # type: ignore[import-untyped]
from confluent_kafka import Consumer, TopicPartition

from benchmarks.components import OPENED_AT_MS, ROOT, Components, Filled, Load, components
from benchmarks.machine import describe, sentence
from benchmarks.turns import SHARDS, Run, Runs, keep, say
from sources.devices import Devices
from sources.sales import Sales
from sources.simulated import Maker, SimulatedLog
from tests.real.process import Child, free_port

__all__ = ["main"]

_FLOWS = ("candles", "statistics", "ewma", "sessions", "sellers")
_EVENTS_S = 300  # of event time, for some row to be due
_PARTITIONS = 4
_LIMIT_S = 300.0
_COUNTED = re.compile(rb"^tidemark_source_records_total\{.*\} ([0-9.e+]+)$", re.MULTILINE)


class _Image(NamedTuple):
    """What stands for the image.

    Attributes:
        bin: programs of its environment.
        script: which the container starts.
        kernels: compiled for any processor; None for the checkout's own.
    """

    bin: Path
    script: Path
    kernels: Path | None

    @classmethod
    def made(cls, directory: Path) -> "_Image":
        """What `docker/size` has left there."""
        directory = directory.resolve()
        if not (directory / "kernels").is_dir():
            raise SystemExit(f"error: {directory} holds no image; make image-size makes it.")
        return cls(
            directory / "venv" / "bin", directory / "app" / "docker" / "flow", directory / "kernels"
        )

    @property
    def env(self) -> dict[str, str]:
        """What the image sets."""
        env = {
            "PATH": f"{self.bin}{os.pathsep}{os.environ['PATH']}",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        if self.kernels is not None:
            env |= {"KERNELS": str(self.kernels), "NUMBA_CPU_NAME": "generic"}
        return env

    def forget(self) -> None:
        """Have the kernel drop what it holds of the files; it keeps what somebody has mapped."""
        os.sync()
        for place in filter(None, (self.bin.parent, self.kernels)):
            for path in place.rglob("*"):
                if path.is_file() and not path.is_symlink():
                    handle = os.open(path, os.O_RDONLY)
                    os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
                    os.close(handle)


def main() -> None:
    """Measure, write results, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--flows", nargs="*", default=_FLOWS)
    parser.add_argument("--rate", type=int, default=200, help="events per second of event time")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--image", type=Path, default=ROOT / ".cache" / "image")
    parser.add_argument("--native", action="store_true", help="take the checkout instead")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results")
    options = parser.parse_args()
    own = _Image(Path(sys.prefix) / "bin", ROOT / "docker" / "flow", None)
    image = own if options.native else _Image.made(options.image)
    with components() as servers:
        machine = describe(servers.postgres.url)
        logs = {flow: _fill(servers, flow, options.rate) for flow in options.flows}
        say("records are there")
        for flow in options.flows:  # the broker makes its internal topics, bytecode is written
            _start(servers, image, flow, logs[flow])
        runs: Runs = {}
        states = ("warm",) if options.native else ("warm", "first")
        for turn in range(options.repeat):
            for flow in options.flows:
                for state in states:
                    if state == "first":
                        image.forget()
                    run = _start(servers, image, flow, logs[flow])
                    runs.setdefault(f"{flow}, {state}", []).append(run)
                    say(f"turn {turn + 1}, {flow}, {state}: {run}")
        if image.kernels is not None:
            bare = image._replace(kernels=servers.directory / "none")
            (servers.directory / "none").mkdir()
            flow = options.flows[0]
            runs[f"{flow}, no kernels"] = [_start(servers, bare, flow, logs[flow])]
    result = {"machine": machine, "rate": options.rate, "runs": runs}
    keep(options.output, "ready", result, _markdown(result))


def _fill(servers: Components, flow: str, rate: int) -> Filled:
    if flow not in ("sessions", "sellers"):
        return servers.fill(Load(rate * _EVENTS_S, partitions=_PARTITIONS, rate=rate))
    made: Maker = (
        Devices(1_000, _PARTITIONS, 1)
        if flow == "sessions"
        else Sales(1, [f"seller-{number}" for number in range(100)])
    )
    log = SimulatedLog(
        "ready", made, OPENED_AT_MS, partitions=_PARTITIONS, rate=rate, records=rate * _EVENTS_S
    )
    return servers.copy(log)


def _start(servers: Components, image: _Image, flow: str, log: Filled) -> Run:
    """One start, until all that is waited for has come; then it is killed."""
    kafka, output = servers.kafka, f"out-{uuid.uuid4().hex[:8]}"
    kafka.create_topic(output, SHARDS, {"retention.ms": "-1"})
    url = servers.new_database()
    volume = servers.directory / output
    volume.mkdir()
    port = free_port()
    env = {
        **image.env,
        "HOME": str(volume),
        "TMPDIR": str(volume),
        "RECOVERY_ROOT": str(volume / "recovery"),
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap,
        "DATABASE_URL": url,
        "INPUT_TOPIC": log.name,
        "OUTPUT_TOPIC": output,
        "METRICS_PORT": str(port),
    }
    found: Run = {}
    with closing(Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": output})) as reader:
        reader.assign([TopicPartition(output, p, 0) for p in range(SHARDS)])
        reader.poll(0)
        began = time.perf_counter()
        child = Child([str(image.script), flow], log=volume / "flow.log", env=env)
        try:
            wanted = {"metrics_s", "event_s"} | ({"row_s"} if flow != "statistics" else set())
            while not wanted <= set(found):
                at_s = time.perf_counter() - began
                if child.returncode is not None or at_s > _LIMIT_S:
                    raise RuntimeError(
                        f"{flow} has only {found} after {at_s:.0f} s; {child.tail()}"
                    )
                message = reader.poll(0.02)
                if message is not None and message.error() is None:
                    found.setdefault("row_s", time.perf_counter() - began)
                counted = _counted(port) if "event_s" not in found else None
                if counted is not None:
                    found.setdefault("metrics_s", time.perf_counter() - began)
                if counted:
                    found["event_s"] = time.perf_counter() - began
            used = psutil.Process(child.pid).cpu_times()
            found["cpu_s"] = used.user + used.system
        finally:
            child.kill()
    kafka.delete_topics(output)
    return found


def _counted(port: int) -> float | None:
    """Records read so far; None while nobody answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            return sum(float(count) for count in _COUNTED.findall(answer.read()))
    except OSError:
        return None


def _markdown(result: dict[str, Run]) -> str:
    lines = [
        "# From the start of a container to the first event",
        "",
        (
            "Seconds from the start of the image's script, with an empty recovery store, until the "
            "flow serves its metrics, until it has read its first records, and until a first row "
            "can be read from Kafka; and its CPU-seconds by then. Medians, and in brackets the "
            "longest."
        ),
        "",
        "| flow, state | starts | metrics s | first event s | first row s | CPU s |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for name, runs in result["runs"].items():
        cells = [
            _cell([run[key] for run in runs if key in run])
            for key in ("metrics_s", "event_s", "row_s", "cpu_s")
        ]
        lines.append(f"| {name} | {len(runs)} | {' | '.join(cells)} |")
    lines += [
        "",
        (
            "`warm`: files in the page cache; `first`: not; `no kernels`: compiled at the start. "
            "Statistics publish nothing before their window of a day was read."
        ),
    ]
    return "\n".join([*lines, "", sentence(result["machine"]), ""])


def _cell(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):.1f} ({max(seconds):.1f})" if seconds else ""


if __name__ == "__main__":
    main()
