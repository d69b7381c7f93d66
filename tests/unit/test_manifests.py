"""What Kubernetes is told: valid, pinned, complete, and true to the settings of the flows.

Objects are checked against the schemas of Kubernetes itself; what needs a cluster is not tried.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from tests import kustomize
from tests.deployed import APART, FLOWS, PAGE, ROOT, assert_settings
from tests.operator_schemas import SCHEMAS

OVERLAYS = sorted((ROOT / "k8s" / "overlays").iterdir())
BESIDE = ROOT / "k8s" / "beside"


def flow_modules() -> set[str]:
    return {
        path.stem
        for path in (ROOT / "dataflows").glob("*.py")
        if "\ndef flow()" in path.read_text()
    }


def test_all_flows_are_known_here() -> None:
    assert flow_modules() == set(FLOWS)


@pytest.fixture(params=OVERLAYS, ids=lambda path: path.name)
def overlay(request: pytest.FixtureRequest) -> Path:
    return request.param


@pytest.fixture
def objects(overlay: Path) -> list[dict[str, Any]]:
    return kustomize.build(overlay)


def named(objects: list[dict[str, Any]], kind: str) -> dict[str, dict[str, Any]]:
    return {one["metadata"]["name"]: one for one in objects if one["kind"] == kind}


def pods(objects: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Flow, StatefulSet and container of each."""
    for one in named(objects, "StatefulSet").values():
        (container,) = one["spec"]["template"]["spec"]["containers"]
        yield container["args"][0], one, container


