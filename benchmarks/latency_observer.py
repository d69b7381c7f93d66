"""Reads previews and closed candles as a user would: BOOTSTRAP OUTPUT SHARDS SECONDS FILE.

A process of its own, so that the feeder does not delay it. The file holds two pickled lists,
previews and closed candles: for each record when it was in hand (epoch s) and its value.
"""

import pickle
import sys
import time
import uuid
from pathlib import Path

from confluent_kafka import Consumer, TopicPartition

__all__ = ["observe"]


def observe(bootstrap: str, output: str, shards: int, seconds: float, path: Path) -> None:
    """Read both topics for a while."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": f"observer-{uuid.uuid4()}",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "fetch.queue.backoff.ms": 1,
            "socket.nagle.disable": True,
        }
    )
    live = f"{output}.live"
    consumer.assign([TopicPartition(name, p, 0) for name in (output, live) for p in range(shards)])
    previews: list[tuple[float, bytes]] = []
    closed: list[tuple[float, bytes]] = []
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        message = consumer.poll(0.05)
        while message is not None and time.monotonic() < deadline:
            now = time.time()
            if message.error() is None:
                kind = previews if message.topic() == live else closed
                kind.append((now, message.value() or b""))
            message = consumer.poll(0)
    consumer.close()
    path.write_bytes(pickle.dumps((previews, closed)))


if __name__ == "__main__":
    observe(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), Path(sys.argv[5]))
