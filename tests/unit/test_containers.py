"""What Compose and the image are told: pinned, complete, and true to the settings of the flows.

What needs a container engine is not tried.
"""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deployed import APART, FLOWS, PAGE, ROOT, assert_settings

COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
PROFILES = sorted({profile for one in SERVICES.values() for profile in one.get("profiles", ())})


def substituted(value: str) -> str:
    """As Compose does where no variable is set."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value)


def is_ours(service: Mapping[str, Any]) -> bool:
    return service["image"].startswith("tidemark:")


def is_flow(service: Mapping[str, Any]) -> bool:
    return is_ours(service) and "entrypoint" not in service


def profiles(name: str) -> set[str]:
    return set(SERVICES[name].get("profiles", PROFILES))


def compose() -> list[str]:
    """The command, of whichever version is installed."""
    if shutil.which("docker"):
        asked = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
        if asked.returncode == 0:
            return ["docker", "compose"]
    if not shutil.which("docker-compose"):
        if os.environ.get("CI"):
            pytest.fail("Compose is not installed")
        pytest.skip("Compose is not installed: nobody but this test's own rules reads the file")
    return ["docker-compose"]


def test_compose_accepts_the_file() -> None:
    wanted = [argument for profile in PROFILES for argument in ("--profile", profile)]
    shown = subprocess.run(
        [*compose(), "--file", ROOT / "docker-compose.yml", *wanted, "config"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert shown.returncode == 0, shown.stderr
    found = yaml.safe_load(shown.stdout)["services"]
    assert set(found) == set(SERVICES)
    for name in (*FLOWS, "page", "devices", "sales"):
        assert found[name]["environment"]["KAFKA_BOOTSTRAP_SERVERS"] == "kafka:9092"


@pytest.mark.parametrize("name", SERVICES)
def test_a_service(name: str) -> None:
    service = SERVICES[name]
    image, _, tag = substituted(service["image"]).rpartition(":")
    assert image
    assert re.match(r"v?\d+\.\d+", tag), "pinned"
    for port in service.get("ports", ()):
        assert re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port)
    for volume in service.get("volumes", ()):
        source = volume.split(":")[0]
        assert (ROOT / source).exists() if source.startswith(".") else source in COMPOSE["volumes"]
    for variable, value in service.get("environment", {}).items():
        assert isinstance(value, str), variable
        if "PASSWORD" in variable or ("://" in value and "@" in value):
            assert re.search(r"\$\{\w*PASSWORD:-demo\}", value), variable
    for other, condition in service.get("depends_on", {}).items():
        assert profiles(name) <= profiles(other), "starts with it"
        if condition["condition"] == "service_healthy":
            assert "test" in SERVICES[other]["healthcheck"]
    # It runs once, and others wait for its end.
    assert "test" in service["healthcheck"] or name == "connector"


def test_no_service_waits_for_itself() -> None:
    left = {name: set(service.get("depends_on", ())) for name, service in SERVICES.items()}
    while left:
        free = {name for name, others in left.items() if not others & set(left)}
        assert free, left
        left = {name: others for name, others in left.items() if name not in free}


def test_every_flow_is_a_service_with_settings_that_it_takes() -> None:
    found = set()
    for service in SERVICES.values():
        if not is_flow(service):
            continue
        (flow,) = service["command"]
        found.add(flow)
        assert_settings(flow, {k: substituted(v) for k, v in service["environment"].items()})
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
    assert found == set(FLOWS)


def entry(service: Mapping[str, Any]) -> str:
    return ", ".join(service.get("entrypoint", ()))


def test_drivers_are_commands() -> None:
    for service in SERVICES.values():
        if is_ours(service) and "docker/command" in entry(service):
            (name,) = re.findall(r"docker/command,? (\w+)", entry(service))
            assert (ROOT / "dataflows" / "commands" / f"{name}.py").exists()


def test_a_page_shows_the_flows_of_its_profiles() -> None:
    seen = set()
    for name, service in SERVICES.items():
        if "docker/page" not in entry(service):
            continue
        environment = {k: substituted(v) for k, v in service["environment"].items()}
        assert_settings(PAGE, environment)
        assert environment["PAGE_HOST"] == "0.0.0.0", "in its container; the port is not"
        shown = {
            url.partition("//")[2].removesuffix(":9464/metrics")
            for url in environment["PAGE_METRICS"].split(",")
        }
        at = {
            other.get("network_mode", f"service:{host}").removeprefix("service:")
            for host, other in SERVICES.items()
            if is_flow(other) and profiles(host) & profiles(name)
        }
        assert shown == at
        assert not profiles(name) & seen, "both have the port"
        seen |= profiles(name)
    assert seen == {"market", "apart", "sessions", "sellers"}


def test_market_and_its_parts_are_never_together() -> None:
    for flow in APART:
        assert not profiles(flow) & profiles("market")


def test_every_flow_is_scraped() -> None:
    config = yaml.safe_load((ROOT / "docker/prometheus/prometheus.yml").read_text())
    targets = config["scrape_configs"][0]["static_configs"][0]["targets"]
    expected = {
        f"{service.get('network_mode', name).removeprefix('service:')}:9464"
        for name, service in SERVICES.items()
        if is_flow(service)
    }
    assert set(targets) == expected
    for path in (ROOT / "docker").rglob("*.json"):
        json.loads(path.read_text())


# The image and its scripts


def test_the_dockerfile() -> None:
    text = (ROOT / "Dockerfile").read_text()
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().split() if line[0] == "!"}
    for line in re.findall(r"^COPY (?!--from)(.+)$", text, re.MULTILINE):
        for source in line.split()[:-1]:
            assert (ROOT / source).exists(), source
            assert source.split("/")[0] in kept, source
    assert set(re.findall(r"^FROM (\S+)", text, re.MULTILINE)) == {
        "python:3.12.12-slim-bookworm",
        "base",
        "packages",
    }
    assert "--require-hashes" in text
    assert re.search(r"^USER \d+:\d+$", text, re.MULTILINE)
    assert text.rstrip().endswith('ENTRYPOINT ["tini", "--", "/app/docker/flow"]')


@pytest.mark.parametrize(
    "name", ["flow", "command", "page", "recovery", "healthy", "tables", "topics", "prune", "size"]
)
def test_a_script(name: str) -> None:
    path = ROOT / "docker" / name
    assert os.access(path, os.X_OK)
    subprocess.run(["sh", "-n", path], check=True, timeout=10)


def test_a_pod_finds_the_others_by_their_names(tmp_path: Path) -> None:
    interpreter = tmp_path / "python"  # says what it was started with, and does nothing
    interpreter.write_text('#!/bin/sh\nenv; echo "ARGUMENTS=$*"\n')
    interpreter.chmod(0o755)
    (tmp_path / "recovery" / "ewma-v2").mkdir(parents=True)
    (tmp_path / "recovery" / "ewma-v2" / "part-0.sqlite3").touch()
    for number in range(3):
        ended = subprocess.run(
            [ROOT / "docker" / "flow", "ewma"],
            env={
                "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
                "TMPDIR": str(tmp_path),
                "RECOVERY_ROOT": str(tmp_path / "recovery"),
                "FLOW_VERSION": "2",
                "PROCESSES": "3",
                "BYTEWAX_POD_NAME": f"flow-ewma-{number}",
            },
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        seen = dict(line.split("=", 1) for line in ended.stdout.splitlines() if "=" in line)
        hosts = [f"flow-ewma-{other}.flow-ewma" for other in range(3)]
        hosts[number] = "0.0.0.0"
        assert seen["BYTEWAX_ADDRESSES"] == ";".join(f"{host}:2101" for host in hosts)
        assert seen["BYTEWAX_PROCESS_ID"] == str(number)
        assert seen["BYTEWAX_RECOVERY_DIRECTORY"] == str(tmp_path / "recovery" / "ewma-v2")
        assert seen["ARGUMENTS"] == "-m bytewax.run dataflows.ewma"
