"""A real PostgreSQL that asks everybody but its superuser for a password, and for TLS.

The wheel's server is built without OpenSSL, so TLS takes the server of the system where there
is one that has it. Contract: as of `PostgresServer`; the certificate is valid for 127.0.0.1 alone.
"""

import os
import shutil
import subprocess
from pathlib import Path

import psycopg
from psycopg import sql
from typing_extensions import override

from tests.real.postgres import PostgresServer
from tests.real.process import HOST
from tests.real.tls import Authority

__all__ = ["SecuredPostgresServer", "missing_tls"]

_RULES = """\
local   all postgres                    trust
host    all postgres    {host}/32       trust
{kind}  all certified   {host}/32       {certified}
{kind}  all all         {host}/32       scram-sha-256
"""


class SecuredPostgresServer(PostgresServer):
    """One server.

    Args:
        directory: As of `PostgresServer`.

    Attributes:
        has_tls: whether a server with OpenSSL was found; all but the superuser must use it then.
        authority: signed its certificate, and signs those of the role `certified`.
    """

    def __init__(self, directory: Path) -> None:
        binaries = _with_openssl()
        self.has_tls = binaries is not None
        self.authority = Authority(directory)
        self._certificate, self._key = self.authority.issue("server", HOST)
        settings = {
            "ssl": "on",
            "ssl_cert_file": str(self._certificate),
            "ssl_key_file": str(self._key),
            "ssl_ca_file": str(self.authority.certificate),
        }
        super().__init__(directory, settings=settings if self.has_tls else {}, binaries=binaries)

    @override
    def prepare(self, data: Path, user: str) -> None:
        kind, certified = ("hostssl", "cert") if self.has_tls else ("host", "reject")
        rules = _RULES.format(host=HOST, kind=kind, certified=certified)
        (data / "pg_hba.conf").write_text(rules)
        if user:
            shutil.chown(self._key, user)

    def create_role(self, name: str, password: str, attributes: str = "LOGIN") -> None:
        """A role that may do nothing yet."""
        self.execute(
            sql.SQL("CREATE ROLE {} {} PASSWORD {}").format(
                sql.Identifier(name), sql.SQL(attributes), sql.Literal(password)
            )
        )

    def execute(self, *statements: sql.Composable | str, database: str = "postgres") -> None:
        """Run statements as superuser."""
        with psycopg.connect(self.database_url(database), autocommit=True) as connection:
            for statement in statements:
                connection.execute(
                    sql.SQL(statement) if isinstance(statement, str) else statement  # type: ignore[arg-type]
                )

    def role_url(self, name: str, password: str, database: str, **parameters: str) -> str:
        """libpq URL of a role, encrypted and verified where that can be."""
        if self.has_tls:
            verified = {"sslmode": "verify-full", "sslrootcert": str(self.authority.certificate)}
            parameters = {**verified, **parameters}
        url = self.database_url(database).replace("postgres@", f"{name}:{password}@", 1)
        return url + "?" + "&".join("=".join(pair) for pair in parameters.items())


def missing_tls() -> str:
    """What is not installed for TLS, in words; empty when nothing."""
    if _with_openssl() is not None:
        return ""
    return "no PostgreSQL with OpenSSL is installed, and the wheel's is built without"


def _with_openssl() -> Path | None:
    """Binaries of a server that can speak TLS."""
    found = shutil.which("postgres", path=os.environ.get("PATH", ""))
    places = [Path(found).resolve().parent] if found else []
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for place in places:
        if not (place / "initdb").exists() or not (place / "pg_config").exists():
            continue
        built = subprocess.run(
            [place / "pg_config", "--configure"], capture_output=True, text=True, check=False
        ).stdout
        if "--with-openssl" in built or "--with-ssl=openssl" in built:
            return place
    return None
