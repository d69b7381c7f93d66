"""Settings of the page, besides those by which it finds what the flows write."""

import re
from typing import Annotated, NamedTuple

from pydantic import Field, field_validator
from pydantic_settings import NoDecode

from dataflows.connections import ConnectionSettings
from dataflows.settings import length_name
from page.kinds import HEALTH, KIND_NAMES
from schemas.candles import INTERVALS_MS

__all__ = ["MetricsSource", "PageSettings"]

_DAYS_FROM = 2
_HOST = re.compile(r"[a-z0-9.:_-]{1,253}", re.IGNORECASE)
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_METRICS = re.compile(r"(?:(?P<name>[a-zA-Z0-9._-]+)=)?(?P<url>https?://[^\s,]+)")
_TOPIC = re.compile(r"(?P<kind>[a-z]+)=(?P<topic>[a-zA-Z0-9._-]{1,249})")

Names = Annotated[tuple[str, ...], NoDecode]


class MetricsSource(NamedTuple):
    """Where the metrics of a process are; the name is for while it does not answer."""

    name: str
    url: str


class PageSettings(ConnectionSettings):
    """What the page takes besides."""

    page_host: str = Field(
        "127.0.0.1", min_length=1, description="address the page binds to; another one opens it"
    )
    page_port: int = Field(8600, ge=1, le=65_535, description="port of the page")
    page_allowed_hosts: Names | None = Field(
        None,
        description="names the page answers to (`Host`), with commas; unset: on the loopback its "
        "names, elsewhere all",
    )
    page_metrics: Names | None = Field(
        None,
        repr=False,
        description="metrics of the flows, URLs with commas, each may have name= before it",
    )
    page_topics: Names | None = Field(
        None, description="topics to show, kind=topic with commas; unset: the flows' defaults"
    )
    page_history: int = Field(
        300, ge=1, le=2_000, description="candles and averages of a series in a snapshot"
    )
    page_clients: int = Field(100, ge=1, le=10_000, description="streams at a time")
    page_queue_rows: int = Field(
        20_000, ge=1, le=1_000_000, description="rows that may wait for a stream's reader"
    )
    page_send_timeout_s: float = Field(
        10, gt=0, le=3_600, description="a reader that takes nothing for this long is dropped"
    )
    page_poll_ms: int = Field(
        100, ge=10, le=60_000, description="how often PostgreSQL is asked, where it answers at once"
    )
    statistics_window_s: int = Field(86_400, ge=1, description="length of the rolling windows")

    @field_validator("page_allowed_hosts", "page_metrics", "page_topics", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",")) if isinstance(value, str) else value

    @field_validator("page_allowed_hosts")
    @classmethod
    def _hosts(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if not all(map(_HOST.fullmatch, value or ())):
            raise ValueError("names or addresses without port, with commas between")
        return value

    @field_validator("page_metrics")
    @classmethod
    def _urls(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if not all(map(_METRICS.fullmatch, value or ())):
            raise ValueError("http://host:port/metrics or name=http://…, with commas between")
        return value

    @field_validator("page_topics")
    @classmethod
    def _pairs(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for part in value or ():
            pair = _TOPIC.fullmatch(part)
            if pair is None or pair["kind"] == HEALTH or pair["kind"] not in KIND_NAMES:
                names = ", ".join(name for name in KIND_NAMES if name != HEALTH)
                raise ValueError(f"kind=topic with commas between; kinds are {names}")
        return value

    @property
    def statistics_window(self) -> str:
        """Name of the windows' length, such as `24h`."""
        return length_name(self.statistics_window_s, days_from=_DAYS_FROM)

    @property
    def allowed_hosts(self) -> frozenset[str] | None:
        """Names under which the page answers, in lower case; None: under any."""
        if self.page_allowed_hosts is not None:
            return frozenset(map(str.lower, self.page_allowed_hosts))
        host = self.page_host.lower()
        is_loopback = host in _LOOPBACK or host.startswith("127.")
        return frozenset((*_LOOPBACK, host)) if is_loopback else None

    @property
    def topics(self) -> tuple[tuple[str, str], ...]:
        """Kind and topic of all that is read from Kafka."""
        if self.page_topics is not None:
            pairs = (part.partition("=") for part in self.page_topics)
            return tuple((kind, topic) for kind, _, topic in pairs)
        candles = [f"candles.{interval}" for interval in INTERVALS_MS]
        return (
            *(("candle", topic) for topic in candles),
            *(("preview", f"{topic}.live") for topic in candles),
            ("statistics", f"statistics.{self.statistics_window}"),
            ("ewma", "ewma.5m"),
            ("sales", "aggregated-sales"),
            ("session", "sessions"),
        )

    @property
    def metrics_sources(self) -> tuple[MetricsSource, ...]:
        """Where the flows' metrics are."""
        found = (_METRICS.fullmatch(part) for part in self.page_metrics or ())
        return tuple(MetricsSource(one["name"] or one["url"], one["url"]) for one in found if one)
