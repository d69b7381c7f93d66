"""What the crash harness knows of a flow: `Case`; and most of it for flows on Kafka: `SinkCase`.

The harness kills, restarts and compares; all that differs from flow to flow is here. For a
flow that reads a topic and writes through the exactly-once sinks, subclass `SinkCase` and
name the class in `CASES` of `tests/crash/cases.py`; every test that takes a `flow` then runs
it. A subclass says, see `candles_case.py`:

* `module`, and in `settings` what the flow is told besides brokers, topics and version;
* `topics` and `tables` of its results; those of late and rejected records and of progress
  are known;
* `entries`: the input, by partition, from a seed. It should have disorder, ties, late
  records and poison: a log without them proves little;
* `in_topics` and `in_tables`: how many records of the log the results account for, for the
  conservation law: aggregated + late + rejected = read.

A flow with another input or output, such as a feed from an exchange, implements `Case`, or
overrides what is different: `env`, `grow` and `records` for the input, `contents` and
`accounted` for the output, `points` for the fail points that it can come to.
"""

import copy
import json
import uuid
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple, Protocol, Self

import psycopg

from tests.crash.plan import BETWEEN_SINKS, KAFKA_POINTS, POSTGRES_POINTS, SOURCE_POINTS
from tests.real.kafka_client import Kafka, Record
from tests.real.postgres import PostgresServer

__all__ = ["Account", "Case", "Entry", "SinkCase"]

Entry = tuple[bytes | None, bytes | None, int]
"""Key, value and timestamp in ms of a record to be written."""


class Account(NamedTuple):
    """Where the records of a log are, in one store."""

    aggregated: int
    late: int
    rejected: int


class Case(Protocol):
    """A flow, its log, and where its outputs are.

    Outputs are named, so that one log can be read into several of them.
    """

    @property
    def module(self) -> str:
        """Import string of the flow."""
        ...

    @property
    def points(self) -> Mapping[str, int]:
        """Fail points it comes to, and the highest time of it to ask for; see `plan`."""
        ...

    @property
    def records(self) -> int:
        """Length of the whole log."""
        ...

    def env(self, output: str, *, to_the_end: bool = False) -> dict[str, str]:
        """Settings of a run that writes to `output`, for ever or to the end of the log."""
        ...

    def grow(self, share: float) -> None:
        """Let the log have at least this share of its records, 0 to 1."""
        ...

    def written(self, output: str) -> int:
        """A figure that rises when the flow writes; cheap."""
        ...

    def contents(self, output: str) -> dict[str, list[bytes]]:
        """Everything a reader of committed data sees, in order, by partition or table."""
        ...

    def positions(self, output: str) -> dict[str, dict[str, int]]:
        """How far each lane is stored, by store; what is open is not waited for."""
        ...

    def accounted(self, output: str) -> dict[str, Account]:
        """Records of the log found in the output, by store."""
        ...


