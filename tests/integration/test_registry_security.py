"""The schema registry behind TLS, and with a user.

The real registry has no users without an identity provider beside it, so what a user's name
and password become on the wire is seen by a server of the test's own.
"""

import base64
import gc
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from confluent_kafka.schema_registry import Schema
from typing_extensions import override

from schemas.avro_files import avro_text
from schemas.avro_registry import AvroRegistry
from schemas.errors import FlowError
from schemas.registry import Registry
from schemas.registry_client import registered
from tests.real.process import HOST
from tests.real.registry import SchemaRegistry
from tests.real.tls import Authority

# The HTTP library of the client calls the way its files are named outdated.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

SCHEMA = Schema(avro_text("sessions.avsc"), "AVRO")


@pytest.mark.registry
# The registry's client cannot be closed, and lets its connections go when it is collected.
@pytest.mark.filterwarnings("ignore:unclosed <ssl.SSLSocket:ResourceWarning")
def test_the_registry_is_verified(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    server = SchemaRegistry(tmp_path, authority=authority)
    server.start()
    try:
        trusted = Registry(server.url, ca=authority.certificate)
        wait_for_its_first_answer(trusted)
        assert registered(trusted, ["a"], SCHEMA, "sessions.avsc") > 0
        assert AvroRegistry(trusted).latest("a") == SCHEMA.schema_str
        assert AvroRegistry(trusted).latest("b") is None
        other = Authority(tmp_path, "other").certificate
        for wrong in (
            Registry(server.url),
            Registry(server.url, ca=other),
            Registry(server.url.replace(HOST, "localhost"), ca=authority.certificate),
        ):
            with pytest.raises(FlowError, match="SCHEMA_REGISTRY_SSL_CA_LOCATION"):
                registered(wrong, ["a"], SCHEMA, "sessions.avsc")
    finally:
        server.stop()
        gc.collect()


def wait_for_its_first_answer(registry: Registry) -> None:
    """It loads much at its first registration, which takes longer than the client waits."""
    deadline = time.monotonic() + 120
    while True:
        try:
            registered(registry, ["first"], SCHEMA, "sessions.avsc")
        except FlowError:
            if time.monotonic() > deadline:
                raise
        else:
            return


class _Asking(BaseHTTPRequestHandler):
    """Wants the user `flows`; knows no subject."""

    @override
    def log_message(self, format: str, *args: object) -> None: ...

    def do_GET(self) -> None:
        wanted = "Basic " + base64.b64encode(b"flows:registry-Secret/%").decode()
        is_known = self.headers.get("Authorization") == wanted
        text = b'{"error_code": 40401, "message": "none"}' if is_known else b"{}"
        self.send_response(404 if is_known else 401)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_POST = do_GET  # noqa: N815  # the name that the library asks for


@contextmanager
def asking() -> Iterator[str]:
    with HTTPServer((HOST, 0), _Asking) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"{HOST}:{server.server_port}"
        server.shutdown()
        thread.join()


def test_user_and_password_reach_it_from_either_variable() -> None:
    with asking() as place:
        in_url = Registry(f"http://flows:registry-Secret%2F%25@{place}")
        apart = Registry(f"http://{place}", "flows:registry-Secret/%")
        for registry in (in_url, apart):
            assert AvroRegistry(registry).latest("a") is None


@pytest.mark.parametrize("url", ["http://", "http://flows:wrong-Secret@"])
def test_a_user_that_is_refused_is_told_the_variable(url: str) -> None:
    with asking() as place:
        registry = Registry(url + place)
        for ask in (
            lambda: AvroRegistry(registry).latest("a"),
            lambda: registered(registry, ["a"], SCHEMA, "sessions.avsc"),
        ):
            with pytest.raises(FlowError, match="BASIC_AUTH_USER_INFO") as caught:
                ask()
            assert "Secret" not in str(caught.value)
            assert "Secret" not in repr(caught.value.__cause__)
