"""Settings of connections: Kafka, PostgreSQL and the schema registry, and how they are secured.

A setting is a field here, its variable the field's name in capitals; `docs/settings.md`
lists them all. Whatever is marked `repr=False` is a secret: it is never shown, neither by
this class nor by an error of it. A secret may also lie in a file, see `SECRETS_DIR`.
"""

import logging
import os
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict
from pydantic import AfterValidator, Field, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from schemas.errors import FlowError
from schemas.hidden import Hidden
from schemas.registry import Registry

__all__ = ["ConnectionSettings"]

_LOGGER = logging.getLogger(__name__)
_LOOPBACK = ("127.0.0.1", "[::1]", "localhost")


def _readable(path: Path) -> Path:
    try:
        with path.open("rb"):
            return path
    except OSError as error:
        raise ValueError(error.strerror) from error


def _check_libpq(url: str) -> None:
    try:
        conninfo_to_dict(url)
    except ProgrammingError:  # whose text may repeat a password
        raise ValueError("libpq cannot read it; percent-encode special characters") from None


ReadableFile = Annotated[Path, AfterValidator(_readable)]


class ConnectionSettings(BaseSettings):
    """What every program takes that connects to the outside."""

    model_config = SettingsConfigDict(
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        validate_default=True,
        hide_input_in_errors=True,
    )

    kafka_bootstrap_servers: str | None = Field(
        None, description="Kafka brokers, host:port with commas; unset: the simulated market"
    )
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="encrypted: SSL, SASL_SSL; with a user: SASL_PLAINTEXT, SASL_SSL"
    )
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "PLAIN", description="how the user proves to be it, with SASL"
    )
    kafka_sasl_username: str | None = Field(None, description="the user, with SASL")
    kafka_sasl_password: str | None = Field(
        None, repr=False, description="the user's password, with SASL"
    )
    kafka_ssl_ca_location: ReadableFile | None = Field(
        None, description="PEM file of the CAs that brokers are trusted by; unset: the system's"
    )
    kafka_ssl_certificate_location: ReadableFile | None = Field(
        None, description="PEM file of our own certificate, where brokers want one"
    )
    kafka_ssl_key_location: ReadableFile | None = Field(
        None, description="PEM file of that certificate's private key"
    )
    kafka_ssl_key_password: str | None = Field(
        None, repr=False, description="password of that key, when it has one"
    )
    database_url: str | None = Field(
        None,
        repr=False,
        pattern=r"^(postgres(ql)?://.*|off)$",
        description="libpq URL of PostgreSQL; unset: an embedded server; off: no tables",
    )
    schema_registry_url: str | None = Field(
        None,
        repr=False,
        pattern="^https?://.*",
        description="schema registry; set: values carry its wire format, in and out",
    )
    schema_registry_basic_auth_user_info: str | None = Field(
        None,
        repr=False,
        pattern="^[^:]+:.*",
        description="user:password for the registry, unless its URL holds them",
    )
    schema_registry_ssl_ca_location: ReadableFile | None = Field(
        None, description="PEM file of the CAs that the registry is trusted by; unset: public ones"
    )
    schema_registry_ssl_certificate_location: ReadableFile | None = Field(
        None, description="PEM file of our own certificate, where the registry wants one"
    )
    schema_registry_ssl_key_location: ReadableFile | None = Field(
        None, description="PEM file of that certificate's private key, without a password"
    )
    data_dir: Path = Field(
        Path(".data"), description="where the embedded PostgreSQL and market keep their files"
    )
    secrets_dir: Path | None = Field(
        None, description="directory of files, each named as a variable and holding its value"
    )

    @field_validator("*")
    @classmethod
    def _hide(cls, value: object, field: ValidationInfo) -> object:
        name = str(field.field_name)
        if not isinstance(value, str) or name not in cls._secrets():
            return value
        if name.endswith("database_url") and value != "off":
            _check_libpq(value)
        return Hidden(value)

    @classmethod
    def _secrets(cls) -> set[str]:
        return {name for name, field in cls.model_fields.items() if not field.repr}

    @classmethod
    def load(cls) -> Self:
        """Read the environment, and the files of `SECRETS_DIR`; a variable wins over a file.

        Raises:
            FlowError: Some value is wrong, or several do not go together; names each variable.
        """
        source: dict[str, Any] = {}
        directory = os.environ.get("SECRETS_DIR")
        if directory:
            if not Path(directory).is_dir():
                raise FlowError(
                    f"SECRETS_DIR={directory} is no directory",
                    "Mount the secrets there, or correct the variable.",
                )
            source["_secrets_dir"] = directory
        try:
            settings = cls(**source)
        except ValidationError as error:
            wrong = []
            for problem in error.errors(include_url=False):
                name = str(problem["loc"][0])
                value = "(hidden)" if name in cls._secrets() else repr(problem["input"])
                wrong.append(f"{name.upper()}={value}: {problem['msg']}")
            # Not chained: that error holds what is hidden here.
            raise FlowError(
                "Settings are wrong: " + "; ".join(wrong),
                "Correct the environment variables and start again; docs/settings.md lists "
                "them all.",
            ) from None
        _check_kafka(settings)
        _check_registry(settings)
        settings.check()
        return settings

    def check(self) -> None:
        """See that the values go together; for a flow to say.

        Raises:
            FlowError: They do not.
        """

    @property
    def registry(self) -> Registry | None:
        """The schema registry; None for none."""
        if self.schema_registry_url is None:
            return None
        return Registry(
            self.schema_registry_url,
            self.schema_registry_basic_auth_user_info,
            self.schema_registry_ssl_ca_location,
            self.schema_registry_ssl_certificate_location,
            self.schema_registry_ssl_key_location,
        )


