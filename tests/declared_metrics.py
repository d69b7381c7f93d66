"""The metrics that the code declares, from the registry that flows serve."""

import importlib
import pkgutil
from typing import NamedTuple

from prometheus_client import REGISTRY
from prometheus_client.metrics import MetricWrapperBase

import dataflows
import operators
import schemas
import sinks
import sources
from schemas.live_gauges import LiveGauges

PREFIX = "tidemark_"


class Declared(NamedTuple):
    type: str
    labels: tuple[str, ...]


def declared_metrics() -> dict[str, Declared]:
    """By name as served, without the suffixes of a histogram's series."""
    for package in (schemas, operators, sources, sinks, dataflows):
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
    found = {}
    for collector in tuple(REGISTRY._collector_to_names):
        if isinstance(collector, LiveGauges):
            found |= {
                family.name: Declared(family.type, collector.labels)
                for family in collector.describe()
            }
        elif isinstance(collector, MetricWrapperBase):
            suffix = "_total" if collector._type == "counter" else ""
            found[collector._name + suffix] = Declared(
                collector._type, tuple(collector._labelnames)
            )
    return {name: declared for name, declared in found.items() if name.startswith(PREFIX)}


def series_names() -> set[str]:
    """Names of the series, as expressions name them."""
    names = set()
    for name, (kind, _) in declared_metrics().items():
        suffixes = ("_bucket", "_sum", "_count") if kind == "histogram" else ("",)
        names |= {name + suffix for suffix in suffixes}
    return names
