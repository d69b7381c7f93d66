"""The check that stored progress belongs to the settings of this run.

Progress says how far an output was written. Under other settings (another input, another
shard count, another window) the same position means other rows, so going on would mix two
outputs without a trace. The settings that define the output are therefore stored with the
progress and compared before anything is written.
"""

import json
from collections.abc import Mapping
from typing import Any

from schemas.errors import FlowError
from schemas.stream import FlowIdentity

__all__ = ["check_fingerprint", "fingerprint_json"]

_NOT_SET = "(not set)"


def fingerprint_json(identity: FlowIdentity) -> str:
    """The fingerprint as it is stored: JSON with sorted keys."""
    return json.dumps(dict(identity.fingerprint), sort_keys=True)


def check_fingerprint(identity: FlowIdentity, stored: Mapping[str, Any] | None) -> None:
    """Compare the settings of this run with those the progress was written under.

    Args:
        identity: The flow and its settings now.
        stored: Settings found with the progress; None when this version has none yet.

    Raises:
        FlowError: A setting differs; names each with its old and new value.
    """
    if stored is None:
        return
    # Through JSON and back, so that a tuple equals the list it was stored as.
    current: dict[str, Any] = json.loads(fingerprint_json(identity))
    changes = [
        f"{name} was {_shown(stored, name)} and is now {_shown(current, name)}"
        for name in sorted(current.keys() | stored.keys())
        if _shown(current, name) != _shown(stored, name)
    ]
    if changes:
        raise FlowError(
            f"The output of flow {identity.name}, version {identity.version}, was begun with "
            f"other settings: {'; '.join(changes)}",
            "Restore the old setting to go on with that output, or set a new FLOW_VERSION to "
            "begin another, and OUTPUT_TOPIC to keep the two apart.",
        )


def _shown(settings: Mapping[str, Any], name: str) -> str:
    return json.dumps(settings[name], sort_keys=True) if name in settings else _NOT_SET
