"""What every benchmark runs on: a real broker, a real PostgreSQL, and topics full of records.

Contract: all of it lives in a directory of its own under `.cache/benchmarks` and is gone when
the `with` block ends. Trades are those of `SimulatedMarket`, other records those of a
`SimulatedLog`, so a benchmark's input is the same, byte for byte, wherever it runs; it is
filled once per run of a benchmark.
"""

import shutil
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
from confluent_kafka import Producer

from operators.compiled import compile_kernels
from schemas.market_pb2 import Candle
from schemas.stream import Fetched
from schemas.trades import TradeCodec
from sources.kafka import KafkaLog
from sources.market import SimulatedMarket
from sources.simulated import SimulatedLog
from tests.real.kafka import KafkaBroker
from tests.real.kafka_client import Kafka
from tests.real.postgres import PostgresServer

__all__ = [
    "OPENED_AT_MS",
    "ROOT",
    "Components",
    "Filled",
    "Load",
    "Topic",
    "aggregated",
    "committed",
    "components",
    "count_records",
]

ROOT = Path(__file__).resolve().parents[1]
OPENED_AT_MS = 1_750_000_020_000  # a whole minute in 2025: nothing depends on today

_SCRATCH = ROOT / ".cache" / "benchmarks"
_BATCH = 10_000
_POLL_S = 0.005


@dataclass(frozen=True, slots=True)
class Load:
    """What a topic is filled with.

    Attributes:
        trades: number of records.
        instruments: number of keys; popularity is Zipf's with exponent 1.
        partitions: of the topic.
        rate: trades per second of event time, all partitions together.
    """

    trades: int
    instruments: int = 200
    partitions: int = 4
    rate: float = 10_000.0

    def market(self) -> SimulatedMarket:
        """The log itself; its beginning does not depend on `trades`."""
        return SimulatedMarket(
            OPENED_AT_MS,
            partitions=self.partitions,
            instruments=self.instruments,
            rate=self.rate,
            trades=self.trades,
            pace="fast",
        )


@dataclass(frozen=True, slots=True)
class Filled:
    """A filled topic.

    Attributes:
        name: of the topic.
        sizes: records per partition.
    """

    name: str
    sizes: list[int]


@dataclass(frozen=True, slots=True)
class Topic(Filled):
    """One that is filled with trades.

    Attributes:
        load: what is in it.
        value_bytes: mean length of a value, of those written last.
        out_of_order: share of these older than one before them in their partition.
    """

    load: Load
    value_bytes: float
    out_of_order: float


@dataclass(frozen=True, slots=True)
class Components:
    """Running servers, and a directory for whatever else a benchmark needs.

    Attributes:
        kafka: the broker.
        postgres: the server.
        directory: scratch, removed at the end.
    """

    kafka: KafkaBroker
    postgres: PostgresServer
    directory: Path

    def fill(self, load: Load) -> Topic:
        """A new topic that holds `load`, written by a plain producer without compression."""
        name = self.kafka.create_topic(f"trades-{uuid.uuid4().hex[:8]}", load.partitions)
        return self.extend(Topic(name, [0] * load.partitions, load, 0.0, 0.0), load.trades)

    def copy(self, log: SimulatedLog) -> Filled:
        """A new topic that holds a finite log, written likewise."""
        name = self.kafka.create_topic(f"{log.topic}-{uuid.uuid4().hex[:8]}", log.partitions)
        writer = _Writer(self.kafka, name)
        for partition in range(log.partitions):
            fetcher = log.open(partition, None)
            while (fetched := fetcher.poll(_BATCH)) is not None:
                keys = [None] * len(fetched.offsets)
                writer.write(partition, fetched.keys.to_pylist() if fetched.keys else keys, fetched)
        sizes = [log.end(partition) for partition in range(log.partitions)]
        writer.finish(sizes)
        return Filled(name, sizes)

    def extend(self, topic: Topic, trades: int) -> Topic:
        """The topic, with its log gone on to so many trades in all."""
        name, load = topic.name, replace(topic.load, trades=trades)
        writer = _Writer(self.kafka, name)
        market = load.market()
        fetchers = [market.open(partition, at) for partition, at in enumerate(topic.sizes)]
        newest, sizes = [0] * load.partitions, list(topic.sizes)
        value_bytes = disordered = 0
        codec = TradeCodec()
        while True:
            batches = [(p, fetcher.poll(_BATCH)) for p, fetcher in enumerate(fetchers)]
            if all(fetched is None for _, fetched in batches):
                break
            for partition, fetched in batches:
                if fetched is None:
                    continue
                sizes[partition] += len(fetched.offsets)
                value_bytes += pc.sum(pc.binary_length(fetched.values)).as_py()
                decoded = codec.decode(fetched.values)
                times_ms = np.concatenate(([newest[partition]], decoded.event_time_ms))
                running_ms = np.maximum.accumulate(times_ms)
                newest[partition] = int(running_ms[-1])
                disordered += int(np.sum(times_ms < running_ms))
                keys = [decoded.key_names[code].encode() for code in decoded.key_codes]
                writer.write(partition, keys, fetched)
        writer.finish(sizes)
        n = sum(sizes) - sum(topic.sizes)
        return Topic(name, sizes, load, value_bytes / n, disordered / n)

    def new_database(self) -> str:
        """URL of an empty database."""
        return self.postgres.create_database(f"bench_{uuid.uuid4().hex[:12]}")


