"""Flows run on real components, and what their sinks hold: what the tests of every flow share."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
from google.protobuf.message import Message
from psycopg import sql
from psycopg.rows import dict_row

from tests import oracle
from tests.real.flows import Cluster, FlowProcess
from tests.real.kafka_client import Kafka

__all__ = ["await_or_fail", "finish", "messages", "run", "table"]


def run(
    module: str,
    directory: Path,
    env: dict[str, str],
    *,
    workers: int = 1,
    processes: int = 1,
    recovery: Path | None = None,
    timeout_s: float = 120,
    name: str = "run",
) -> tuple[int, str]:
    """Run a flow to its end: exit status and what it printed."""
    flow = Cluster(
        module, processes=processes, log=directory / f"{name}.log", env=env, workers=workers,
        recovery_dir=recovery,
    )  # fmt: skip
    try:
        return flow.wait(timeout_s), flow.output()
    finally:
        flow.kill9()


def finish(module: str, directory: Path, env: dict[str, str], **more: Any) -> str:
    """Run a flow to its end, which must be a good one: what it printed."""
    code, output = run(module, directory, env, **more)
    assert code == 0, output
    return output


def await_or_fail(
    flow: Cluster | FlowProcess, condition: Callable[[], bool], timeout_s: float = 90
) -> None:
    """Wait for something that a running flow does."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, flow.output()
        assert flow.returncode is None, flow.output()
        time.sleep(0.05)


def messages(
    kafka: Kafka,
    topic: str,
    kind: type[Message],
    stamp: str,
    parse: Callable[[bytes], Any] | None = None,
) -> list[list[dict]]:
    """Results of a topic as rows per partition, in order; times are ms.

    Args:
        kafka: where.
        topic: of results, keyed by instrument.
        kind: the message.
        stamp: its field that is the record's timestamp.
        parse: bytes to a message; None for a value that is the message and nothing else.
    """
    out = []
    for partition in kafka.read(topic):
        rows = []
        for record in partition:
            message: Any = (parse or kind.FromString)(record.value or b"")
            assert record.key == message.instrument.encode()
            assert record.timestamp_ms == getattr(message, stamp)
            rows.append(
                {
                    field.name.removesuffix("_ms"): getattr(message, field.name)
                    for field in kind.DESCRIPTOR.fields
                }
            )
        out.append(rows)
    return out


def table(url: str, name: str) -> list[dict]:
    """Rows of a table; times are ms, and exact figures text."""
    query = sql.SQL("SELECT * FROM {}").format(sql.Identifier(name))
    with psycopg.connect(url, row_factory=dict_row) as connection:
        rows = connection.execute(query).fetchall()
    for row in rows:
        for column, value in row.items():
            if hasattr(value, "timestamp"):
                row[column] = round(value.timestamp() * 1000)
            elif type(value).__name__ == "Decimal":
                row[column] = oracle.text(value)
    return rows
