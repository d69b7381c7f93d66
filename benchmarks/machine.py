"""Where and when something was measured, for the reader of a result."""

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import psutil  # type: ignore[import-untyped]
import psycopg
from confluent_kafka import libversion

from tests.real.java import KAFKA_POM

__all__ = ["describe", "sentence"]

_PACKAGES = ("bytewax", "confluent-kafka", "numba", "numpy", "pyarrow", "ptars", "protobuf")


def describe(postgres_url: str | None = None) -> dict[str, Any]:
    """Date, machine, load and versions."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "system": f"{platform.system()} {platform.release()}",
        "load_average_at_start": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "kafka": _kafka_version(),
        "postgresql": None if postgres_url is None else _postgres_version(postgres_url),
        "librdkafka": libversion()[0],
        **{name: version(name) for name in _PACKAGES},
    }


def sentence(machine: dict[str, Any]) -> str:
    """The same in one paragraph."""
    versions = ", ".join(
        f"{name} {machine[name]}"
        for name in ("python", "kafka", "postgresql", "librdkafka", *_PACKAGES)
        if machine[name]
    )
    return (
        f"{machine['date'][:10]}, {machine['processor']}, {machine['cores']} cores shared by "
        f"broker, database and measured process, {machine['memory_gib']} GiB, "
        f"{machine['system']}, load average {machine['load_average_at_start']} at start. "
        f"Versions: {versions}."
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _kafka_version() -> str:
    space = {"m": "http://maven.apache.org/POM/4.0.0"}
    for dependency in ET.parse(KAFKA_POM).getroot().iterfind(".//m:dependency", space):
        if dependency.findtext("m:artifactId", "", space).startswith("kafka_"):
            return dependency.findtext("m:version", "", space)
    return "unknown"


def _postgres_version(url: str) -> str:
    with psycopg.connect(url) as connection:
        row = connection.execute("SHOW server_version").fetchone()
    return str(row[0]) if row else "unknown"
