"""Known vulnerabilities of everything the lock files pin: `make audit`.

Contract: exit status 1 for a finding that `IGNORED` does not hold, for a package that was
passed over while others were audited, and for a lock file that cannot be read. Where the
service that knows vulnerabilities is out of reach there is nothing to fail on: one loud line
says so.
"""

import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import NamedTuple

__all__ = ["IGNORED", "Ignored", "Verdict", "main", "verdict"]

ROOT = Path(__file__).parents[1]
LOCKS = ("requirements.lock", "requirements-dev.lock")
_TIMEOUT_S = 600
_OUT_OF_REACH = re.compile(r"requests\.exceptions\.|Could not connect|not redirecting properly")


class Ignored(NamedTuple):
    """A finding that does not concern us.

    Attributes:
        reason: why not.
        until: from then on it is told again.
    """

    reason: str
    until: date


IGNORED: Mapping[str, Ignored] = {}
"""By id, such as `PYSEC-2026-1` or `GHSA-…`."""


class Verdict(NamedTuple):
    """What is known of a lock file.

    Attributes:
        lines: what to tell.
        is_bad: whether that is a reason to fail.
    """

    lines: list[str]
    is_bad: bool


def main(arguments: Sequence[str] | None = None) -> int:
    """Audit the lock files, or those that are named; the exit status."""
    status = 0
    for name in arguments or LOCKS:
        # With hashes for every package, nothing is resolved and nothing is installed.
        command = [
            *(sys.executable, "-m", "pip_audit", "--disable-pip", "--require-hashes"),
            *("--progress-spinner", "off", "--format", "json", "--requirement", str(ROOT / name)),
        ]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
        found = verdict(name, done.stdout, done.stderr, date.today())  # noqa: DTZ011  # of this place
        sys.stdout.write("".join(f"{line}\n" for line in found.lines))
        status |= found.is_bad
    return int(status)


def verdict(
    name: str,
    printed: str,
    errors: str,
    today: date,
    ignored: Mapping[str, Ignored] = IGNORED,
) -> Verdict:
    """What pip-audit's answer means.

    Args:
        name: of the lock file.
        printed: its standard output, JSON where it came to an end.
        errors: its standard error.
        today: for findings that are ignored for a time.
        ignored: those, by id.
    """
    if not printed.strip():
        last = (errors.strip().splitlines() or ["it says nothing"])[-1]
        if _OUT_OF_REACH.search(last):
            return Verdict([f"NOT AUDITED: {name}: the service is out of reach ({last})"], False)
        return Verdict([f"{name} cannot be audited: {last}"], True)
    packages = json.loads(printed)["dependencies"]
    passed_over = [package["name"] for package in packages if "skip_reason" in package]
    if len(passed_over) == len(packages):
        text = f"NOT AUDITED: {name}: the service knows none of its {len(packages)} packages. "
        return Verdict([text + "Run `make audit` where the index tells vulnerabilities."], False)
    lines = [f"{name}: {package} was passed over" for package in passed_over]
    is_bad = bool(passed_over)
    for package in packages:
        for finding in package.get("vulns", ()):
            known = next(
                (ignored[i] for i in (finding["id"], *finding["aliases"]) if i in ignored), None
            )
            what = f"{name}: {package['name']} {package['version']} has {finding['id']}"
            if known is not None and today < known.until:
                lines.append(f"{what}, ignored until {known.until}: {known.reason}")
            else:
                fixed = ", ".join(finding["fix_versions"]) or "nothing yet"
                lines.append(f"{what}, fixed in {fixed}")
                is_bad = True
    audited = len(packages) - len(passed_over)
    return Verdict([*lines, f"{name}: {audited} packages audited"], is_bad)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
