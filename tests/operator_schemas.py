"""JSON schemas of the Prometheus operator's objects, as far as we use them: for offline checks.

Written after the operator's API reference (monitoring.coreos.com/v1). They know the fields that
are ours and refuse any other, so a misspelt one is found; what a cluster has besides is not told.
"""

from typing import Any

__all__ = ["SCHEMAS"]

_DURATION = {
    "type": "string",
    "pattern": r"^(0|(([0-9]+)y)?(([0-9]+)w)?(([0-9]+)d)?(([0-9]+)h)?(([0-9]+)m)?(([0-9]+)s)?"
    r"(([0-9]+)ms)?)$",
}
_TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
_NAME = {"type": "string", "pattern": "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"}


def _closed(required: dict[str, Any], **optional: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {**required, **optional},
        "required": list(required),
        "additionalProperties": False,
    }


def _of_the_operator(kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    return _closed(
        {
            "apiVersion": {"const": "monitoring.coreos.com/v1"},
            "kind": {"const": kind},
            "metadata": _closed(
                {"name": _NAME}, namespace=_NAME, labels=_TEXTS, annotations=_TEXTS
            ),
            "spec": spec,
        }
    )


_ENDPOINT = _closed({"port": {"type": "string"}}, path={"type": "string"}, interval=_DURATION)
_RULE = _closed(
    {"alert": {"type": "string"}, "expr": {"type": ["string", "integer"]}},
    **{"for": _DURATION, "keep_firing_for": _DURATION},
    labels=_TEXTS,
    annotations=_TEXTS,
)
_GROUP = _closed(
    {"name": {"type": "string", "minLength": 1}, "rules": {"type": "array", "items": _RULE}},
    interval=_DURATION,
)

SCHEMAS = {
    "PodMonitor": _of_the_operator(
        "PodMonitor",
        _closed(
            {
                "selector": _closed({"matchLabels": _TEXTS}),
                "podMetricsEndpoints": {"type": "array", "minItems": 1, "items": _ENDPOINT},
            }
        ),
    ),
    "PrometheusRule": _of_the_operator(
        "PrometheusRule", _closed({"groups": {"type": "array", "minItems": 1, "items": _GROUP}})
    ),
}
