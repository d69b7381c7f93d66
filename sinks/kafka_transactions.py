"""Writes rows and progress to Kafka in transactions, for one sink partition.

Why each row is there once: a transaction holds rows and the positions they reach, and is
visible to `read_committed` readers as a whole or not at all. `init_transactions` shuts out
every earlier process with the same transactional id and decides what it left open; the
positions read after that are final. A transaction whose outcome is unknown is asked about
until known; its rows are written again only after an abort succeeded, and then only
those that lie after the positions read anew.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import cast

from confluent_kafka import KafkaError, KafkaException, Producer

from schemas import failpoints
from schemas.errors import FlowError
from schemas.stream import NEVER, FlowIdentity, Output
from sinks.fingerprint import check_fingerprint
from sinks.kafka_columns import produce_columns
from sinks.kafka_progress import (
    TRANSACTION_TIMEOUT_S,
    Progress,
    fingerprint_record,
    position_record,
    read_progress,
)
from sinks.kafka_records import Headers, KafkaRoute, records_by_partition
from sinks.kafka_topics import ClientConfig, producer_config
from sinks.telling import tell_retry

__all__ = ["KafkaCommitter"]

OUTAGE_S = float(TRANSACTION_TIMEOUT_S)
"""An outage longer than this ends the process; a longer one would abort its transaction."""

_LOGGER = logging.getLogger(__name__)
_CALL_S = 5.0
_BACKOFF_S = 0.1
_FENCED = {
    KafkaError._FENCED,  # noqa: SLF001  # librdkafka's own codes are named like this
    KafkaError.PRODUCER_FENCED,
    KafkaError.INVALID_PRODUCER_EPOCH,
}
_HOPELESS = {
    KafkaError.MSG_SIZE_TOO_LARGE,
    KafkaError.INVALID_RECORD,
    KafkaError.INVALID_TIMESTAMP,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
    KafkaError._UNKNOWN_PARTITION,  # noqa: SLF001
    KafkaError._UNKNOWN_TOPIC,  # noqa: SLF001
}


class KafkaCommitter:
    """A transactional producer and its progress; see `sinks.group_commit.Committer`.

    Args:
        identity: Whose progress; names the transactional id.
        routes: By kind of output.
        client_config: For reaching the brokers.
        progress_topic: Exists, with a partition for this sink partition.
        name: Of the sink partition, such as `00`.
    """

    def __init__(
        self,
        identity: FlowIdentity,
        routes: Mapping[str, KafkaRoute],
        client_config: ClientConfig,
        progress_topic: str,
        name: str,
    ) -> None:
        self._identity = identity
        self._routes = routes
        self._client_config = client_config
        self._progress_topic = progress_topic
        self._name = name
        self._partition = int(name)
        # With the topic: two outputs of one flow are no successors of each other.
        self._transactional_id = f"{identity.flow_id}-{progress_topic}-{name}"
        self._begun = False
        self._producer: Producer | None = None

    def open(self) -> Mapping[str, int]:
        """Fence predecessors, decide what they left open, and read the positions.

        Raises:
            FlowError: The brokers do not answer, or the progress belongs to other settings.
        """
        self._producer = Producer(
            {
                **producer_config(self._client_config),
                "transactional.id": self._transactional_id,
                "transaction.timeout.ms": TRANSACTION_TIMEOUT_S * 1000,
                # The default of 100 also delays the first request of a transaction.
                "retry.backoff.ms": 1,
                # Each transaction ends with a flush, which does not wait for it; until then
                # batches may grow, and cost a third of what many small ones do.
                "linger.ms": 50,
                # A failed delivery fails the commit, which says why.
                "delivery.report.only.error": True,
            },
            logger=_LOGGER,
        )
        try:
            self._repeat(self._producer.init_transactions)
            self._meet_topics(self._producer)
        except KafkaException as error:
            raise self._end_of_run(error.args[0]) from error
        return self._read_progress().positions

    def _meet_topics(self, producer: Producer) -> None:
        """The client would look for a topic up to a second after the first record for it."""
        topics = {topic for route in self._routes.values() for topic in route.topics}
        for topic in sorted({self._progress_topic, *topics}):
            producer.list_topics(topic, _CALL_S)

    def commit(self, outputs: Sequence[Output]) -> None:
        """See `Committer`.

        Raises:
            FlowError: Another process has taken over, the brokers were away for too long,
                or they refuse a record.
        """
        left, retries = list(outputs), 0
        deadline_s = time.monotonic() + OUTAGE_S
        while left:
            try:
                self._write(left)
            except KafkaException as error:
                cause = self._cause(error.args[0])
                self._abort(cause)
                if cause.code() in _HOPELESS or time.monotonic() > deadline_s:
                    raise self._end_of_run(cause) from error
                tell_retry(
                    self._identity.name,
                    "kafka",
                    self._name,
                    left,
                    cause.str(),
                    is_first=not retries,
                )
                retries += 1
                time.sleep(_BACKOFF_S)
                positions = self._read_progress().positions
                rests = (item.after(positions.get(item.lane, NEVER)) for item in left)
                left = [rest for rest in rests if rest is not None]
            else:
                return

    def close(self) -> None:
        """See `Committer`.

        Leaves a transaction whose outcome is unknown to the successor: `Producer.close`
        would try to abort it.
        """
        self._producer = None

    def _write(self, outputs: Sequence[Output]) -> None:
        producer = self._opened()
        producer.begin_transaction()
        failpoints.reached("kafka.before_write")
        left = produce_columns(producer, outputs, self._routes)
        for number, row in records_by_partition(left, self._routes):
            topic, key, value, timestamp_ms, headers = row
            self._produce(topic, key, value, number, max(timestamp_ms, 1), headers)
        if not self._begun:
            self._produce(
                self._progress_topic, *fingerprint_record(self._identity), self._partition
            )
        positions = {output.lane: output.position for output in outputs}
        for lane, position in positions.items():
            record = position_record(self._identity.version, lane, position)
            self._produce(self._progress_topic, *record, self._partition)
        producer.flush(OUTAGE_S)
        failpoints.reached("kafka.between_write_and_commit")
        self._repeat(producer.commit_transaction)
        failpoints.reached("kafka.after_commit")
        self._begun = True

    def _produce(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        partition: int,
        timestamp_ms: int = 0,  # the time of writing
        headers: Headers | None = None,
    ) -> None:
        producer = self._opened()
        while True:
            try:
                producer.produce(
                    topic, value, key, partition, timestamp=timestamp_ms, headers=headers
                )
            except BufferError:  # the client's queue is full: let it send
                producer.poll(0.05)
            else:
                return

    def _cause(self, error: KafkaError) -> KafkaError:
        """Why a transaction failed: `produce` says only that it has, `begin_transaction` why."""
        if error.code() in {KafkaError._STATE, KafkaError._FATAL}:  # noqa: SLF001
            try:
                self._opened().begin_transaction()
            except KafkaException as told:
                return cast("KafkaError", told.args[0])
        return error

    def _abort(self, cause: KafkaError) -> None:
        """Abort after `cause`; returns only when nothing of the transaction will be seen.

        Raises:
            FlowError: The abort is impossible, or the outcome of a commit is unknown.
        """
        # A commit that is still retriable was given up without an answer: it may have
        # succeeded, and only the next start can tell.
        unknown = cause.retriable() and not cause.txn_requires_abort()
        if cause.fatal() or unknown or cause.code() in _FENCED:
            raise self._end_of_run(cause)
        try:
            self._repeat(self._opened().abort_transaction)
        except KafkaException as error:
            raise self._end_of_run(error.args[0]) from error

    def _repeat(self, call: Callable[[float], None]) -> None:
        """Call until it succeeds or fails for good; librdkafka resumes a call that timed out."""
        deadline_s = time.monotonic() + OUTAGE_S
        while True:
            try:
                return call(_CALL_S)
            except KafkaException as error:
                if not error.args[0].retriable() or time.monotonic() > deadline_s:
                    raise
            time.sleep(_BACKOFF_S)

    def _read_progress(self) -> Progress:
        progress = read_progress(
            self._client_config,
            self._progress_topic,
            [self._partition],
            self._identity.version,
            decided=True,
        )
        check_fingerprint(self._identity, progress.fingerprint)
        self._begun = progress.fingerprint is not None
        return progress

    def _end_of_run(self, error: KafkaError) -> FlowError:
        if error.code() in _FENCED:
            return FlowError(
                f"Another process has taken over {self._transactional_id}, or the brokers gave "
                f"up on this one after {TRANSACTION_TIMEOUT_S} s without a sign of life "
                f"({error.str()})",
                "Run each flow and version once; if no other one runs, start this one again. "
                "Nothing is lost or repeated.",
            )
        if error.code() in _HOPELESS:
            return FlowError(
                f"Kafka refuses what {self._transactional_id} writes ({error.str()})",
                "Look at the size limits, partition counts and access rights of the output topics.",
            )
        return FlowError(
            f"Kafka at KAFKA_BOOTSTRAP_SERVERS={self._client_config.get('bootstrap.servers')} "
            f"did not complete a transaction of {self._transactional_id} ({error.str()})",
            "Look at the state of the brokers and start the flow again: it goes on after the "
            "last transaction that succeeded.",
        )

    def _opened(self) -> Producer:
        if self._producer is None:
            raise RuntimeError("open() comes first")
        return self._producer
