"""WebSocket servers that do what a test tells them, well or badly; and a certificate."""

import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode
from websockets.sync.server import ServerConnection, serve

from sources.deribit_socket import TextSocket

HOST = "127.0.0.1"

Talk = Callable[[ServerConnection], object]
"""What a server does with a connection."""


@contextmanager
def serving(talk: Talk, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """A server whose handler is `talk`; yields its URL."""

    def handler(connection: ServerConnection) -> None:
        with suppress(ConnectionClosed, OSError):
            talk(connection)

    with serve(handler, HOST, 0, ssl=tls, ping_interval=None, close_timeout=1) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        scheme, port = "wss" if tls else "ws", server.socket.getsockname()[1]
        yield f"{scheme}://{HOST}:{port}/any?query=1"
    thread.join()


@contextmanager
def talking(talk: Talk) -> Iterator[TextSocket]:
    """A connection to such a server."""
    with serving(talk) as url, closing(TextSocket(url)) as texts:
        yield texts


@contextmanager
def answering(talk: Callable[[socket.socket], object]) -> Iterator[str]:
    """A TCP server for one client, which need not speak WebSocket; yields its URL."""

    def handler() -> None:
        with suppress(OSError), listening.accept()[0] as connection:
            talk(connection)

    with socket.create_server((HOST, 0)) as listening:
        thread = threading.Thread(target=handler)
        thread.start()
        yield f"ws://{HOST}:{listening.getsockname()[1]}/"
        thread.join()


def whole_frame(text: bytes) -> bytes:
    """A message as it is on the wire."""
    return Frame(Opcode.TEXT, text).serialize(mask=False)


def hang_up(connection: ServerConnection) -> None:
    """End the connection without a word, after what was written."""
    connection.socket.shutdown(socket.SHUT_RDWR)


def echo(connection: ServerConnection) -> None:
    """Send back what comes."""
    for text in connection:
        connection.send(text)


def write_certificate(path: Path) -> None:
    """Key and certificate of 127.0.0.1 in one file, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "simulated exchange")])
    now = datetime.now(UTC)
    alternative = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(HOST))])
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(alternative, critical=False)
        .sign(key, hashes.SHA256())
    )
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + signed.public_bytes(serialization.Encoding.PEM)
    )
