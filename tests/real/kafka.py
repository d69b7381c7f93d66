"""A real Apache Kafka broker (KRaft, one node, no container) that can be stopped and killed.

Contract: listens on 127.0.0.1 only, on a port that it keeps through every restart, as it
keeps its data directory; ready means that clients get an answer from this very cluster.
"""

import subprocess
import uuid
from base64 import urlsafe_b64encode
from pathlib import Path

from confluent_kafka import KafkaException

from tests.real.java import CACHE_DIR, KAFKA_POM, fetch, jvm
from tests.real.kafka_client import Kafka
from tests.real.process import HOST, Child, StartError, free_port, wait_until_ready

__all__ = ["KafkaBroker"]

_START_TIMEOUT_S = 480.0

_PROPERTIES = """\
process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller_port}
controller.listener.names=CONTROLLER
controller.quorum.voters=1@{host}:{controller_port}
log.dirs={data}
# A flow or a test that expects a topic shall hear that it is missing.
auto.create.topics.enable=false
# One node: nothing to replicate to, and few partitions to recover after a kill.
default.replication.factor=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
# Tests write old and future event times as record timestamps.
log.retention.ms=-1
log.message.timestamp.after.max.ms=9223372036854775807
# Compaction within seconds, with a small buffer.
log.cleaner.dedupe.buffer.size=16777216
log.cleaner.backoff.ms=500
# A restarted broker may register again only when the session of the killed one is over.
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=3000
"""

_LOGGING = """\
status=error
appender.console.type=Console
appender.console.name=console
appender.console.layout.type=PatternLayout
appender.console.layout.pattern=%d %p %c: %m%n
rootLogger.level=warn
rootLogger.appenderRef.console.ref=console
"""


class KafkaBroker(Kafka):
    """One broker.

    Args:
        directory: Empty or as a former `KafkaBroker` on the same ports left it.
        cache_dir: Where the jars are, or will be fetched to.

    Attributes:
        bootstrap: `127.0.0.1:port`, for `bootstrap.servers`.
        log: file with the broker's output.
    """

    def __init__(self, directory: Path, *, cache_dir: Path = CACHE_DIR) -> None:
        self._port = free_port()
        super().__init__(f"{HOST}:{self._port}")
        self.log = directory / "broker.log"
        self._directory = directory
        self._cache_dir = cache_dir
        # Its first letter must not be "-", which the command line would take for an option.
        number = b"\0" + uuid.uuid4().bytes[1:]
        self._cluster_id = urlsafe_b64encode(number).decode().rstrip("=")
        self._child: Child | None = None

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self._child is not None and self._child.returncode is None

    @property
    def properties(self) -> str:
        """Template of its settings; a later line wins over an earlier one."""
        return _PROPERTIES

    @property
    def format_options(self) -> list[str]:
        """Options of the tool that formats its storage."""
        return []

    def start(self) -> None:
        """Start it, formatting the data directory the first time, and wait until it is ready.

        Raises:
            StartError: It did not come up; the message holds the end of its log.
        """
        if self.running:
            return
        classpath = f"{fetch(KAFKA_POM, self._cache_dir)}/*"
        properties = self._directory / "server.properties"
        logging = self._directory / "log4j2.properties"
        if not properties.exists():
            logging.write_text(_LOGGING)
            self._format(classpath, properties)
        self._child = Child(
            [
                *jvm("-Xms1g", "-Xmx1g", "-XX:+UseSerialGC", "-cp", classpath),
                *(f"-Dlog4j2.configurationFile={logging}", "kafka.Kafka", str(properties)),
            ],
            log=self.log,
        )
        wait_until_ready(
            self._child, self._ready, what=f"Kafka at {self.bootstrap}", timeout_s=_START_TIMEOUT_S
        )

    def stop(self) -> None:
        """SIGTERM: a controlled shutdown; waits for it."""
        if self._child is not None:
            self._child.stop()

    def kill(self) -> None:
        """SIGKILL: what it had not told the kernel is lost."""
        if self._child is not None:
            self._child.kill()

    def restart(self) -> None:
        """Come back on the same port with the same data, after a stop when it still runs."""
        self.stop()
        self.start()

    def _format(self, classpath: str, properties: Path) -> None:
        draft = properties.with_suffix(".draft")
        draft.write_text(
            self.properties.format(
                host=HOST,
                port=self._port,
                controller_port=free_port(),
                data=self._directory / "data",
            )
        )
        command = [
            *jvm("-XX:TieredStopAtLevel=1", "-cp", classpath),
            "kafka.tools.StorageTool",
            *("format", "-t", self._cluster_id, "-c", str(draft), *self.format_options),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
        if done.returncode != 0:
            raise StartError(f"Kafka could not format its storage:\n{done.stdout}{done.stderr}")
        draft.rename(properties)

    def _ready(self) -> bool:
        try:
            found = str(self.admin.list_topics(timeout=1).cluster_id)
        except KafkaException:
            return False
        if found != self._cluster_id:
            raise StartError(f"Cluster {found} answers at {self.bootstrap}, not {self._cluster_id}")
        return True
