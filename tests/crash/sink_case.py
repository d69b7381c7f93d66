"""A flow that writes through the exactly-once sinks, as a case for the crash harness.

Name the class of a flow in `CASES` of `tests/crash/cases.py`; every test that takes a `flow`
then runs it. One that also reads a topic subclasses `LogCase` of `log_case.py`, one that reads
trades `TradesCase`, see `candles_case.py`. A subclass says:

* `module`, and in `settings` what the flow is told besides servers, topics and version;
* `topics` and `tables` of its results; those of late and rejected records and of progress
  are known;
* `entries`: the input, by partition, from a seed. It should have disorder, ties, late
  records and poison: a log without them proves little;
* `in_topics` and `in_tables`: how many records of the log the results account for, for the
  conservation law: aggregated + late + rejected = read;
* `expected`, where there is an oracle whose rows are exact to the byte.

A flow with another input, such as a feed from an exchange, overrides what is about the input,
see `deribit_case.py`.
"""

import copy
import json
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import ClassVar, Self

import psycopg

from tests.crash.case import Account
from tests.crash.plan import BETWEEN_SINKS, KAFKA_POINTS, POSTGRES_POINTS
from tests.real.kafka_client import Kafka, Record
from tests.real.postgres import PostgresServer

__all__ = ["SinkCase", "copied", "text_of"]


