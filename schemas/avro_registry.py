"""Avro schemas in a schema registry: those of our outputs, and those of foreign writers."""

from collections.abc import Callable, Iterable
from typing import TypeVar

import pyarrow as pa
from confluent_kafka.schema_registry import Schema
from confluent_kafka.schema_registry.error import SchemaRegistryError

from schemas.avro_files import avro_text
from schemas.registry import Registry
from schemas.registry_client import client_of, no_answer, registered
from schemas.wire import add_header, id_header

__all__ = ["AvroRegistry", "avro_framed", "avro_header"]

_NOT_FOUND = 404

Answer = TypeVar("Answer")


def avro_header(registry: Registry, topics: Iterable[str], file: str) -> bytes:
    """The wire format's header for values of a schema, which is registered for the topics.

    Args:
        registry: where to.
        topics: topics the values go to, at least one.
        file: of this package, with the schema.

    Raises:
        FlowError: The registry cannot be reached, or refuses the schema.
    """
    return id_header(registered(registry, topics, Schema(avro_text(file), "AVRO"), file))


def avro_framed(
    registry: Registry | None,
    topics: Iterable[str],
    file: str,
    encode: Callable[[pa.RecordBatch], pa.BinaryArray],
) -> Callable[[pa.RecordBatch], pa.BinaryArray]:
    """An encoder that puts the wire format's header before each value; see `avro_header`.

    Args:
        registry: None for none: then it is `encode` itself.
        topics: topics the values go to, at least one.
        file: of this package, with the schema.
        encode: rows to values.
    """
    if registry is None:
        return encode
    prefix = avro_header(registry, topics, file)
    return lambda rows: add_header(encode(rows), prefix)


class AvroRegistry:
    """Looks up the schemas of values that others wrote.

    Args:
        registry: where they are.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._client = client_of(registry)

    def text(self, schema_id: int) -> str | None:
        """An Avro schema by its id; None when the registry has none of this id.

        Raises:
            FlowError: The registry does not answer. Nothing can be said of the value then.
        """
        schema = self._ask(lambda: self._client.get_schema(schema_id))
        return schema.schema_str if schema and schema.schema_type == "AVRO" else None

    def latest(self, topic: str) -> str | None:
        """The newest Avro schema of a topic's values; None when there is none.

        Raises:
            FlowError: The registry does not answer.
        """
        found = self._ask(lambda: self._client.get_latest_version(f"{topic}-value"))
        return found.schema.schema_str if found and found.schema.schema_type == "AVRO" else None

    def _ask(self, question: Callable[[], Answer]) -> Answer | None:
        try:
            return question()
        except SchemaRegistryError as error:
            if error.http_status_code == _NOT_FOUND:
                return None
            raise no_answer(self._registry, error) from error
        except Exception as error:  # the client lets its HTTP library's errors through
            raise no_answer(self._registry, error) from error