def _check_kafka(settings: ConnectionSettings) -> None:
    protocol = settings.kafka_security_protocol
    with_user, with_tls = protocol.startswith("SASL_"), protocol.endswith("SSL")
    for name in ("kafka_sasl_username", "kafka_sasl_password"):
        if (getattr(settings, name) is not None) != with_user:
            what = ("not set", "needs it") if with_user else ("set", "has no use for it")
            raise FlowError(
                f"{name.upper()} is {what[0]}, and KAFKA_SECURITY_PROTOCOL={protocol} {what[1]}",
                "Set KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD together with SASL_SSL or "
                "SASL_PLAINTEXT, and neither without.",
            )
    files = ("ca_location", "certificate_location", "key_location", "key_password")
    for name in (f"kafka_ssl_{file}" for file in files):
        if getattr(settings, name) is not None and not with_tls:
            raise FlowError(
                f"{name.upper()} is set, and KAFKA_SECURITY_PROTOCOL={protocol} does not encrypt",
                "Set KAFKA_SECURITY_PROTOCOL to SSL or SASL_SSL, or unset that variable.",
            )
    _check_pair(
        "KAFKA_SSL", settings.kafka_ssl_certificate_location, settings.kafka_ssl_key_location
    )
    if settings.kafka_ssl_key_password is not None and settings.kafka_ssl_key_location is None:
        raise FlowError(
            "KAFKA_SSL_KEY_PASSWORD is set, and KAFKA_SSL_KEY_LOCATION is not",
            "Name the key's file, or unset the password.",
        )
    far = [
        address
        for address in (settings.kafka_bootstrap_servers or "").split(",")
        if address.rpartition(":")[0].strip() not in _LOOPBACK
    ]
    if protocol == "SASL_PLAINTEXT" and settings.kafka_sasl_mechanism == "PLAIN" and far:
        _LOGGER.warning(
            "KAFKA_SECURITY_PROTOCOL=SASL_PLAINTEXT sends KAFKA_SASL_PASSWORD to %s in the clear. "
            "Use SASL_SSL, or at least KAFKA_SASL_MECHANISM=SCRAM-SHA-512.",
            ",".join(far),
        )


def _check_registry(settings: ConnectionSettings) -> None:
    url = settings.schema_registry_url
    names = (
        "basic_auth_user_info",
        "ssl_ca_location",
        "ssl_certificate_location",
        "ssl_key_location",
    )
    for name in (f"schema_registry_{name}" for name in names):
        if getattr(settings, name) is None:
            continue
        if url is None or ("_ssl_" in name and not url.startswith("https:")):
            raise FlowError(
                f"{name.upper()} is set, and SCHEMA_REGISTRY_URL is "
                f"{'not' if url is None else 'no https address'}",
                "Set SCHEMA_REGISTRY_URL accordingly, or unset that variable.",
            )
    _check_pair(
        "SCHEMA_REGISTRY_SSL",
        settings.schema_registry_ssl_certificate_location,
        settings.schema_registry_ssl_key_location,
    )
    registry = settings.registry
    if registry is not None and registry.is_told_twice:
        raise FlowError(
            "SCHEMA_REGISTRY_URL holds a user, and SCHEMA_REGISTRY_BASIC_AUTH_USER_INFO is set too",
            "Tell the user in one of them only.",
        )


def _check_pair(prefix: str, certificate: Path | None, key: Path | None) -> None:
    if (certificate is None) != (key is None):
        raise FlowError(
            f"{prefix}_CERTIFICATE_LOCATION and {prefix}_KEY_LOCATION are not both set",
            "Set both or neither; where one file holds certificate and key, name it in both.",
        )