class SinkCase(ABC):
    """A flow that writes Kafka and PostgreSQL; see `Case`.

    Args:
        kafka: Where the topics are made.
        postgres: Where each output gets a database.
        topic: Prefix of all topics; none of them is there yet.
        seed: Of the log.
        records: Length of the log, poison aside.
        with_postgres: Whether to write to PostgreSQL too.
        more: Further settings.
    """

    module: ClassVar[str]
    settings: ClassVar[Mapping[str, str]] = {}
    topics: ClassVar[Sequence[str]]
    """What stands behind OUTPUT_TOPIC in the names of the result topics; the busiest first."""
    tables: ClassVar[Sequence[str]]
    """Tables of results."""
    asides: ClassVar[Sequence[str]] = ("late", "rejected")
    """Tables, and behind a dot the topics, of the records that are in no result."""
    other_version: ClassVar[Mapping[str, str]] = {"LATENESS_S": "0.2"}
    """Settings with which another version of the flow has other outputs."""
    reads_again: ClassVar[bool] = False
    """Whether a restart reads a part of the log again, because the flow's state is the log."""

    def __init__(
        self,
        kafka: Kafka,
        postgres: PostgresServer,
        topic: str,
        *,
        seed: int,
        records: int,
        with_postgres: bool = True,
        **more: str,
    ) -> None:
        self.kafka = kafka
        self.topic = topic
        self.version = more.get("FLOW_VERSION", topic[-8:])
        self.with_postgres = with_postgres
        self._postgres = postgres
        self.more = more
        self._databases: dict[str, tuple[str, str]] = {}  # name and URL by output
        self._others: list[SinkCase] = []
        self.open_input(seed, records)

    @abstractmethod
    def open_input(self, seed: int, records: int) -> None:
        """Make the log, empty as yet."""

    @abstractmethod
    def close_input(self) -> None:
        """Let go of the log."""

    @abstractmethod
    def input_env(self, *, to_the_end: bool) -> dict[str, str]:
        """Settings that say what to read, and how far."""

    @property
    def flow(self) -> str:
        """Its name, whose progress it is."""
        return self.module.rpartition(".")[2]

    @property
    @abstractmethod
    def records(self) -> int:
        """Length of the whole log."""

    @property
    @abstractmethod
    def result_lanes(self) -> set[str]:
        """Lanes of the results, once the whole log is written."""

    @abstractmethod
    def grow(self, share: float) -> None:
        """Let the log have at least this share of its records."""

    @abstractmethod
    def in_topics(self, results: Mapping[str, list[Record]]) -> int | None:
        """Records of the log in the result topics, whose records come by suffix.

        None, here and for the tables, where results do not add up to records.
        """

    @abstractmethod
    def in_tables(self, connection: psycopg.Connection) -> int | None:
        """Records of the log in the tables of results."""

    @property
    def points(self) -> Mapping[str, int]:
        """Those of the sinks in use."""
        both = POSTGRES_POINTS | BETWEEN_SINKS if self.with_postgres else {}
        return KAFKA_POINTS | both

    def env(self, output: str, *, to_the_end: bool = False) -> dict[str, str]:
        """Settings of a run."""
        return {
            "KAFKA_BOOTSTRAP_SERVERS": self.kafka.bootstrap,
            "DATABASE_URL": self.url(output) if self.with_postgres else "off",
            "OUTPUT_TOPIC": self.output_topic(output),
            "FLOW_VERSION": self.version,
            **self.input_env(to_the_end=to_the_end),
            **self.settings,
            **self.more,
        }

    def another(self, version: str, **more: str) -> Self:
        """Another version of the flow on the same log, with topics and databases of its own."""
        other = copy.copy(self)
        other.version = version
        other.more = self.more | more
        other._databases, other._others = {}, []
        self._others.append(other)
        return other

    def output_topic(self, output: str) -> str:
        """OUTPUT_TOPIC of an output."""
        return f"{self.topic}-{self.version}-{output}"

    def url(self, output: str) -> str:
        """The database of an output."""
        if "DATABASE_URL" in self.more:
            return self.more["DATABASE_URL"]
        if output not in self._databases:
            name = f"{output}_{uuid.uuid4().hex[:8]}"
            self._databases[output] = name, self._postgres.create_database(name)
        return self._databases[output][1]

    def close(self) -> None:
        """Drop the databases and let go of the log."""
        for case in (self, *self._others):
            for name, _ in case._databases.values():
                self._postgres.drop_database(name)
        self.close_input()

    def written(self, output: str) -> int:
        """Offsets of the busiest topic."""
        try:
            return sum(self.kafka.end_offsets(self.output_topic(output) + self.topics[0]))
        except LookupError:
            return 0

    def is_complete(self, output: str) -> bool:
        """Never: it ends by itself."""
        return False

    def contents(self, output: str) -> dict[str, list[bytes]]:
        """Records by partition, rows by table, and the positions."""
        topic = self.output_topic(output)
        found: dict[str, list[bytes]] = {}
        for suffix in (*self.topics, *(f".{name}" for name in self.asides)):
            for partition, records in enumerate(self.kafka.read(topic + suffix)):
                found |= self.ordered(f"topic {suffix[1:] or 'results'}/{partition}", records)
        if self.with_postgres:
            with psycopg.connect(self.url(output)) as connection:
                for table in (*self.tables, *self.asides):
                    query = f"COPY {table} TO STDOUT"
                    with connection.cursor().copy(query) as rows:
                        found[f"table {table}"] = sorted(b"".join(rows).splitlines())
        for store, lanes in self._positions(output, decided=True).items():
            found[f"positions in {store}"] = [repr(item).encode() for item in sorted(lanes.items())]
        return found

    def ordered(self, name: str, records: Sequence[Record]) -> dict[str, list[bytes]]:
        """The records of one partition, by what has an order: here the partition."""
        return {name: [text_of(record) for record in records]}

    def expected(self) -> dict[str, list[bytes]]:
        """Nothing: only an undisturbed run can tell."""
        return {}

    def positions(self, output: str) -> dict[str, dict[str, int]]:
        """Positions of this version."""
        return self._positions(output, decided=False)

    def _positions(self, output: str, *, decided: bool) -> dict[str, dict[str, int]]:
        found = {"Kafka": self._in_progress_topic(output, decided=decided)}
        if self.with_postgres:
            found["PostgreSQL"] = self.in_progress_table(output)
        return found

    def accounted(self, output: str) -> dict[str, Account]:
        """Records in results, late ones and rejects."""
        topic = self.output_topic(output)

        def read(suffix: str) -> list[Record]:
            return [record for records in self.kafka.read(topic + suffix) for record in records]

        in_topics = self.in_topics({suffix: read(suffix) for suffix in self.topics})
        found = {}
        if in_topics is not None:
            aside = [len(read(f".{name}")) for name in self.asides] or [0, 0]
            found["Kafka"] = Account(in_topics, *aside)
        if self.with_postgres:
            with psycopg.connect(self.url(output)) as connection:
                in_tables = self.in_tables(connection)
                if in_tables is not None:
                    aside = [_count(connection, name, self.flow) for name in self.asides]
                    aside = aside or [0, 0]
                    found["PostgreSQL"] = Account(in_tables, *aside)
        return found

    def in_progress_table(self, output: str) -> dict[str, int]:
        """Positions in PostgreSQL; cheap."""
        with psycopg.connect(self.url(output)) as connection:
            row = connection.execute("SELECT to_regclass('progress')").fetchone()
            if row is None or row[0] is None:
                return {}
            query = "SELECT lane, position FROM progress WHERE flow = %s AND version = %s"
            return dict(connection.execute(query, (self.flow, self.version)).fetchall())

    def _in_progress_topic(self, output: str, *, decided: bool) -> dict[str, int]:
        name = f"{self.output_topic(output)}.progress"
        found = {}
        if self.kafka.topics(name):
            for records in self.kafka.read(name, allow_open_transaction=not decided):
                for record in records:
                    version, _, lane = (record.key or b"").decode().partition("/")
                    if version == self.version and lane != "fingerprint":
                        found[lane] = int(json.loads(record.value or b"")["position"])
        return found


def text_of(record: Record) -> bytes:
    """All of a record that must be the same in every run."""
    return repr((record.key, record.value, record.timestamp_ms, record.headers)).encode()


def copied(values: Iterable[object]) -> bytes:
    """A row as COPY writes it; times are datetimes."""
    return "\t".join(map(_copied, values)).encode()


def _copied(value: object) -> str:
    if value is None:
        return "\\N"
    if not isinstance(value, datetime):
        return str(value)
    text = f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}"
    return text.rstrip("0").removesuffix(".") + "+00"


def _count(connection: psycopg.Connection, table: str, flow: str) -> int:
    row = connection.execute(f"SELECT count(*) FROM {table} WHERE flow = %s", (flow,)).fetchone()
    return int(row[0]) if row else 0
