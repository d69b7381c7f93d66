"""Gauges that are read from live objects when somebody asks: until then they cost nothing.

Contract: an object is watched until it is let go of, by `forget` or by the garbage collector,
and then leaves no series behind. Watching and reading may happen in different threads.
"""

import threading
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from typing_extensions import override

__all__ = ["LiveGauges", "Reading"]

Owner = TypeVar("Owner")


class Reading(NamedTuple):
    """What an object shows.

    Attributes:
        labels: values, in the order of the gauges' labels.
        values: by name of the gauge; None, or left out, for one that has nothing to show yet.
    """

    labels: tuple[str, ...]
    values: Mapping[str, float | None]


class LiveGauges(Collector):
    """Gauges with the same labels, of objects of one kind.

    Args:
        gauges: descriptions by name.
        labels: names.
        registry: where they are served from.
    """

    def __init__(
        self,
        gauges: Mapping[str, str],
        labels: Sequence[str],
        registry: CollectorRegistry = REGISTRY,
    ) -> None:
        self.labels = tuple(labels)
        self._gauges = dict(gauges)
        self._lock = threading.Lock()
        self._watched: weakref.WeakKeyDictionary[Any, Callable[[Any], Reading | None]]
        self._watched = weakref.WeakKeyDictionary()
        registry.register(self)

    def watch(self, owner: Owner, read: Callable[[Owner], Reading | None]) -> None:
        """Show an object from now on.

        Args:
            owner: the object.
            read: called with it in any thread, quick and without waiting; None for nothing to
                show. Must not hold on to the object itself.
        """
        with self._lock:
            self._watched[owner] = read

    def forget(self, owner: object) -> None:
        """Show an object no more; harmless for one that is not watched."""
        with self._lock:
            self._watched.pop(owner, None)

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """The gauges, without values."""
        return self._families().values()

    @override
    def collect(self) -> Iterable[GaugeMetricFamily]:
        families = self._families()
        with self._lock:
            watched = list(self._watched.items())
        # By labels: where a successor has come before its predecessor is gone, it counts.
        readings = dict(filter(None, (read(owner) for owner, read in watched)))
        for labels, values in readings.items():
            for name, value in values.items():
                if value is not None:
                    families[name].add_metric(labels, value)
        return families.values()

    def _families(self) -> dict[str, GaugeMetricFamily]:
        return {
            name: GaugeMetricFamily(name, text, labels=self.labels)
            for name, text in self._gauges.items()
        }
