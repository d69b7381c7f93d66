"""The client of a schema registry: schemas registered, and what to tell when that fails."""

import base64
from collections.abc import Iterable
from http import HTTPStatus

from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError
from google.protobuf.message import Message

from schemas.errors import FlowError
from schemas.registry import Registry

__all__ = ["client_of", "no_answer", "protobuf_id", "registered"]

_TIMEOUT_S = 10
_NO_RIGHT = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}


def client_of(registry: Registry, *, retries: int = 3) -> SchemaRegistryClient:
    """A client; the caller closes it. Its errors repeat the URL, and so not a password."""
    config: dict[str, str | int] = {
        "url": registry.shown,
        "timeout": _TIMEOUT_S,
        "max.retries": retries,
    }
    if registry.user is not None:
        config["basic.auth.user.info"] = registry.user
    files = {"ca": registry.ca, "certificate": registry.certificate, "key": registry.key}
    config |= {f"ssl.{name}.location": str(path) for name, path in files.items() if path}
    return SchemaRegistryClient(config)


def protobuf_id(registry: Registry, topics: Iterable[str], message: type[Message]) -> int:
    """The id of a message's file, registered in the serialized form that Confluent's clients use.

    Raises:
        FlowError: The registry cannot be reached, or refuses the schema.
    """
    descriptor = message.DESCRIPTOR
    text = base64.standard_b64encode(descriptor.file.serialized_pb).decode()
    return registered(registry, topics, Schema(text, "PROTOBUF"), descriptor.full_name)


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
    with client_of(registry, retries=1) as client:
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
