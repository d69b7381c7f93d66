"""Settings of the flows: environment variables, typed and checked before anything starts.

A setting is a field here or, where it is about a connection, in `dataflows.connections`, its
variable the field's name in capitals; `docs/settings.md` lists them all. A wrong value stops
the flow with the variable's name, the value and what it may be. Only the modules of settings
read the environment.
"""

from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_settings import NoDecode

from dataflows.connections import ConnectionSettings
from schemas.candles import INTERVALS_MS

__all__ = ["CandleSettings", "FlowSettings", "length_name"]

_TOPIC = r"^[a-zA-Z0-9._-]{1,230}$"
_UNITS = ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s"))


def length_name(length_s: int, *, days_from: int = 1) -> str:
    """A span of time in its largest unit, such as `5m`; in days from so many on."""
    seconds, unit = next(
        (seconds, unit)
        for seconds, unit in _UNITS
        if length_s % seconds == 0 and (unit != "d" or length_s >= days_from * seconds)
    )
    return f"{length_s // seconds}{unit}"


class FlowSettings(ConnectionSettings):
    """What every flow takes besides its connections."""

    flow_version: str = Field(
        "1", pattern=r"^[a-zA-Z0-9._-]{1,40}$", description="whose progress and state it is"
    )
    shards: int = Field(
        8, ge=1, le=1024, description="groups of keys; partitions of the output topics"
    )
    stop_at_end: bool = Field(
        False, description="read each partition to the end it has at start, flush, and exit"
    )
    idle_timeout_s: float = Field(
        10, gt=0, description="a live partition silent for this long no longer holds others up"
    )
    lateness_s: float = Field(
        2, ge=0, le=86_400, description="how far the watermark stays behind the newest event"
    )
    correction_s: float = Field(
        300,
        ge=0,
        le=7 * 86_400,
        description="how far behind the watermark a trade may be and still correct its window",
    )
    max_ahead_s: float = Field(
        600,
        gt=0,
        le=366 * 86_400,
        description="an event further ahead of its record's timestamp is rejected",
    )
    preview_ms: int = Field(
        100,
        ge=0,
        le=86_400_000,
        description="previews of a shard leave once in each span of this length",
    )
    metrics_port: int | None = Field(
        None, ge=1, le=65_535, description="serve Prometheus metrics here; unset: do not"
    )
    metrics_host: Literal["127.0.0.1", "0.0.0.0"] = Field(  # noqa: S104  # if asked to
        "127.0.0.1", description="who may ask for metrics: this machine, or 0.0.0.0: everybody"
    )
    input_topic: str | None = Field(None, pattern=_TOPIC, description="instead of the default")
    output_topic: str | None = Field(None, pattern=_TOPIC, description="instead of the default")
    failpoints: str | None = Field(
        None, description="tests only: name:count, where the process is to kill itself"
    )
    market_seed: int = Field(1, ge=0, description="simulated market: seed")
    market_instruments: int = Field(
        20, ge=1, le=5_000, description="simulated market: number of instruments"
    )
    market_rate: float = Field(
        200, gt=0, le=1_000_000, description="simulated market: trades per second of event time"
    )
    market_partitions: int = Field(4, ge=1, le=64, description="simulated market: partitions")
    market_trades: int | None = Field(
        None,
        ge=1,
        description="simulated market: length of a log that is there all at once; unset: live",
    )


class CandleSettings(FlowSettings):
    """What the candles flow takes besides."""

    intervals: Annotated[tuple[str, ...], NoDecode] = Field(
        ("1m",), description="lengths of the candles, with commas: 1s, 1m, 5m, 1h, 1d"
    )
    fill_gaps: bool = Field(
        False, description="give windows without trades a zero-volume candle at the last close"
    )
    gap_silence_s: float = Field(
        3_600,
        gt=0,
        le=86_400,
        description="how long after its last candle with trades gaps are filled",
    )
    input_format: Literal["trade", "order_execution_report"] = Field(
        "trade", description="message in the input topic"
    )

    @field_validator("intervals", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",")) if isinstance(value, str) else value

    @field_validator("intervals")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [name for name in value if name not in INTERVALS_MS]
        if unknown or not value:
            raise ValueError(f"choose from {', '.join(INTERVALS_MS)}")
        if len(set(value)) < len(value):
            raise ValueError("each interval once")
        return tuple(sorted(value, key=INTERVALS_MS.__getitem__))

    @property
    def topics(self) -> dict[str, str]:
        """Output topic by interval.

        `OUTPUT_TOPIC` is the topic itself for a single interval; for several each gets its
        name behind it.
        """
        if self.output_topic is None:
            return {name: f"candles.{name}" for name in self.intervals}
        if len(self.intervals) == 1:
            return {self.intervals[0]: self.output_topic}
        return {name: f"{self.output_topic}.{name}" for name in self.intervals}

    @property
    def output(self) -> str:
        """What `.late`, `.rejected` and `.progress` stand behind."""
        if self.output_topic is not None:
            return self.output_topic
        return self.topics["1m" if "1m" in self.intervals else self.intervals[0]]
