"""Settings of the flow `statistics`, besides those of every flow."""

from typing import Literal

from pydantic import Field
from typing_extensions import override

from dataflows.settings import FlowSettings, length_name
from operators.rolling_table import RollingRule
from schemas.candles import INTERVALS_MS
from schemas.errors import FlowError

__all__ = ["StatisticsSettings"]

_WEEKS_S = 5 * 7 * 86_400
_QUIET_S = 60
_DAYS_FROM = 2


class StatisticsSettings(FlowSettings):
    """What the statistics flow takes besides."""

    statistics_window_s: int = Field(
        86_400, ge=1, le=_WEEKS_S, description="length of the rolling windows"
    )
    statistics_pane_s: int = Field(
        1,
        ge=1,
        le=86_400,
        description="by how much at a time a window moves; with candles as input their interval",
    )
    statistics_tick_s: int | None = Field(
        None, ge=1, description="how often an instrument with trades has a row; unset: each pane"
    )
    statistics_quiet_s: int | None = Field(
        None,
        ge=1,
        description="how often one without trades has; unset: 60, or the next multiple of the tick",
    )
    input_format: Literal["trade", "order_execution_report", "candle"] = Field(
        "trade", description="message in the input topic"
    )

    @override
    def check(self) -> None:
        """See `FlowSettings.check`."""
        lengths = {
            "STATISTICS_WINDOW_S": self.statistics_window_s,
            "STATISTICS_PANE_S": self.statistics_pane_s,
            "STATISTICS_TICK_S": self._tick_s,
            "STATISTICS_QUIET_S": self._quiet_s,
        }
        for name, unit in (("WINDOW", "PANE"), ("TICK", "PANE"), ("QUIET", "TICK")):
            name, unit = f"STATISTICS_{name}_S", f"STATISTICS_{unit}_S"  # noqa: PLW2901
            if lengths[name] % lengths[unit]:
                raise FlowError(
                    f"{name}={lengths[name]} is not a multiple of {unit}={lengths[unit]}",
                    f"Set {name} to a multiple of {unit}.",
                )
        if self._tick_s > self.statistics_window_s:
            raise FlowError(
                f"STATISTICS_TICK_S={self._tick_s} is longer than "
                f"STATISTICS_WINDOW_S={self.statistics_window_s}: trades between two windows "
                "would be in none",
                "Set STATISTICS_TICK_S to the length of the window at most.",
            )
        if self.input_format != "candle":
            return
        if self.candle_interval is None:
            choice = ", ".join(str(ms // 1000) for ms in INTERVALS_MS.values())
            raise FlowError(
                f"INPUT_FORMAT=candle with STATISTICS_PANE_S={self.statistics_pane_s}: there are "
                "no candles of this length",
                f"Set STATISTICS_PANE_S to the length of the candles: {choice}.",
            )
        if self.kafka_bootstrap_servers is None:
            raise FlowError(
                "INPUT_FORMAT=candle needs Kafka, and KAFKA_BOOTSTRAP_SERVERS is unset: the "
                "simulated market has trades only",
                "Set KAFKA_BOOTSTRAP_SERVERS, or leave INPUT_FORMAT unset.",
            )

    @property
    def _tick_s(self) -> int:
        return self.statistics_tick_s or self.statistics_pane_s

    @property
    def _quiet_s(self) -> int:
        return self.statistics_quiet_s or -(-_QUIET_S // self._tick_s) * self._tick_s

    @property
    def candle_interval(self) -> str | None:
        """Name of the candles that are a pane long; None for none."""
        pane_ms = self.statistics_pane_s * 1000
        return next((name for name, ms in INTERVALS_MS.items() if ms == pane_ms), None)

    @property
    def rule(self) -> RollingRule:
        """Parameters of the windows."""
        return RollingRule(
            window_ms=self.statistics_window_s * 1000,
            pane_ms=self.statistics_pane_s * 1000,
            tick_ms=self._tick_s * 1000,
            quiet_every_ms=self._quiet_s * 1000,
            replaces=self.input_format == "candle",
        )

    @property
    def topic(self) -> str:
        """Default input topic."""
        return f"candles.{self.candle_interval}" if self.input_format == "candle" else "trades"

    @property
    def window(self) -> str:
        """Name of the windows' length, such as `24h`."""
        return length_name(self.statistics_window_s, days_from=_DAYS_FROM)

    @property
    def output(self) -> str:
        """The output topic; `.late`, `.rejected` and `.progress` stand behind it."""
        return self.output_topic or f"statistics.{self.window}"
