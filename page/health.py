"""The health of the flows, from their metrics; asked once a second.

A flow that does not answer is told as down, and so is the page itself while its source is
away; but for a while after the page's start, one that has not answered yet is starting. A
metric that a flow does not have is null.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import httpx
from prometheus_client.parser import text_string_to_metric_families

from page.hub import Hub
from page.kinds import health_row
from page.settings import MetricsSource

__all__ = ["Health"]

_EVERY_S = 1.0
_TIMEOUT_S = 2.0
_STARTING_S = 180.0

_RECORDS = "tidemark_source_records_total"
_LATE = "tidemark_late_records_total"
_REJECTED = "tidemark_source_rejected_total"
_WATERMARK_LAG = "tidemark_source_watermark_lag_seconds"
_CONSUMER_LAG = "tidemark_source_consumer_lag_records"

Samples = Mapping[str, Mapping[str, Sequence[float]]]
"""Values by flow and name of the sample."""


class Health:
    """Publishes a row per flow, and one of the page's own source, until it is cancelled.

    Args:
        sources: where the metrics are.
        hub: where rows go.
        starting_s: for how long, from now on, flows may be starting.
    """

    def __init__(
        self, sources: Sequence[MetricsSource], hub: Hub, *, starting_s: float = _STARTING_S
    ) -> None:
        self._sources = sources
        self._hub = hub
        self._started_by_s = time.monotonic() + starting_s
        self._answered: set[str] = set()
        self._problem: str | None = "starting"
        self._flows: dict[str, set[str]] = {one.url: set() for one in sources}
        self._before: dict[tuple[str, str], tuple[float, float]] = {}

    def report(self, problem: str | None) -> None:
        """Say what is wrong with the page's source; None: nothing."""
        if problem != self._problem:
            self._problem = problem
            self._tell_own()

    @property
    def problem(self) -> str | None:
        """What is wrong with the page's source."""
        return self._problem

    async def run(self) -> None:
        """Ask, publish, wait; for ever."""
        async with httpx.AsyncClient(timeout=_TIMEOUT_S, trust_env=False) as http:
            while True:
                started_s = time.monotonic()
                await self.ask(http)
                await asyncio.sleep(max(0.1, _EVERY_S - (time.monotonic() - started_s)))

    async def ask(self, http: httpx.AsyncClient) -> None:
        """Ask all once, and publish."""
        self._tell_own()
        await asyncio.gather(*(self._ask(http, one) for one in self._sources))

    def _tell_own(self) -> None:
        values = {"flow": "page", "url": None, "up": self._problem is None, "starting": False}
        self._hub.publish([health_row({**values, "error": self._problem, **_checked()})])

    async def _ask(self, http: httpx.AsyncClient, source: MetricsSource) -> None:
        url = source.url
        try:
            response = await http.get(url)
            response.raise_for_status()
            samples = _samples(response.text)
        except (httpx.HTTPError, ValueError) as error:
            starting = url not in self._answered and time.monotonic() < self._started_by_s
            told = {"up": False, "starting": starting, "error": _reason(error)}
            for flow in self._flows[url] or {source.name}:
                values = {"flow": flow, "url": _shown(url), **told}
                self._hub.publish([health_row({**_NOTHING, **values, **_checked()})])
            return
        self._answered.add(url)
        known = self._flows[url]
        if not samples:  # it is up, and has read nothing yet
            samples = {flow: {} for flow in known or {source.name}}
        known.update(samples)
        rows = [
            health_row({"flow": flow, "url": _shown(url), **self._figures(url, flow, values)})
            for flow, values in samples.items()
        ]
        self._hub.publish(rows)

    def _figures(
        self, url: str, flow: str, values: Mapping[str, Sequence[float]]
    ) -> dict[str, object]:
        now_s = time.monotonic()
        records = sum(values[_RECORDS]) if _RECORDS in values else None
        events_per_s = None
        if records is not None:
            before = self._before.get((url, flow))
            if before is not None and records >= before[1] and now_s > before[0]:
                events_per_s = round((records - before[1]) / (now_s - before[0]), 1)
            self._before[url, flow] = now_s, records
        lag_s = max(values.get(_WATERMARK_LAG, ()), default=None)
        lags = values.get(_CONSUMER_LAG)
        return {
            "up": True,
            "starting": False,
            "error": None,
            "events_per_s": events_per_s,
            "watermark_lag_s": None if lag_s is None else round(lag_s, 3),
            "consumer_lag": None if lags is None else int(sum(lags)),
            "records": None if records is None else int(records),
            "late": int(sum(values.get(_LATE, ()))),
            "rejected": int(sum(values.get(_REJECTED, ()))),
            **_checked(),
        }


_NOTHING = dict.fromkeys(
    ("events_per_s", "watermark_lag_s", "consumer_lag", "records", "late", "rejected")
)


def _samples(text: str) -> dict[str, dict[str, list[float]]]:
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for family in text_string_to_metric_families(text):
        if family.name.startswith("tidemark_"):
            for sample in family.samples:
                if "flow" in sample.labels:
                    found[sample.labels["flow"]][sample.name].append(sample.value)
    return found


def _shown(url: str) -> str:
    """The URL without a name and password."""
    parsed = httpx.URL(url)
    return str(parsed.copy_with(username=None, password=None, query=None))


def _reason(error: Exception) -> str:
    if isinstance(error, httpx.HTTPStatusError):  # its text has the address, password and all
        return f"it answers with status {error.response.status_code}"
    return str(error) or type(error).__name__


def _checked() -> dict[str, str]:
    return {"checked_at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")}
