"""Settings of the flow `sessions`, besides those of every flow."""

from pydantic import Field
from typing_extensions import override

from dataflows.settings import FlowSettings
from operators.sessions import SessionRule
from schemas.errors import FlowError

__all__ = ["SessionsSettings"]


class SessionsSettings(FlowSettings):
    """What the sessions flow takes besides."""

    session_timeout_s: float = Field(
        4, ge=0.001, le=86_400, description="a session without an event for this long has ended"
    )
    session_devices: int = Field(
        500, ge=1, le=1_000_000, description="simulated devices: how many there are"
    )

    @override
    def check(self) -> None:
        """See `FlowSettings.check`."""
        if self.session_devices < self.market_partitions:
            raise FlowError(
                f"SESSION_DEVICES={self.session_devices} devices do not fill "
                f"MARKET_PARTITIONS={self.market_partitions} partitions",
                "Set SESSION_DEVICES to at least MARKET_PARTITIONS.",
            )

    @property
    def rule(self) -> SessionRule:
        """Parameters of the sessions."""
        return SessionRule(round(self.session_timeout_s * 1000))

    @property
    def output(self) -> str:
        """Topic of the sessions; `.late`, `.rejected` and `.progress` stand behind it."""
        return self.output_topic or "sessions"

    @property
    def events_output(self) -> str:
        """Topic of the events under their sessions."""
        return "session-events" if self.output_topic is None else f"{self.output_topic}.events"