class _Writer:
    """A plain producer without compression, into one topic."""

    def __init__(self, kafka: Kafka, topic: str) -> None:
        self._kafka = kafka
        self._topic = topic
        self._producer = Producer(
            {
                "bootstrap.servers": kafka.bootstrap,
                "linger.ms": 50,
                "queue.buffering.max.messages": 1_000_000,
            }
        )

    def write(self, partition: int, keys: Iterable[bytes | None], fetched: Fetched) -> None:
        """Append to a partition."""
        producer, stamps = self._producer, fetched.timestamps_ms.tolist()
        for key, value, stamp in zip(keys, fetched.values.to_pylist(), stamps, strict=True):
            while True:
                try:
                    producer.produce(self._topic, value, key, partition, timestamp=stamp)
                except BufferError:
                    producer.poll(0.05)
                else:
                    break
        producer.poll(0)

    def finish(self, sizes: list[int]) -> None:
        """Wait for the broker, and see that each partition holds so many records."""
        if self._producer.flush(120):
            raise TimeoutError(f"The broker did not take all records of {self._topic}")
        found = self._kafka.end_offsets(self._topic)
        if found != sizes:
            raise RuntimeError(f"Topic {self._topic} holds {found} records, not {sizes}")


@contextmanager
def components() -> Iterator[Components]:
    """A broker and a server, started now and stopped at the end; kernels are compiled."""
    compile_kernels()
    _SCRATCH.mkdir(parents=True, exist_ok=True)
    # PostgreSQL runs as another user when the benchmark is run by root.
    directory = Path(tempfile.mkdtemp(prefix="run-", dir=_SCRATCH))
    directory.chmod(0o755)
    for name in ("kafka", "postgres"):
        (directory / name).mkdir()
    kafka, postgres = KafkaBroker(directory / "kafka"), PostgresServer(directory / "postgres")
    try:
        kafka.start()
        postgres.start()
        yield Components(kafka, postgres, directory)
    finally:
        kafka.stop()
        postgres.stop()
        shutil.rmtree(directory, ignore_errors=True)


def aggregated(kafka: Kafka, topic: str) -> tuple[int, int]:
    """Trades in the last revision of every candle of a topic, and the number of records."""
    last: dict[tuple[str, str, int], int] = {}
    records = 0
    for partition in kafka.read(topic):
        for record in partition:
            candle = Candle.FromString(record.value or b"")
            last[candle.instrument, candle.interval, candle.open_time_ms] = candle.trade_count
            records += 1
    return sum(last.values()), records


def committed(kafka: Kafka, topic: str) -> Iterator[Fetched]:
    """The committed records of a topic, partition by partition."""
    log = KafkaLog({"bootstrap.servers": kafka.bootstrap}, topic, "committed")
    for partition, end in enumerate(kafka.end_offsets(topic)):
        fetcher = log.open(partition, None)
        while fetcher.position < end:
            fetched = fetcher.poll(_BATCH)
            if fetched is None:
                time.sleep(_POLL_S)
            else:
                yield fetched
        fetcher.close()


def count_records(kafka: Kafka, topic: str) -> int:
    """Committed records of a topic."""
    return sum(len(fetched.offsets) for fetched in committed(kafka, topic))
