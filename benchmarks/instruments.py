"""Metrics in a measured process: taken away, or counted.

`silence` makes every instrument an empty call. `Counted` counts the calls of a run and times such
calls afterwards, so that their product says what they took of its CPU, however noisy the machine.
"""

import statistics
import time
from collections import Counter as Tally
from collections.abc import Callable
from typing import Any

from bytewax import _metrics
from prometheus_client import REGISTRY, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics import MetricWrapperBase

from schemas.live_gauges import LiveGauges

__all__ = ["Counted", "silence"]

_UPDATES = (
    (Counter, "inc"),
    (Gauge, "set"),
    (Histogram, "observe"),
    (MetricWrapperBase, "labels"),
    (LiveGauges, "watch"),
)
_CALLS = 20_000


def silence() -> None:
    """Let instruments do nothing."""
    for kind, name in _UPDATES:
        setattr(kind, name, lambda self, *_: self)


class Counted:
    """Counts calls of instruments from its making on."""

    def __init__(self) -> None:
        self._calls: Tally[str] = Tally()
        self._plain = {name: getattr(kind, name) for kind, name in _UPDATES}
        for kind, name in _UPDATES:
            setattr(kind, name, self._counting(name))
        self._scrapes_s: list[float] = []
        vars(_metrics)["generate_python_metrics"] = self._answer

    def _answer(self) -> str:
        """In place of Bytewax's own, which does the same."""
        began_s = time.thread_time()
        text = generate_latest(REGISTRY).decode()
        self._scrapes_s.append(time.thread_time() - began_s)
        return text

    def _counting(self, name: str) -> Callable[..., Any]:
        plain, calls = self._plain[name], self._calls

        def call(*given: Any) -> Any:  # noqa: ANN401  # whatever the instrument takes
            calls[name] += 1
            return plain(*given)

        return call

    def figures(self) -> dict[str, Any]:
        """Calls, CPU-seconds that they took, and those that an answer to a scrape took."""
        for kind, name in _UPDATES:
            setattr(kind, name, self._plain[name])
        labels = ["flow", "sink", "partition"]
        counter = Counter("tried_calls", "To time calls.", labels, registry=None)
        gauge = Gauge("tried_level", "The same.", labels, registry=None)
        histogram = Histogram("tried_seconds", "The same.", labels, registry=None)
        own = ("candles", "kafka", "00")
        child, level, took = counter.labels(*own), gauge.labels(*own), histogram.labels(*own)
        gauges = LiveGauges({"tried": "The same."}, labels)
        call_s = {
            "labels": _each_s(lambda: counter.labels(*own)),
            "inc": _each_s(lambda: child.inc(2)),
            "set": _each_s(lambda: level.set(2)),
            "observe": _each_s(lambda: took.observe(0.3)),
            "watch": _each_s(lambda: gauges.watch(self, lambda _: None)),
        }
        REGISTRY.unregister(gauges)
        return {
            "calls": self._calls.total(),
            "instruments_s": sum(n * call_s[name] for name, n in self._calls.items()),
            "scrape_s": statistics.median(self._scrapes_s) if self._scrapes_s else 0.0,
        }


def _each_s(call: Callable[[], object]) -> float:
    """CPU-seconds of a call, the lambda around it included."""
    began_s = time.process_time()
    for _ in range(_CALLS):
        call()
    return (time.process_time() - began_s) / _CALLS
