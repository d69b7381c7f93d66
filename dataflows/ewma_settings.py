"""Settings of the flow `ewma`, besides those of every flow."""

from typing import Literal

from pydantic import Field
from typing_extensions import override

from dataflows.settings import FlowSettings, length_name
from operators.ewma import EwmaMode, EwmaRule, alpha_of
from schemas.errors import FlowError

__all__ = ["EwmaSettings"]

_TICK_S = 1
_WEIGHTS = ("ewma_span", "ewma_alpha", "ewma_com", "ewma_halflife")


class EwmaSettings(FlowSettings):
    """What the ewma flow takes besides."""

    ewma_period_s: int = Field(
        300, ge=_TICK_S, le=86_400, description="length of the aligned periods"
    )
    ewma_span: float | None = Field(
        None,
        ge=1,
        allow_inf_nan=False,
        description="in trades, alpha = 2/(span + 1); unset, as the next three: EWMA_PERIOD_S",
    )
    ewma_alpha: float | None = Field(
        None, gt=0, le=1, description="weight of a trade, instead of a span"
    )
    ewma_com: float | None = Field(
        None,
        ge=0,
        allow_inf_nan=False,
        description="centre of mass, alpha = 1/(1 + com), instead of a span",
    )
    ewma_halflife: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="in trades, alpha = 1 - exp(-ln 2/halflife), instead of a span; in the "
        "mode time in seconds",
    )
    ewma_mode: EwmaMode = Field(
        "window",
        description="window: fresh each period; carry: goes on over periods; time: decays "
        "with the time between trades, needs EWMA_HALFLIFE",
    )
    ewma_volume_weighted: bool = Field(False, description="weight each price by its quantity")
    input_format: Literal["trade", "order_execution_report"] = Field(
        "trade", description="message in the input topic"
    )

    @override
    def check(self) -> None:
        """See `FlowSettings.check`."""
        given = [name.upper() for name in _WEIGHTS if getattr(self, name) is not None]
        if len(given) > 1:
            values = " and ".join(f"{name}={getattr(self, name.lower())}" for name in given)
            raise FlowError(
                f"{values} each say how much a trade weighs",
                f"Keep one of {', '.join(given)} and unset the others.",
            )
        if self.ewma_mode == "time" and given != ["EWMA_HALFLIFE"]:
            instead = f", not {given[0]}" if given else ""
            raise FlowError(
                f"EWMA_MODE=time needs EWMA_HALFLIFE{instead}",
                "Set EWMA_HALFLIFE to the seconds after which a price weighs half, and no other "
                "of EWMA_SPAN, EWMA_ALPHA and EWMA_COM.",
            )

    @property
    def rule(self) -> EwmaRule:
        """Parameters of the averages."""
        is_timed = self.ewma_mode == "time"
        alpha = halflife_ms = None
        if is_timed and self.ewma_halflife is not None:
            halflife_ms = self.ewma_halflife * 1000
        else:
            alpha = self._alpha
        return EwmaRule(
            period_ms=self.ewma_period_s * 1000,
            mode=self.ewma_mode,
            alpha=alpha,
            halflife_ms=halflife_ms,
            volume_weighted=self.ewma_volume_weighted,
        )

    @property
    def _alpha(self) -> float:
        if all(getattr(self, name) is None for name in _WEIGHTS):
            return alpha_of(span=self.ewma_period_s)
        return alpha_of(
            span=self.ewma_span,
            alpha=self.ewma_alpha,
            com=self.ewma_com,
            halflife=self.ewma_halflife,
        )

    @property
    def output(self) -> str:
        """The output topic; `.late`, `.rejected` and `.progress` stand behind it."""
        if self.output_topic is not None:
            return self.output_topic
        return f"ewma.{length_name(self.ewma_period_s)}"
