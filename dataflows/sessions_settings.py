"""Settings of the flow `sessions`, besides those of every flow."""

from typing import Self

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

    @classmethod
    @override
    def load(cls) -> Self:
        """Read the environment.

        Raises:
            FlowError: Some value is wrong, or two do not go together.
        """
        settings = super().load()
        if settings.session_devices < settings.market_partitions:
            raise FlowError(
                f"SESSION_DEVICES={settings.session_devices} devices do not fill "
                f"MARKET_PARTITIONS={settings.market_partitions} partitions",
                "Set SESSION_DEVICES to at least MARKET_PARTITIONS.",
            )
        return settings

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
