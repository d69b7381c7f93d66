"""The schemas that writers of device events have registered."""

from schemas.avro_registry import AvroRegistry
from schemas.device_schemas import WriterSchemas
from schemas.errors import FlowError
from schemas.registry import Registry

__all__ = ["registered_writers"]


def registered_writers(registry: Registry, topic: str) -> WriterSchemas:
    """The writers' schemas of a topic, from a schema registry.

    Args:
        registry: where they are.
        topic: where the values lie.

    Raises:
        FlowError: The registry does not answer, or the topic's newest schema, if it has one,
            cannot be read as ours.
    """
    schemas = AvroRegistry(registry)
    writers = WriterSchemas(schemas.text)
    newest = schemas.latest(topic)
    if newest is not None and not writers.can_read(newest):
        raise FlowError(
            f"The newest schema of {topic}-value in the schema registry is no device event",
            "Name another topic in INPUT_TOPIC, or register a schema for it that can be read as "
            "schemas/devices.avsc.",
        )
    return writers
