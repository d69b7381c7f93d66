"""The audit of dependencies fails when it must and only then; and everything is pinned."""

import json
import re
from datetime import date
from typing import Any

import pytest

from tests.audit import IGNORED, LOCKS, ROOT, Ignored, verdict

TODAY = date(2026, 11, 29)
CLEAN: dict[str, Any] = {"name": "attrs", "version": "26.1.0", "vulns": []}
SKIPPED = {"name": "numpy", "skip_reason": "Dependency not found on PyPI"}
BAD = CLEAN | {
    "vulns": [{"id": "PYSEC-1", "aliases": ["CVE-1"], "fix_versions": ["26.2"], "description": ""}]
}


def answer(*packages: dict[str, Any], **more: Any) -> tuple[str, bool]:
    lines, is_bad = verdict("a.lock", json.dumps({"dependencies": packages}), "", TODAY, **more)
    return "\n".join(lines), is_bad


def test_all_packages_without_a_finding_pass() -> None:
    assert answer(CLEAN, CLEAN) == ("a.lock: 2 packages audited", False)


def test_a_finding_fails() -> None:
    text, is_bad = answer(CLEAN, BAD)
    assert is_bad
    assert "attrs 26.1.0 has PYSEC-1, fixed in 26.2" in text


@pytest.mark.parametrize("name", ["PYSEC-1", "CVE-1"])
def test_a_finding_is_ignored_for_a_time_and_with_a_reason(name: str) -> None:
    until = {name: Ignored("not called", date(2027, 1, 1))}
    text, is_bad = answer(BAD, ignored=until)
    assert not is_bad
    assert "ignored until 2027-01-01: not called" in text
    assert answer(BAD, ignored={name: Ignored("not called", TODAY)})[1]


def test_a_service_that_knows_nothing_is_told_loudly() -> None:
    text, is_bad = answer(SKIPPED, SKIPPED)
    assert not is_bad
    assert text.startswith("NOT AUDITED: a.lock: the service knows none of its 2 packages")


def test_a_package_that_alone_is_passed_over_fails() -> None:
    text, is_bad = answer(CLEAN, SKIPPED)
    assert is_bad
    assert "numpy was passed over" in text


def test_a_service_out_of_reach_is_told_loudly_and_anything_else_fails() -> None:
    away = "Traceback\nrequests.exceptions.ProxyError: Max retries exceeded"
    lines, is_bad = verdict("a.lock", "", away, TODAY)
    assert not is_bad
    assert lines[0].startswith("NOT AUDITED: a.lock")
    for errors in ("", "ERROR:pip_audit._cli:requirement foo is missing a hash"):
        assert verdict("a.lock", "", errors, TODAY).is_bad


def test_what_is_ignored_has_a_reason_and_ends() -> None:
    assert all(ignored.reason for ignored in IGNORED.values())


@pytest.mark.parametrize("name", LOCKS)
def test_every_requirement_is_pinned_with_hashes(name: str) -> None:
    lines = re.sub(r" *\\\n *", " ", (ROOT / name).read_text()).splitlines()
    requirements = [line for line in lines if line and not line.lstrip().startswith("#")]
    assert len(requirements) > 20
    for line in requirements:
        assert re.fullmatch(
            r"[\w.-]+(\[[\w,-]+\])?==[\w.!+-]+( ; [^#]+?)?( --hash=sha256:[0-9a-f]{64})+", line
        ), line


def test_the_base_image_is_pinned() -> None:
    stages: set[str] = set()
    for image, stage in re.findall(
        r"^FROM (\S+)(?: AS (\w+))?$", (ROOT / "Dockerfile").read_text(), re.MULTILINE
    ):
        assert image in stages or re.fullmatch(r".+:\d+\.\d+\.\d+(-[\w.-]+)?", image), image
        stages.add(stage)
    assert stages
