"""A real Debezium: its PostgreSQL connector on Kafka Connect, which can be killed and restarted.

Contract: captures `public.vehicles` and `public.engines` of one database into topics of one
partition behind a prefix, with transaction metadata; goes on, after a restart, from the offsets
that it flushed last. Ready means that its replication slot is being read.
"""

from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict

from tests.real.java import CACHE_DIR, DEBEZIUM_POM, fetch, jvm
from tests.real.process import HOST, Child, free_port, wait_until_ready

__all__ = ["Debezium"]

_START_TIMEOUT_S = 90.0

_WORKER = """\
bootstrap.servers={bootstrap}
listeners=http://{host}:{port}
plugin.path={plugins}
plugin.discovery=service_load
offset.storage.file.filename={directory}/offsets
offset.flush.interval.ms=1000
key.converter=org.apache.kafka.connect.json.JsonConverter
value.converter=org.apache.kafka.connect.json.JsonConverter
key.converter.schemas.enable={schemas}
value.converter.schemas.enable={schemas}
producer.linger.ms=5
"""

_CONNECTOR = {
    "name": "vehicles",
    "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
    "plugin.name": "pgoutput",
    "publication.autocreate.mode": "filtered",
    "table.include.list": "public.vehicles,public.engines",
    "snapshot.mode": "initial",
    "provide.transaction.metadata": "true",
    "heartbeat.interval.ms": "1000",
    "topic.creation.default.replication.factor": "1",
    "topic.creation.default.partitions": "1",
    "poll.interval.ms": "20",
}

_LOGGING = """\
status=error
appender.console.type=Console
appender.console.name=console
appender.console.layout.type=PatternLayout
appender.console.layout.pattern=%d %p %c: %m%n
rootLogger.level=warn
rootLogger.appenderRef.console.ref=console
"""


class Debezium:
    """One connector in a process of its own.

    Args:
        directory: Empty or as a former one of the same connector left it.
        bootstrap: Of the brokers.
        url: libpq URL of the database to capture.
        prefix: Of the topics.
        slot: Name of its replication slot.
        with_schemas: `true` or `false`: whether values carry their schema beside the payload.
        cache_dir: Where the jars are, or will be fetched to.
    """

    def __init__(
        self,
        directory: Path,
        bootstrap: str,
        url: str,
        *,
        prefix: str,
        slot: str,
        with_schemas: str = "true",
        cache_dir: Path = CACHE_DIR,
    ) -> None:
        self.log = directory / "debezium.log"
        self._url = url
        self._slot = slot
        self._child: Child | None = None
        lib = fetch(DEBEZIUM_POM, cache_dir)
        (directory / "log4j2.properties").write_text(_LOGGING)
        (directory / "worker.properties").write_text(
            _WORKER.format(
                bootstrap=bootstrap,
                host=HOST,
                port=free_port(),
                plugins=lib,
                directory=directory,
                schemas=with_schemas,
            )
        )
        database = conninfo_to_dict(url)
        settings = {
            **_CONNECTOR,
            "topic.prefix": prefix,
            "slot.name": slot,
            "publication.name": slot,
            "database.hostname": database["host"],
            "database.port": database["port"],
            "database.user": database["user"],
            "database.password": database.get("password", ""),
            "database.dbname": database["dbname"],
        }
        lines = [f"{name}={value}\n" for name, value in settings.items()]
        (directory / "connector.properties").write_text("".join(lines))
        self._command = [
            *jvm("-Xms256m", "-Xmx512m", "-XX:+UseSerialGC", "-cp", f"{lib}/*"),
            f"-Dlog4j2.configurationFile={directory / 'log4j2.properties'}",
            "org.apache.kafka.connect.cli.ConnectStandalone",
            *(str(directory / f"{name}.properties") for name in ("worker", "connector")),
        ]

    def start(self) -> None:
        """Start it and wait until it streams.

        Raises:
            StartError: It did not come up; the message holds the end of its log.
        """
        if self._child is not None and self._child.returncode is None:
            return
        self._child = Child(self._command, log=self.log)
        wait_until_ready(self._child, self._streams, what="Debezium", timeout_s=_START_TIMEOUT_S)

    def stop(self) -> None:
        """SIGTERM, and wait."""
        if self._child is not None:
            self._child.stop()

    def kill(self) -> None:
        """SIGKILL: what it sent since it last flushed its offsets, it sends again."""
        if self._child is not None:
            self._child.kill()

    def _streams(self) -> bool:
        query = "SELECT active FROM pg_replication_slots WHERE slot_name = %s"
        with psycopg.connect(self._url) as connection:
            row = connection.execute(query, [self._slot]).fetchone()
        return row is not None and bool(row[0])
