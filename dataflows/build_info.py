"""What runs here, as metrics that always are 1."""

import platform
from importlib.metadata import version

import confluent_kafka
from prometheus_client import Gauge, disable_created_metrics

__all__ = ["VERSION", "announce"]

VERSION = "0.1.0"
"""That of `pyproject.toml`, which an image does not have."""

_BUILD = Gauge(
    "tidemark_build_info",
    "Versions of the product and of what it is built on.",
    ["version", "python", "bytewax", "librdkafka"],
)
_FLOW = Gauge("tidemark_flow_info", "The flow of this process.", ["flow", "flow_version"])


def announce(flow: str, flow_version: str) -> None:
    """Say what runs in this process.

    Args:
        flow: name.
        flow_version: `FLOW_VERSION`.
    """
    # Twice the series, for what a restart shows as well.
    disable_created_metrics()  # type: ignore[no-untyped-call]
    _BUILD.labels(
        VERSION,
        platform.python_version(),
        version("bytewax"),
        confluent_kafka.libversion()[0],
    ).set(1)
    _FLOW.labels(flow, flow_version).set(1)
