"""A real Kafka broker that also listens with TLS and SASL, and asks who may do what.

Contract: besides the plain listener of `KafkaBroker`, whose unnamed user may do everything,
so that tests can look at what flows did. The user `flows` may do everything too, `limited` only
what a test allows it. Passwords are for `PLAIN` and for `SCRAM`.
"""

from pathlib import Path

from typing_extensions import override

from tests.real.java import CACHE_DIR
from tests.real.kafka import KafkaBroker
from tests.real.process import HOST, free_port
from tests.real.tls import Authority

__all__ = ["SecuredKafkaBroker"]

_PROPERTIES = """\
listeners=PLAINTEXT://{host}:{{port}},CONTROLLER://{host}:{{controller_port}},{listeners}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,\
SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL
ssl.keystore.type=PEM
ssl.keystore.location={keystore}
ssl.truststore.type=PEM
ssl.truststore.location={truststore}
listener.name.ssl.ssl.client.auth=required
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS;User:flows;User:CN=flows
"""
_LOGIN = (
    "listener.name.{listener}.{mechanism}.sasl.jaas.config="
    "org.apache.kafka.common.security.{module} required{users};\n"
)


class SecuredKafkaBroker(KafkaBroker):
    """One broker.

    Args:
        directory: As of `KafkaBroker`.
        cache_dir: As of `KafkaBroker`.

    Attributes:
        authority: signed the broker's certificate, which is valid for 127.0.0.1 alone.
        passwords: by user.
        addresses: `127.0.0.1:port` by `security.protocol`; `SSL` asks for a certificate.
    """

    def __init__(self, directory: Path, *, cache_dir: Path = CACHE_DIR) -> None:
        super().__init__(directory, cache_dir=cache_dir)
        self.authority = Authority(directory)
        self.passwords = {"flows": "sasl-Secret-1", "limited": "sasl-Secret-2"}
        protocols = ("SSL", "SASL_PLAINTEXT", "SASL_SSL")
        self.addresses = {protocol: f"{HOST}:{free_port()}" for protocol in protocols}
        certificate, key = self.authority.issue("broker", HOST)
        keystore = directory / "broker.pem"
        keystore.write_bytes(key.read_bytes() + certificate.read_bytes())
        users = "".join(f' user_{name}="{word}"' for name, word in self.passwords.items())
        logins = [
            _LOGIN.format(listener=listener, mechanism=mechanism, module=module, users=names)
            for listener in ("sasl_plaintext", "sasl_ssl")
            for mechanism, module, names in (
                ("plain", "plain.PlainLoginModule", users),
                ("scram-sha-256", "scram.ScramLoginModule", ""),
                ("scram-sha-512", "scram.ScramLoginModule", ""),
            )
        ]
        self._more_properties = _PROPERTIES.format(
            host=HOST,
            listeners=",".join(f"{name}://{place}" for name, place in self.addresses.items()),
            keystore=keystore,
            truststore=self.authority.certificate,
        ) + "".join(logins)

    @property
    @override
    def properties(self) -> str:
        return super().properties + self._more_properties

    @property
    @override
    def format_options(self) -> list[str]:
        return [
            part
            for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512")
            for name, word in self.passwords.items()
            for part in ("--add-scram", f"{mechanism}=[name={name},password={word}]")
        ]

    def environment(self, protocol: str = "SASL_SSL", user: str = "flows") -> dict[str, str]:
        """Settings of a flow that reaches this broker as `user`; without brokers' addresses
        of another listener."""
        env = {
            "KAFKA_BOOTSTRAP_SERVERS": self.addresses[protocol],
            "KAFKA_SECURITY_PROTOCOL": protocol,
        }
        if protocol.startswith("SASL"):
            env["KAFKA_SASL_USERNAME"] = user
            env["KAFKA_SASL_PASSWORD"] = self.passwords[user]
        if protocol.endswith("SSL"):
            env["KAFKA_SSL_CA_LOCATION"] = str(self.authority.certificate)
        return env