class SinkCase(ABC):
    """A flow that reads one topic and writes Kafka and PostgreSQL; see `Case`.

    Args:
        kafka: Where the topics are made.
        postgres: Where each output gets a database.
        topic: Input topic, and prefix of all others; not there yet.
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
        self._kafka = kafka
        self._postgres = postgres
        self.topic = topic
        self.version = more.get("FLOW_VERSION", topic[-8:])
        self._with_postgres = with_postgres
        self._more = more
        self._logs = self.entries(seed, records)
        self._done = [0] * len(self._logs)
        self._databases: dict[str, tuple[str, str]] = {}  # name and URL by output
        self._others: list[Self] = []
        kafka.create_topic(topic, len(self._logs))

    @abstractmethod
    def entries(self, seed: int, records: int) -> list[list[Entry]]:
        """The log, by partition."""

    @abstractmethod
    def in_topics(self, results: Mapping[str, list[Record]]) -> int:
        """Records of the log in the result topics, whose records come by suffix."""

    @abstractmethod
    def in_tables(self, connection: psycopg.Connection) -> int:
        """Records of the log in the tables of results."""

    @property
    def points(self) -> Mapping[str, int]:
        """Those of the source and of the sinks in use."""
        both = POSTGRES_POINTS | BETWEEN_SINKS if self._with_postgres else {}
        return SOURCE_POINTS | KAFKA_POINTS | both

    @property
    def records(self) -> int:
        """Length of the whole log."""
        return sum(map(len, self._logs))

    def env(self, output: str, *, to_the_end: bool = False) -> dict[str, str]:
        """Settings of a run."""
        return {
            "KAFKA_BOOTSTRAP_SERVERS": self._kafka.bootstrap,
            "DATABASE_URL": self.url(output) if self._with_postgres else "off",
            "INPUT_TOPIC": self.topic,
            "OUTPUT_TOPIC": self.output_topic(output),
            "FLOW_VERSION": self.version,
            "STOP_AT_END": str(to_the_end).lower(),
            **self.settings,
            **self._more,
        }

    def another(self, version: str, **more: str) -> Self:
        """Another version of the flow on the same log, with topics and databases of its own."""
        other = copy.copy(self)
        other.version = version
        other._more = self._more | more
        other._databases, other._others = {}, []
        self._others.append(other)
        return other

    def output_topic(self, output: str) -> str:
        """OUTPUT_TOPIC of an output."""
        return f"{self.topic}-{self.version}-{output}"

    def url(self, output: str) -> str:
        """The database of an output."""
        if "DATABASE_URL" in self._more:
            return self._more["DATABASE_URL"]
        if output not in self._databases:
            name = f"{output}_{uuid.uuid4().hex[:8]}"
            self._databases[output] = name, self._postgres.create_database(name)
        return self._databases[output][1]

    def close(self) -> None:
        """Drop the databases."""
        for other in self._others:
            other.close()
        for name, _ in self._databases.values():
            self._postgres.drop_database(name)

    def grow(self, share: float) -> None:
        """Append records, so that each partition has at least this share of its own."""
        for partition, log in enumerate(self._logs):
            upto = max(self._done[partition], round(len(log) * min(share, 1.0)))
            self._kafka.produce(self.topic, partition, log[self._done[partition] : upto])
            self._done[partition] = upto

    def written(self, output: str) -> int:
        """Offsets of the busiest topic."""
        try:
            return sum(self._kafka.end_offsets(self.output_topic(output) + self.topics[0]))
        except LookupError:
            return 0

    def contents(self, output: str) -> dict[str, list[bytes]]:
        """Records by partition, rows by table, and the positions."""
        topic = self.output_topic(output)
        found = {}
        for suffix in (*self.topics, ".late", ".rejected"):
            for partition, records in enumerate(self._kafka.read(topic + suffix)):
                name = suffix.removeprefix(".") or "results"
                found[f"topic {name}/{partition}"] = [_text(record) for record in records]
        if self._with_postgres:
            with psycopg.connect(self.url(output)) as connection:
                for table in (*self.tables, "late", "rejected"):
                    query = f"COPY {table} TO STDOUT"
                    with connection.cursor().copy(query) as rows:  # type: ignore[arg-type]
                        found[f"table {table}"] = sorted(b"".join(rows).splitlines())
        for store, lanes in self._positions(output, decided=True).items():
            found[f"positions in {store}"] = [repr(item).encode() for item in sorted(lanes.items())]
        return found

    def positions(self, output: str) -> dict[str, dict[str, int]]:
        """Positions of this version."""
        return self._positions(output, decided=False)

    def _positions(self, output: str, *, decided: bool) -> dict[str, dict[str, int]]:
        found = {"Kafka": self._in_progress_topic(output, decided=decided)}
        if self._with_postgres:
            with psycopg.connect(self.url(output)) as connection:
                row = connection.execute("SELECT to_regclass('progress')").fetchone()
                query = "SELECT lane, position FROM progress WHERE version = %s"
                exists = row is not None and row[0] is not None
                rows = connection.execute(query, (self.version,)).fetchall() if exists else []
            found["PostgreSQL"] = dict(rows)
        return found

    def accounted(self, output: str) -> dict[str, Account]:
        """Records in results, late ones and rejects."""
        topic = self.output_topic(output)

        def read(suffix: str) -> list[Record]:
            return [record for records in self._kafka.read(topic + suffix) for record in records]

        in_topics = self.in_topics({suffix: read(suffix) for suffix in self.topics})
        found = {"Kafka": Account(in_topics, len(read(".late")), len(read(".rejected")))}
        if self._with_postgres:
            with psycopg.connect(self.url(output)) as connection:
                query = "SELECT (SELECT count(*) FROM late), (SELECT count(*) FROM rejected)"
                late, rejected = connection.execute(query).fetchone() or (0, 0)
                found["PostgreSQL"] = Account(self.in_tables(connection), late, rejected)
        return found

    def _in_progress_topic(self, output: str, *, decided: bool) -> dict[str, int]:
        name = f"{self.output_topic(output)}.progress"
        found = {}
        if self._kafka.topics(name):
            for records in self._kafka.read(name, allow_open_transaction=not decided):
                for record in records:
                    version, _, lane = (record.key or b"").decode().partition("/")
                    if version == self.version and lane != "fingerprint":
                        found[lane] = int(json.loads(record.value or b"")["position"])
        return found


def _text(record: Record) -> bytes:
    return repr((record.key, record.value, record.timestamp_ms, record.headers)).encode()
