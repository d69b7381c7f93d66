"""Settings of the flow `deribit`, besides those of every flow."""

import re
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator
from pydantic_settings import NoDecode
from typing_extensions import override

from dataflows.settings import FlowSettings
from schemas.errors import FlowError
from sources.deribit import Subscription
from sources.deribit_history import HistoryRule
from sources.deribit_session import FeedRule

__all__ = ["DeribitSettings"]

_ENDPOINTS = {
    "test": "wss://test.deribit.com/ws/api/v2",
    "production": "wss://www.deribit.com/ws/api/v2",
}
_INSTRUMENTS = ("BTC-PERPETUAL", "ETH-PERPETUAL")
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}")
_LOCAL = ("127.0.0.1", "::1", "localhost")

Names = Annotated[tuple[str, ...], NoDecode]


class DeribitSettings(FlowSettings):
    """What the exchange feed takes besides."""

    deribit_endpoint: str | None = Field(
        None,
        pattern=r"^(simulated|test|production|wss?://[^/].*)$",
        description="simulated, test, production or a URL; unset: simulated, if Kafka is unset too",
    )
    deribit_client_id: str | None = Field(
        None, repr=False, description="id of an API key; not needed but for raw"
    )
    deribit_client_secret: str | None = Field(
        None, repr=False, description="secret of that API key"
    )
    deribit_instruments: Names | None = Field(
        None,
        description="names, with commas; unset: BTC-PERPETUAL,ETH-PERPETUAL, or only the kinds",
    )
    deribit_kinds: (
        Annotated[
            tuple[Literal["future", "option", "spot", "future_combo", "option_combo"], ...],
            NoDecode,
        ]
        | None
    ) = Field(
        None, description="all instruments of future, option, spot, future_combo, option_combo"
    )
    deribit_currencies: Names = Field(
        ("BTC", "ETH"), description="currencies of those kinds, or any"
    )
    deribit_interval: Literal["100ms", "agg2", "raw"] = Field(
        "100ms", description="how trades are sent: 100ms, agg2, or raw with an API key"
    )
    deribit_connections: int = Field(
        1, ge=1, le=32, description="connections that share the channels"
    )
    deribit_start_seq: int | None = Field(
        None,
        ge=1,
        description="trade_seq to begin an instrument at; unset: with its first live trade",
    )
    deribit_heartbeat_s: float = Field(
        10, ge=10, le=300, description="how often the exchange asks for a sign of life"
    )
    deribit_stale_s: float = Field(
        60, gt=0, description="a connection without a trade for this long is opened anew"
    )
    deribit_deadline_s: float = Field(
        60, gt=0, description="a gap that history fills nothing of for this long is given up"
    )
    deribit_table: bool = Field(True, description="write every trade to the table trades too")
    deribit_partitions: int = Field(8, ge=1, le=1024, description="partitions of the output topic")
    deribit_faults: float = Field(
        0, ge=0, le=1, description="simulated exchange: share of messages that meet a fault"
    )

    @field_validator("deribit_instruments", "deribit_kinds", "deribit_currencies", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",")) if isinstance(value, str) else value

    @field_validator("deribit_instruments", "deribit_currencies")
    @classmethod
    def _names(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if value is not None and not all(map(_NAME.fullmatch, value)):
            raise ValueError("letters, digits, dots, hyphens and underscores, with commas between")
        return value

    @override
    def check(self) -> None:
        """See `FlowSettings.check`."""
        if (self.deribit_client_id is None) != (self.deribit_client_secret is None):
            raise FlowError(
                "One of DERIBIT_CLIENT_ID and DERIBIT_CLIENT_SECRET is set without the other",
                "Set both to log in, or neither.",
            )
        if self.deribit_interval == "raw" and self.credentials is None:
            raise FlowError(
                "DERIBIT_INTERVAL=raw needs an API key: the exchange sends raw trades only to "
                "clients that log in",
                "Set DERIBIT_CLIENT_ID and DERIBIT_CLIENT_SECRET, or DERIBIT_INTERVAL=100ms, "
                "which brings the same trades up to 100 ms later.",
            )
        if self.stop_at_end:
            raise FlowError(
                "STOP_AT_END=true asks a feed for its end, and it has none",
                "Unset STOP_AT_END; stop the flow with SIGTERM or Ctrl-C.",
            )
        if self.deribit_endpoint is None and self.kafka_bootstrap_servers is not None:
            raise FlowError(
                "KAFKA_BOOTSTRAP_SERVERS is set and DERIBIT_ENDPOINT is not",
                "Set DERIBIT_ENDPOINT to production, test or simulated: which trades your "
                "topic gets is nothing to guess.",
            )
        url = urlsplit(self.deribit_endpoint or "")
        if url.scheme == "ws" and url.hostname not in _LOCAL:
            raise FlowError(
                f"DERIBIT_ENDPOINT={self.deribit_endpoint} would send everything unencrypted",
                "Write wss://; ws:// is for this machine only.",
            )

    @property
    def endpoint_url(self) -> str | None:
        """Where to connect; None for the simulated exchange in this process."""
        endpoint = self.deribit_endpoint or "simulated"
        return None if endpoint == "simulated" else _ENDPOINTS.get(endpoint, endpoint)

    @property
    def credentials(self) -> tuple[str, str] | None:
        """Id and secret of the API key."""
        if self.deribit_client_id is None or self.deribit_client_secret is None:
            return None
        return self.deribit_client_id, self.deribit_client_secret

    @property
    def subscription(self) -> Subscription:
        """What to subscribe to."""
        kinds = self.deribit_kinds or ()
        named = self.deribit_instruments or (() if kinds else _INSTRUMENTS)
        return Subscription(
            tuple(dict.fromkeys(named)),
            tuple(f"{kind}.{name}" for kind in kinds for name in self.deribit_currencies),
            self.deribit_interval,
            self.deribit_start_seq,
        )

    @property
    def rule(self) -> FeedRule:
        """Parameters of the feed."""
        return FeedRule(
            channels=(),
            credentials=self.credentials,
            heartbeat_s=self.deribit_heartbeat_s,
            stale_s=self.deribit_stale_s,
            history=HistoryRule(deadline_s=self.deribit_deadline_s),
        )

    @property
    def topic(self) -> str:
        """Where the trades go."""
        return self.output_topic or "trades"
