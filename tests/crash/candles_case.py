"""The candles flow as a case for the crash harness: disorder, corrections, late ones, poison."""

import copy
import random
import uuid

import psycopg

from schemas.market_pb2 import Candle
from tests import candles_io as io
from tests.real.kafka_client import Kafka, Record
from tests.real.postgres import PostgresServer

__all__ = ["CandlesCase"]

_TABLES = ("candles", "late", "rejected", "progress")
_POISON = (None, b"", b"\xff\xff\xff", b"no trade")


class CandlesCase:
    """See `tests.crash.harness.FlowCase`.

    Args:
        kafka: Where the topics are made.
        postgres: Where each output gets a database.
        topic: Input topic, and prefix of all others; not there yet.
        seed: Of the log.
        records: Length of the log.
        with_postgres: Whether to write to PostgreSQL too.
        more: Further settings.
    """

    module = "dataflows.candles"

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
        self._logs = _log(seed, records)
        self._done = [0] * len(self._logs)
        self._databases: dict[str, tuple[str, str]] = {}  # name and URL by output
        self._others: list[CandlesCase] = []
        kafka.create_topic(topic, len(self._logs))

    @property
    def records(self) -> int:
        """Length of the whole log."""
        return sum(map(len, self._logs))

    def env(self, output: str) -> dict[str, str]:
        """Settings of a run that goes on for ever."""
        return {
            "KAFKA_BOOTSTRAP_SERVERS": self._kafka.bootstrap,
            "DATABASE_URL": self.url(output) if self._with_postgres else "off",
            "INPUT_TOPIC": self.topic,
            "OUTPUT_TOPIC": self._topic(output),
            "INTERVALS": "1s,1m",
            "FLOW_VERSION": self.version,
            **self._more,
        }

    def another(self, version: str, **more: str) -> "CandlesCase":
        """Another version of the flow on the same log, with topics and databases of its own."""
        other = copy.copy(self)
        other.version = version
        other._more = self._more | more
        other._databases, other._others = {}, []
        self._others.append(other)
        return other

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
        """Offsets of the shortest candles."""
        try:
            return sum(self._kafka.end_offsets(f"{self._topic(output)}.1s"))
        except LookupError:
            return 0

    def contents(self, output: str) -> dict[str, list[bytes]]:
        """Records by partition, rows by table, and the positions."""
        topic = self._topic(output)
        found = {}
        for suffix in (".1s", ".1m", ".late", ".rejected"):
            for partition, records in enumerate(self._kafka.read(topic + suffix)):
                found[f"topic {suffix[1:]}/{partition}"] = [_text(record) for record in records]
        positions = {
            record.key: record.value
            for records in self._kafka.read(f"{topic}.progress")
            for record in records
        }
        found["topic progress"] = sorted(repr(item).encode() for item in positions.items())
        if self._with_postgres:
            with psycopg.connect(self.url(output)) as connection:
                for table in _TABLES:
                    own = f"WHERE version = '{self.version}'" if table == "progress" else ""
                    query = f"COPY (SELECT * FROM {table} {own} ORDER BY 1, 2, 3, 4) TO STDOUT"
                    with connection.cursor().copy(query) as copy:  # type: ignore[arg-type]
                        found[f"table {table}"] = b"".join(copy).splitlines()
        return found

    def accounted(self, output: str) -> dict[str, int]:
        """Trades in the last revisions of the minutes, late ones and rejects."""
        topic = self._topic(output)
        last: dict[tuple[str, int], int] = {}
        for records in self._kafka.read(f"{topic}.1m"):
            for record in records:
                candle = Candle.FromString(record.value or b"")
                last[candle.instrument, candle.open_time_ms] = candle.trade_count
        asides = (self._kafka.read(f"{topic}{suffix}") for suffix in (".late", ".rejected"))
        counts = {"Kafka": sum(last.values()) + sum(len(p) for read in asides for p in read)}
        if self._with_postgres:
            with psycopg.connect(self.url(output)) as connection:
                row = connection.execute(
                    "SELECT (SELECT sum(trade_count) FROM candles WHERE interval = '1m') "
                    "+ (SELECT count(*) FROM late) + (SELECT count(*) FROM rejected)"
                ).fetchone()
            counts["PostgreSQL"] = int(row[0]) if row else 0
        return counts

    def _topic(self, output: str) -> str:
        return f"{self.topic}-{self.version}-{output}"


def _log(seed: int, records: int) -> list[list[tuple[bytes | None, bytes | None, int]]]:
    """Partitions of records, with some poison among them."""
    chance = random.Random(seed)
    logs = []
    for trades in io.random_log(seed, records):
        log: list[tuple[bytes | None, bytes | None, int]] = []
        for trade in trades:
            if chance.random() < 0.004:
                log.append((b"poison", chance.choice(_POISON), trade.time))
            log.append((trade.key.encode(), io.message(trade), trade.time + 400))
        logs.append(log)
    return logs


def _text(record: Record) -> bytes:
    return repr((record.key, record.value, record.timestamp_ms, record.headers)).encode()
