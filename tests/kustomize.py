"""What `kubectl kustomize` makes of our kustomizations, without it.

Knows what they use and refuses the rest: resources, nameSuffix, namespace, labels with selectors,
images, and JSON patches with a target. `tests/unit/test_manifests.py` compares it with kubectl
where that is installed.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

__all__ = ["build"]

_KNOWN = {
    "apiVersion", "kind", "resources", "nameSuffix", "namespace", "labels", "images", "patches",
}  # fmt: skip
_CLUSTER_WIDE = ("Namespace",)


def build(directory: Path) -> list[dict[str, Any]]:
    """The objects of an overlay, in the order in which they are named."""
    here = yaml.safe_load((directory / "kustomization.yaml").read_text())
    assert set(here) <= _KNOWN, set(here) - _KNOWN
    found: list[dict[str, Any]] = []
    for name in here["resources"]:
        path = directory / name
        found += build(path) if path.is_dir() else yaml.safe_load_all(path.read_text())
    for patch in here.get("patches", ()):
        hit = [one for one in found if _is_meant(patch["target"], one)]
        assert hit, patch["target"]
        for one in hit:
            for change in yaml.safe_load(patch["patch"]):
                _change(one, change)
    own = {(one["kind"], one["metadata"]["name"]) for one in found}
    for one in found:
        _suffix(one, own, here.get("nameSuffix", ""))
        for labels in here.get("labels", ()):
            _label(one, labels)
        if "namespace" in here and one["kind"] not in _CLUSTER_WIDE:
            one["metadata"]["namespace"] = here["namespace"]
        for container in _containers(one):
            for image in here.get("images", ()):
                if container["image"] == image["name"]:
                    container["image"] = f"{image['newName']}:{image['newTag']}"
    return found


def _is_meant(target: dict[str, str], one: dict[str, Any]) -> bool:
    return target["kind"] == one["kind"] and target.get("name") in (None, one["metadata"]["name"])


def _change(one: dict[str, Any], change: dict[str, Any]) -> None:
    *parents, last = change["path"].strip("/").split("/")
    place: Any = one
    for step in parents:
        place = place[int(step)] if isinstance(place, list) else place[step]
    key: Any = int(last) if isinstance(place, list) and last != "-" else last
    match change["op"]:
        case "test":
            assert place[key] == change["value"], change
        case "add" if key == "-":
            place.append(change["value"])
        case "add":
            place[key] = change["value"]
        case "replace":
            assert place[key] is not None
            place[key] = change["value"]
        case other:
            raise AssertionError(other)


def _suffix(one: dict[str, Any], own: set[tuple[str, str]], suffix: str) -> None:
    one["metadata"]["name"] += suffix
    if one["kind"] == "StatefulSet":
        spec, pod = one["spec"], one["spec"]["template"]["spec"]
        if ("Service", spec["serviceName"]) in own:
            spec["serviceName"] += suffix
        if ("ServiceAccount", pod["serviceAccountName"]) in own:
            pod["serviceAccountName"] += suffix


def _label(one: dict[str, Any], labels: dict[str, Any]) -> None:
    assert labels["includeSelectors"]
    pairs = labels["pairs"]
    one["metadata"].setdefault("labels", {}).update(pairs)
    spec = one.get("spec", {})
    match one["kind"]:
        case "StatefulSet":
            spec["selector"]["matchLabels"].update(pairs)
            for made in (spec["template"], *spec["volumeClaimTemplates"]):
                made["metadata"].setdefault("labels", {}).update(pairs)
        case "Service":
            spec["selector"].update(pairs)
        case "PodDisruptionBudget":
            spec["selector"]["matchLabels"].update(pairs)
        case "NetworkPolicy":
            spec["podSelector"]["matchLabels"].update(pairs)
            for peer in _peers(spec):
                if "matchLabels" in peer.get("podSelector", {}):
                    peer["podSelector"]["matchLabels"].update(pairs)
    if any(field["kind"] == one["kind"] == "PodMonitor" for field in labels["fields"]):
        spec["selector"]["matchLabels"].update(pairs)


def _peers(policy: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for rule in policy["ingress"]:
        yield from rule.get("from", ())
    for rule in policy["egress"]:
        yield from rule.get("to", ())


def _containers(one: dict[str, Any]) -> list[dict[str, Any]]:
    has_pods = one["kind"] in ("StatefulSet", "Deployment")
    return one["spec"]["template"]["spec"]["containers"] if has_pods else []
