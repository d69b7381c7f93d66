"""A real schema registry (Apicurio, in memory) that speaks the Confluent API.

Contract: listens on 127.0.0.1 only and forgets everything when it ends. Its compatibility
level is NONE unless a test sets one for its subject.
"""

import json
import ssl
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path

from tests.real.java import CACHE_DIR, REGISTRY_POM, fetch, jvm
from tests.real.process import HOST, Child, StartError, free_port, wait_until_ready
from tests.real.tls import Authority

__all__ = ["SchemaRegistry"]

_START_TIMEOUT_S = 480.0
_PATH = "/apis/ccompat/v7"


class SchemaRegistry:
    """One registry.

    Args:
        directory: Existing, for its log.
        cache_dir: Where the program is, or will be fetched to.
        authority: Signs its certificate, for 127.0.0.1; None for HTTP without TLS.

    Attributes:
        url: for `SchemaRegistryClient`, ending in `/apis/ccompat/v7`.
        log: file with its output.
    """

    def __init__(
        self,
        directory: Path,
        *,
        cache_dir: Path = CACHE_DIR,
        authority: Authority | None = None,
    ) -> None:
        self._port = free_port()
        self._cache_dir = cache_dir
        self._child: Child | None = None
        self._context: ssl.SSLContext | None = None
        self._listens = [f"-Dquarkus.http.port={self._port}"]
        if authority is not None:
            self._context = ssl.create_default_context(cafile=authority.certificate)
            certificate, key = authority.issue("registry", HOST)
            self._listens = [
                "-Dquarkus.http.insecure-requests=disabled",
                f"-Dquarkus.http.ssl-port={self._port}",
                f"-Dquarkus.http.ssl.certificate.files={certificate}",
                f"-Dquarkus.http.ssl.certificate.key-files={key}",
            ]
        self.url = f"{'https' if authority else 'http'}://{HOST}:{self._port}{_PATH}"
        self.log = directory / "registry.log"

    def start(self) -> None:
        """Start it and wait until it is ready.

        Raises:
            StartError: It did not come up; the message holds the end of its log.
        """
        if self._child is not None and self._child.returncode is None:
            return
        runner = next(fetch(REGISTRY_POM, self._cache_dir).rglob("*-runner.jar"), None)
        if runner is None:
            raise StartError(f"What {REGISTRY_POM} fetched holds no runner.jar")
        self._child = Child(
            [
                *jvm("-Xmx768m", "-XX:+UseSerialGC", f"-Dquarkus.http.host={HOST}"),
                *(*self._listens, "-jar", str(runner)),
            ],
            log=self.log,
        )
        wait_until_ready(
            self._child, self._ready, what="The schema registry", timeout_s=_START_TIMEOUT_S
        )

    def stop(self) -> None:
        """SIGTERM, and wait."""
        if self._child is not None:
            self._child.stop()

    def _ready(self) -> bool:
        connection = (
            HTTPSConnection(HOST, self._port, timeout=2, context=self._context)
            if self._context
            else HTTPConnection(HOST, self._port, timeout=2)
        )
        try:
            connection.request("GET", f"{_PATH}/subjects")
            answer = connection.getresponse()
            subjects = answer.read()
        except (OSError, HTTPException):
            return False
        finally:
            connection.close()
        # A registry with subjects in it would be somebody else's.
        return answer.status == 200 and json.loads(subjects) == []
