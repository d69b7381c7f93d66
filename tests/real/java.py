"""Java programs from Maven: finds the tools, fetches jars once, says what is missing.

Contract: `fetch` answers with a complete directory or raises; two processes may fetch at
once; a changed pom has a directory of its own. Where Maven finds its repositories is the
business of the user's own Maven settings.
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from tests.real.process import StartError

__all__ = ["CACHE_DIR", "DEBEZIUM_POM", "KAFKA_POM", "REGISTRY_POM", "fetch", "jvm", "missing"]

CACHE_DIR = Path(__file__).parents[2] / ".cache" / "java"
KAFKA_POM = Path(__file__).with_name("pom.xml")
DEBEZIUM_POM = Path(__file__).with_name("debezium-pom.xml")
REGISTRY_POM = Path(__file__).with_name("registry-pom.xml")

_OLDEST_JAVA = 17  # what Kafka 4 brokers need
_MAVEN_TIMEOUT_S = 540


def jvm(*options: str) -> list[str]:
    """The launcher with options; those in `TEST_JAVA_OPTIONS` follow, and so win.

    Raises:
        StartError: There is no Java, or it is too old.
    """
    found, problem = _find_java()
    if found is None:
        raise StartError(problem)
    return [found, *options, *os.environ.get("TEST_JAVA_OPTIONS", "").split()]


def missing(pom: Path, cache_dir: Path = CACHE_DIR) -> str:
    """What this machine lacks to run what `pom` names; empty when nothing."""
    found, problem = _find_java()
    if found is None:
        return problem
    if not _directory(pom, cache_dir).is_dir() and shutil.which("mvn") is None:
        return "Maven (mvn) was not found"
    return ""


def fetch(pom: Path, cache_dir: Path = CACHE_DIR) -> Path:
    """Directory with everything `pom` depends on, .tar.gz archives unpacked.

    Raises:
        StartError: Maven is missing or failed; the message holds what it said.
    """
    target = _directory(pom, cache_dir)
    if target.is_dir():
        return target
    cache_dir.mkdir(parents=True, exist_ok=True)
    # One lock for all poms: Maven's local repository is not made for two writers either.
    with _locked(cache_dir / ".lock"):
        if not target.is_dir():
            with tempfile.TemporaryDirectory(dir=cache_dir, prefix=".fetch-") as scratch:
                complete = Path(scratch) / "lib"
                complete.mkdir()
                _copy_dependencies(pom, complete)
                _unpack(complete)
                complete.rename(target)
    return target


def _directory(pom: Path, cache_dir: Path) -> Path:
    digest = hashlib.sha256(pom.read_bytes()).hexdigest()[:16]
    return cache_dir / f"{pom.stem}-{digest}"


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _copy_dependencies(pom: Path, directory: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise StartError("Maven (mvn) was not found; install it to fetch what the tests run on")
    command = [
        *(maven, "--batch-mode", "--quiet", "--file", str(pom)),
        "dependency:copy-dependencies",  # the pom pins the plugin's version
        "-DincludeScope=runtime",
        f"-DoutputDirectory={directory}",
    ]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_MAVEN_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise StartError(f"Maven did not fetch {pom} in {_MAVEN_TIMEOUT_S} s") from error
    if done.returncode != 0:
        raise StartError(f"Maven could not fetch {pom}:\n{done.stdout[-4_000:]}")


def _unpack(directory: Path) -> None:
    for archive in directory.glob("*.tar.gz"):
        with tarfile.open(archive) as files:
            files.extractall(directory, filter="data")
        archive.unlink()


@cache
def _find_java() -> tuple[str | None, str]:
    """Launcher and the reason why there is none: JAVA_HOME first, as Maven does."""
    home = os.environ.get("JAVA_HOME")
    found = shutil.which("java", path=f"{home}/bin") if home else shutil.which("java")
    if found is None:
        return None, f"Java {_OLDEST_JAVA} was not found"
    said = subprocess.run(
        [found, "-version"], capture_output=True, text=True, timeout=60, check=False
    ).stderr
    version = re.search(r'version "(\d+)', said)
    if version is None or int(version[1]) < _OLDEST_JAVA:
        return None, f"Java {_OLDEST_JAVA} is needed, {found} is {said.splitlines()[:1]}"
    return found, ""
