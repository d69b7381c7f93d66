"""Schema registry: register a message's schema and frame values with its id."""

import base64
import re
from collections.abc import Callable, Iterable

import pyarrow as pa
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError
from google.protobuf.message import Message

from schemas.errors import FlowError
from schemas.wire import add_header, header

__all__ = ["framed", "no_answer", "registered"]


def framed(
    url: str | None,
    topics: Iterable[str],
    message: type[Message],
    encode: Callable[[pa.RecordBatch], pa.BinaryArray],
) -> Callable[[pa.RecordBatch], pa.BinaryArray]:
    """An encoder that puts the wire format's header before each message.

    Registers the message's file as `<topic>-value` of each topic, in the serialized form
    that Confluent's clients register; a registry gives it the same id under every subject.

    Args:
        url: of the registry's Confluent API; None for none: then it is `encode` itself.
        topics: topics the values go to, at least one.
        message: generated class of the message.
        encode: rows to messages.

    Raises:
        FlowError: The registry cannot be reached, or refuses the schema.
    """
    if url is None:
        return encode
    descriptor = message.DESCRIPTOR
    schema = Schema(base64.standard_b64encode(descriptor.file.serialized_pb).decode(), "PROTOBUF")
    schema_id = registered(url, topics, schema, descriptor.full_name)
    place = list(descriptor.file.message_types_by_name).index(descriptor.name)
    prefix = header(schema_id, [place])
    return lambda rows: add_header(encode(rows), prefix)


def registered(url: str, topics: Iterable[str], schema: Schema, name: str) -> int:
    """The id of a schema, registered as `<topic>-value` of each topic.

    Args:
        url: of the registry's Confluent API.
        topics: at least one.
        schema: what to register.
        name: of the schema, for messages.

    Raises:
        FlowError: The registry cannot be reached, or refuses the schema.
    """
    ids: set[int] = set()
    with SchemaRegistryClient({"url": url, "timeout": 10, "max.retries": 1}) as client:
        for topic in topics:
            try:
                ids.add(client.register_schema(f"{topic}-value", schema))
            except SchemaRegistryError as error:
                raise FlowError(
                    f"The schema registry refused {name} for {topic}-value: {error.error_message}",
                    "The subject holds an incompatible schema: delete it, relax its compatibility, "
                    "or choose another OUTPUT_TOPIC.",
                ) from error
            except Exception as error:  # the client lets its HTTP library's errors through
                raise no_answer(url, error) from error
    if len(ids) != 1:
        raise FlowError(
            f"The schema registry at SCHEMA_REGISTRY_URL={_shown(url)} gave one schema several ids",
            "Use a registry with ids that are global, as Confluent's are.",
        )
    return ids.pop()


def no_answer(url: str, error: Exception) -> FlowError:
    """What to tell when the registry cannot be reached."""
    return FlowError(
        f"No schema registry answers at SCHEMA_REGISTRY_URL={_shown(url)} ({error})",
        "Start it or correct the address, then start again.",
    )


def _shown(url: str) -> str:
    """The URL without a name and password."""
    return re.sub("//[^/@]*@", "//", url)