def page(objects: list[dict[str, Any]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Its Deployment and container."""
    deployment = named(objects, "Deployment")["page"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    return deployment, container


def variables(
    container: dict[str, Any], shared: dict[str, str], *, has_secrets: bool
) -> dict[str, str]:
    """What the container's program sees, with or without those Secrets that are optional."""
    found = dict(shared)
    for entry in container["env"]:
        name, secret = entry["name"], entry.get("valueFrom", {}).get("secretKeyRef")
        is_url = name.endswith("DATABASE_URL")
        held = f"postgresql://user@host/{secret['name']}" if is_url else "user:password"
        if not secret or is_url or has_secrets:
            found[name] = held if secret else entry.get("value", "pod-0")
        assert not secret or secret.get("optional", False) != is_url
        secrets = ("DATABASE_URL", "SASL_USERNAME", "SASL_PASSWORD", "USER_INFO")
        assert bool(secret) == name.endswith(secrets)
    return found


def test_objects_are_valid(objects: list[dict[str, Any]]) -> None:
    assert_valid([*objects, *kustomize.build(BESIDE)])


def assert_valid(objects: list[dict[str, Any]]) -> None:
    version = kubernetes_validate.latest_version()
    for one in objects:
        if one["apiVersion"] == "monitoring.coreos.com/v1":  # not of Kubernetes itself
            jsonschema.validate(one, SCHEMAS[one["kind"]])
        else:
            kubernetes_validate.validate(one, version, strict=True)
    keys = [(one["kind"], one["metadata"]["name"]) for one in objects]
    assert len(set(keys)) == len(keys)


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
@pytest.mark.parametrize("overlay", [*OVERLAYS, BESIDE], ids=lambda path: path.name)
def test_kubectl_makes_the_same(overlay: Path) -> None:
    objects = kustomize.build(overlay)
    made = subprocess.run(
        ["kubectl", "kustomize", overlay], capture_output=True, text=True, timeout=60, check=True
    )
    theirs = list(yaml.safe_load_all(made.stdout))
    for kind in {one["kind"] for one in objects}:
        assert named(objects, kind) == named(theirs, kind)
    assert len(objects) == len(theirs)


def test_flows_of_an_overlay(objects: list[dict[str, Any]]) -> None:
    flows = [flow for flow, _, _ in pods(objects)]
    assert len(set(flows)) == len(flows)
    assert set(FLOWS) - set(flows) in (APART, {"market"})


def test_replicas_are_the_processes(objects: list[dict[str, Any]]) -> None:
    for _, one, container in pods(objects):
        spec = one["spec"]
        env = {entry["name"]: entry.get("value") for entry in container["env"]}
        assert env["PROCESSES"] == str(spec["replicas"])
        assert spec["podManagementPolicy"] == "Parallel"
        assert spec["updateStrategy"] == {"type": "OnDelete"}
        kept = spec["persistentVolumeClaimRetentionPolicy"]
        assert kept == {"whenScaled": "Retain", "whenDeleted": "Retain"}


def test_pods_are_locked_down(objects: list[dict[str, Any]]) -> None:
    for one, container in [*(found[1:] for found in pods(objects)), page(objects)]:
        pod = one["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert set(container["resources"]["requests"]) == {"cpu", "memory"}
        assert "memory" in container["resources"]["limits"]
        assert re.fullmatch(r".+:\d+\.\d+\.\d+", container["image"])
        mounts = container["volumeMounts"]
        writable = {mount["mountPath"] for mount in mounts if not mount.get("readOnly")}
        kept = {"/var/lib/tidemark/recovery"} if one["kind"] == "StatefulSet" else set()
        assert writable == {"/tmp"} | kept
        assert {mount["mountPath"] for mount in mounts} - writable == {"/etc/tidemark/kafka"}
        # Pods start without the Secrets that only some need.
        assert all(one["secret"]["optional"] for one in pod["volumes"] if "secret" in one)


def test_a_second_version_shares_nothing_with_the_first() -> None:
    first = {(one["kind"], one["metadata"]["name"]) for one in kustomize.build(OVERLAYS[0])}
    second = kustomize.build(BESIDE)
    assert not first & {(one["kind"], one["metadata"]["name"]) for one in second}
    ((flow, one, container),) = pods(second)
    shared = yaml.safe_load((ROOT / "k8s/shared/settings.yaml").read_text())["data"]
    env = variables(container, shared, has_secrets=False)
    assert_settings(flow, env)
    assert env["DATABASE_URL"].endswith("tidemark-database-2")
    assert env["FLOW_VERSION"] != "1"
    assert "OUTPUT_TOPIC" in env
    name = one["metadata"]["name"]
    assert one["spec"]["serviceName"] == name == "flow-candles-2"
    labels = one["spec"]["template"]["metadata"]["labels"]
    assert labels["app.kubernetes.io/name"] == "candles-2"
    assert one["spec"]["selector"]["matchLabels"] == labels


def test_alerts_are_those_of_compose(objects: list[dict[str, Any]]) -> None:
    alerts = yaml.safe_load((ROOT / "docker/prometheus/alerts.yml").read_text())
    assert named(objects, "PrometheusRule")["tidemark"]["spec"] == alerts


def test_probes_ask_for_the_metrics(objects: list[dict[str, Any]]) -> None:
    for _, _, container in pods(objects):
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        env = {entry["name"]: entry.get("value") for entry in container["env"]}
        assert env["METRICS_PORT"] == str(ports["metrics"])
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            assert container[probe]["httpGet"] == {"path": "/metrics", "port": "metrics"}


def test_references_lead_somewhere(objects: list[dict[str, Any]]) -> None:
    for flow, one, container in pods(objects):
        name, spec = one["metadata"]["name"], one["spec"]
        labels = spec["template"]["metadata"]["labels"]
        assert spec["serviceName"] == name, "the script takes the one for the other"
        assert spec["template"]["spec"]["serviceAccountName"] in named(objects, "ServiceAccount")
        for source in container["envFrom"]:
            assert source["configMapRef"]["name"] in named(objects, "ConfigMap")
        ports = {port["name"] for port in container["ports"]}
        service = named(objects, "Service")[name]["spec"]
        policy = named(objects, "NetworkPolicy")[name]["spec"]
        monitor = named(objects, "PodMonitor")[name]["spec"]
        budget = named(objects, "PodDisruptionBudget")[name]["spec"]
        assert (service["clusterIP"], service["publishNotReadyAddresses"]) == ("None", True)
        assert {port["targetPort"] for port in service["ports"]} == ports
        assert {port["port"] for rule in policy["ingress"] for port in rule["ports"]} == ports
        allowed = {
            port["port"] for port in policy["egress"][-1 if flow != "deribit" else -2]["ports"]
        }
        assert allowed == {9092, 9093, 5432, 8081, 4317}
        assert {one["port"] for one in monitor["podMetricsEndpoints"]} <= ports
        for selector in (
            service["selector"],
            *(part["matchLabels"] for part in (policy["podSelector"], spec["selector"])),
            *(part["selector"]["matchLabels"] for part in (monitor, budget)),
        ):
            assert selector == labels
        assert labels["app.kubernetes.io/name"] == flow


def test_programs_take_what_kubernetes_gives(objects: list[dict[str, Any]], tmp_path: Path) -> None:
    shared = named(objects, "ConfigMap")["tidemark"]["data"]
    ca = tmp_path / "ca.crt"
    ca.touch()
    secured = shared | {
        "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
        "KAFKA_SSL_CA_LOCATION": str(ca),
        "SCHEMA_REGISTRY_URL": "https://registry",
    }
    programs = [(flow, container) for flow, _, container in pods(objects)]
    for program, container in [*programs, (PAGE, page(objects)[1])]:
        assert_settings(program, variables(container, shared, has_secrets=False))
        assert_settings(program, variables(container, secured, has_secrets=True))


def test_the_page_shows_every_process(objects: list[dict[str, Any]]) -> None:
    deployment, container = page(objects)
    (port,) = container["ports"]
    policies = named(objects, "NetworkPolicy")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"] == {"path": "/healthz", "port": port["name"]}
    assert named(objects, "Service")["page"]["spec"]["selector"] == labels
    assert policies["page"]["spec"]["podSelector"]["matchLabels"] == labels
    (shown,) = (entry["value"] for entry in container["env"] if entry["name"] == "PAGE_METRICS")
    hosts = re.findall(r"http://([^:]+):9464/metrics", shown)
    expected = []
    for flow, one, _ in pods(objects):
        name = one["metadata"]["name"]
        expected += [f"{name}-{n}.{name}" for n in range(one["spec"]["replicas"])]
        (peer,) = policies[name]["spec"]["ingress"][1]["from"][1:]
        (rule,) = peer["podSelector"]["matchExpressions"]
        assert rule["values"] == [labels[rule["key"]]]
        assert labels.get("app.kubernetes.io/part-of") is None, f"it would be one of {flow}"
    assert set(expected) - set(hosts) == {"flow-vehicles-0.flow-vehicles"}, "it shows none of them"
    assert len(hosts) == len(set(hosts)) == len(expected) - 1


def test_only_the_public_overlay_opens_the_page(
    overlay: Path, objects: list[dict[str, Any]]
) -> None:
    opened = named(objects, "NetworkPolicy")["page"]["spec"]["ingress"]
    ingresses = named(objects, "Ingress")
    if overlay.name != "public":
        assert (opened, ingresses) == ([], {})
        return
    ingress = ingresses["page"]
    assert ingress["metadata"]["annotations"]["nginx.ingress.kubernetes.io/auth-type"] == "basic"
    assert ingress["spec"]["tls"]
    assert opened[0]["ports"] == [{"port": "http"}]


def test_the_chart_and_waxctl_name_flows_and_settings() -> None:
    values = yaml.safe_load((ROOT / "k8s/helm/values.yaml").read_text())
    assert_settings(values["env"]["FLOW"], values["env"])
    assert values["configuration"]["keepAlive"] is False
    assert values["configuration"]["recovery"]["enabled"] is True
    assert os.access(ROOT / "k8s/waxctl/deploy", os.X_OK)


def test_the_guide_names_every_alert() -> None:
    alerts = yaml.safe_load((ROOT / "docker/prometheus/alerts.yml").read_text())
    guide = (ROOT / "docs/operator.md").read_text()
    named_there = re.findall(r"^\| \[(\w+)\]\(runbook\.md#", guide, re.MULTILINE)
    assert named_there == [rule["alert"] for group in alerts["groups"] for rule in group["rules"]]
