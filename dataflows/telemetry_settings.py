"""Settings of logs and traces: what a process tells of itself, whatever flow it runs."""

from typing import Literal, Self

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from schemas.errors import FlowError

__all__ = ["TelemetrySettings"]


class TelemetrySettings(BaseSettings):
    """What every process takes."""

    model_config = SettingsConfigDict(
        env_ignore_empty=True, extra="ignore", frozen=True, validate_default=True
    )

    log_format: Literal["text", "json"] = Field(
        "text", description="of the log on the standard error stream; json: an object a line"
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "WARNING", description="the least level of what is logged"
    )
    otel_exporter_otlp_endpoint: str | None = Field(
        None,
        pattern=r"^https?://[^\s/@]+/?$",
        description="where traces go, OTLP over gRPC, http://host:4317; unset: no traces",
    )
    otel_traces_sampler_arg: float = Field(
        0.01, ge=0, le=1, description="share of a source's batches that are traced, 0 to 1"
    )
    trace_steps: float = Field(
        0, ge=0, le=1, description="share of Bytewax's own spans, of its steps, that are sent too"
    )

    @classmethod
    def load(cls) -> Self:
        """Read the environment.

        Raises:
            FlowError: Some value is wrong; names each variable.
        """
        try:
            return cls()
        except ValidationError as error:
            wrong = (
                f"{str(problem['loc'][0]).upper()}={problem['input']!r}: {problem['msg']}"
                for problem in error.errors()
            )
            raise FlowError(
                "Settings are wrong: " + "; ".join(wrong),
                "Correct the environment variables and start again; docs/settings.md lists "
                "them all.",
            ) from error
