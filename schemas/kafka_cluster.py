"""The first word with the brokers: what topics there are, or why they cannot be reached.

librdkafka tries again for ever, with a wrong password too, and answers every question with
"transport failure" meanwhile. So this listens to what it says beside, and ends at once where
trying again mends nothing: a user or a certificate that was refused.
"""

import time
from collections.abc import Mapping
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, ClusterMetadata

from schemas.errors import FlowError

__all__ = ["REACH_S", "kafka_cluster"]

REACH_S = 10.0
"""How long to wait for a first answer; brokers that are up answer in milliseconds."""

_STEP_S = 1.0
_REFUSED = {KafkaError._AUTHENTICATION, KafkaError._SSL}  # noqa: SLF001  # their public names
_MAYBE_SECURITY = ("SSL", "security.protocol", "SASL", "certificate")


def kafka_cluster(config: Mapping[str, Any]) -> ClusterMetadata:
    """The brokers and all their topics: asked for one by name, a broker may create it.

    Args:
        config: librdkafka settings.

    Raises:
        FlowError: They cannot be reached, or refuse us; names the variables to look at.
    """
    servers = config.get("bootstrap.servers")
    told: list[KafkaError] = []
    try:
        # Silent, since the caller tells what went wrong, once.
        admin = AdminClient({**config, "log_level": 0, "error_cb": told.append})
    except KafkaException as error:
        raise FlowError(
            f"The Kafka client cannot use its settings ({error.args[0].str()})",
            "What it calls ssl.key.location is KAFKA_SSL_KEY_LOCATION, and so on: correct that "
            "file, or KAFKA_SSL_KEY_PASSWORD where its key is encrypted.",
        ) from error
    deadline_s = time.monotonic() + REACH_S
    while True:
        try:
            return admin.list_topics(timeout=_STEP_S)
        except KafkaException as error:
            admin.poll(0)  # brings what is told
            reason = _reason(told) or error.args[0]
            if reason.code() in _REFUSED or time.monotonic() > deadline_s:
                raise FlowError(
                    f"No Kafka broker answers at KAFKA_BOOTSTRAP_SERVERS={servers} "
                    f"({reason.str()})",
                    _hint(reason),
                ) from error


def _reason(told: list[KafkaError]) -> KafkaError | None:
    """The refusal among what was told, else the first that says more than "all are down"."""
    down = KafkaError._ALL_BROKERS_DOWN  # noqa: SLF001  # its public name
    telling = [error for error in told if error.code() != down]
    refusal = next((error for error in telling if error.code() in _REFUSED), None)
    return refusal or next(iter(telling), None)


def _hint(reason: KafkaError) -> str:
    if reason.code() == KafkaError._AUTHENTICATION:  # noqa: SLF001  # its public name
        return (
            "Correct KAFKA_SASL_USERNAME, KAFKA_SASL_PASSWORD or KAFKA_SASL_MECHANISM, or see that "
            "KAFKA_SECURITY_PROTOCOL is what that listener speaks."
        )
    if reason.code() == KafkaError._SSL:  # noqa: SLF001  # its public name
        return (
            "KAFKA_SSL_CA_LOCATION must hold the CA of the brokers' certificates, and "
            "KAFKA_BOOTSTRAP_SERVERS a name that is in them."
        )
    if any(word in reason.str() for word in _MAYBE_SECURITY):
        return (
            "See that KAFKA_SECURITY_PROTOCOL is what that listener speaks; one that asks for a "
            "certificate needs KAFKA_SSL_CERTIFICATE_LOCATION and KAFKA_SSL_KEY_LOCATION."
        )
    return "Start the brokers or correct KAFKA_BOOTSTRAP_SERVERS, then start again."
