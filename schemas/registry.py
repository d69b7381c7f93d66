"""Schema registry: where it is, and values framed with the id of their schema there."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

import pyarrow as pa
from google.protobuf.message import Message

from schemas.wire import add_header, header

__all__ = ["Registry", "framed"]


@dataclass(frozen=True, slots=True)
class Registry:
    """Where the registry is, and how it is talked to.

    Attributes:
        url: of its Confluent API; several with commas. May hold user and password.
        user_info: `user:password`, instead.
        ca: PEM file of the CAs it is trusted by; None for the usual public ones.
        certificate: PEM file of our own certificate.
        key: PEM file of that certificate's private key.
    """

    url: str = field(repr=False)
    user_info: str | None = field(default=None, repr=False)
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    @property
    def shown(self) -> str:
        """The URL without user and password."""
        parts = (urlsplit(url.strip()) for url in self.url.split(","))
        return ",".join(urlunsplit(p._replace(netloc=p.netloc.rpartition("@")[2])) for p in parts)

    @property
    def is_told_twice(self) -> bool:
        """Whether the URL and `user_info` both hold a user."""
        return self.user_info is not None and self._user_in_url is not None

    @property
    def user(self) -> str | None:
        """`user:password`, wherever it stands."""
        return self.user_info or self._user_in_url

    @property
    def _user_in_url(self) -> str | None:
        parts = urlsplit(self.url.split(",")[0])
        if parts.username is None:
            return None
        return f"{unquote(parts.username)}:{unquote(parts.password or '')}"


def framed(
    registry: Registry | None,
    topics: Iterable[str],
    message: type[Message],
    encode: Callable[[pa.RecordBatch], pa.BinaryArray],
) -> Callable[[pa.RecordBatch], pa.BinaryArray]:
    """An encoder that puts the wire format's header before each message.

    Registers the message's file as `<topic>-value` of each topic, in the serialized form
    that Confluent's clients register; a registry gives it the same id under every subject.

    Args:
        registry: None for none: then it is `encode` itself.
        topics: topics the values go to, at least one.
        message: generated class of the message.
        encode: rows to messages.

    Raises:
        FlowError: The registry cannot be reached, or refuses the schema.
    """
    if registry is None:
        return encode
    # The client brings a library for HTTP: a tenth of the start of a flow that does without.
    from schemas.registry_client import protobuf_id  # noqa: PLC0415

    schema_id = protobuf_id(registry, topics, message)
    descriptor = message.DESCRIPTOR
    place = list(descriptor.file.message_types_by_name).index(descriptor.name)
    prefix = header(schema_id, [place])
    return lambda rows: add_header(encode(rows), prefix)
