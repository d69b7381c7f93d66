"""The Avro schemas of this package."""

import json
from pathlib import Path

__all__ = ["avro_text"]


def avro_text(name: str) -> str:
    """The schema of a file of this package, such as `devices.avsc`."""
    return json.dumps(json.loads(Path(__file__).with_name(name).read_text(encoding="utf-8")))
