"""Settings of the flow `sellers`, besides those of every flow."""

from pydantic import Field
from typing_extensions import override

from dataflows.settings import FlowSettings
from schemas.errors import FlowError

__all__ = ["SellersSettings"]


class SellersSettings(FlowSettings):
    """What the sellers flow takes besides."""

    sellers_window_s: int = Field(
        60, ge=1, le=86_400, description="length of the aligned windows of sales"
    )

    @override
    def check(self) -> None:
        """See `FlowSettings.check`."""
        if self.schema_registry_url is not None:
            raise FlowError(
                "SCHEMA_REGISTRY_URL is set, and the flow sellers reads and writes plain JSON",
                "Unset SCHEMA_REGISTRY_URL for this flow.",
            )

    @property
    def output(self) -> str:
        """The output topic; `.late`, `.rejected` and `.progress` stand behind it."""
        return self.output_topic or "aggregated-sales"
