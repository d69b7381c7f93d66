"""Schema registry: register a message's schema and frame values with its id."""

import base64
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

import pyarrow as pa
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError
from google.protobuf.message import Message

from schemas.errors import FlowError
from schemas.wire import add_header, header

__all__ = ["Registry", "framed", "no_answer", "registered"]

_TIMEOUT_S = 10
_NO_RIGHT = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}


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
    def _user_in_url(self) -> str | None:
        parts = urlsplit(self.url.split(",")[0])
        if parts.username is None:
            return None
        return f"{unquote(parts.username)}:{unquote(parts.password or '')}"

    def client(self, *, retries: int = 3) -> SchemaRegistryClient:
        """A client; the caller closes it. Its errors repeat the URL, and so not a password."""
        config: dict[str, str | int] = {
            "url": self.shown,
            "timeout": _TIMEOUT_S,
            "max.retries": retries,
        }
        user_info = self.user_info or self._user_in_url
        if user_info is not None:
            config["basic.auth.user.info"] = user_info
        files = {"ca": self.ca, "certificate": self.certificate, "key": self.key}
        config |= {f"ssl.{name}.location": str(path) for name, path in files.items() if path}
        return SchemaRegistryClient(config)


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
    descriptor = message.DESCRIPTOR
    schema = Schema(base64.standard_b64encode(descriptor.file.serialized_pb).decode(), "PROTOBUF")
    schema_id = registered(registry, topics, schema, descriptor.full_name)
    place = list(descriptor.file.message_types_by_name).index(descriptor.name)
    prefix = header(schema_id, [place])
    return lambda rows: add_header(encode(rows), prefix)


def registered(registry: Registry, topics: Iterable[str], schema: Schema, name: str) -> int:
    """The id of a schema, registered as `<topic>-value` of each topic.

    Args:
        registry: where to.
        topics: at least one.
        schema: what to register.
        name: of the schema, for messages.

    Raises:
        FlowError: The registry cannot be reached, or refuses the schema.
    """
    ids: set[int] = set()
    with registry.client(retries=1) as client:
        for topic in topics:
            try:
                ids.add(client.register_schema(f"{topic}-value", schema))
            except SchemaRegistryError as error:
                if error.http_status_code in _NO_RIGHT:
                    raise no_answer(registry, error) from error
                raise FlowError(
                    f"The schema registry refused {name} for {topic}-value: {error.error_message}",
                    "The subject holds an incompatible schema: delete it, relax its compatibility, "
                    "or choose another OUTPUT_TOPIC.",
                ) from error
            except Exception as error:  # the client lets its HTTP library's errors through
                raise no_answer(registry, error) from error
    if len(ids) != 1:
        raise FlowError(
            f"The schema registry at SCHEMA_REGISTRY_URL={registry.shown} gave one schema "
            "several ids",
            "Use a registry with ids that are global, as Confluent's are.",
        )
    return ids.pop()


def no_answer(registry: Registry, error: Exception) -> FlowError:
    """What to tell when the registry cannot be reached, or does not trust us, or we not it."""
    hint = "Start it or correct the address, then start again."
    if isinstance(error, SchemaRegistryError) and error.http_status_code in _NO_RIGHT:
        hint = "Correct SCHEMA_REGISTRY_BASIC_AUTH_USER_INFO, or the rights of that user."
    elif "CERTIFICATE" in str(error).upper():
        hint = (
            "SCHEMA_REGISTRY_SSL_CA_LOCATION must hold the CA of its certificate, and the address "
            "a name that is in it."
        )
    return FlowError(
        f"No schema registry answers at SCHEMA_REGISTRY_URL={registry.shown} ({error})", hint
    )
