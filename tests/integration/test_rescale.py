"""A cluster that is stopped and started with another number of processes, by the image's script.

Each process has a recovery directory of its own, as each pod has a volume of its own: all of the
store lies with process 0, and a smaller cluster misses nothing.
"""

import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests import candles_io as io
from tests.oracle import Rule
from tests.real.kafka_client import Kafka
from tests.real.process import HOST, Child, free_port

SCRIPT = Path(__file__).parents[2] / "docker" / "flow"
SIZES = (1, 3, 2)


def start(
    directory: Path, env: Mapping[str, str], processes: int, name: str, flow: str = "candles"
) -> list[Child]:
    """The processes of a cluster; process n keeps its files in `volume-n`."""
    addresses = ";".join(f"{HOST}:{free_port()}" for _ in range(processes))
    members = []
    for number in range(processes):
        volume = directory / f"volume-{number}"
        volume.mkdir(exist_ok=True)
        place = {"BYTEWAX_PROCESS_ID": str(number), "BYTEWAX_ADDRESSES": addresses}
        members.append(
            Child(
                [str(SCRIPT), flow],
                log=directory / f"{name}-{number}.log",
                env={
                    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
                    "HOME": str(volume),
                    "TMPDIR": str(volume),
                    "RECOVERY_ROOT": str(volume / "recovery"),
                    "BYTEWAX_SNAPSHOT_INTERVAL": "1",
                    **(place if processes > 1 else {}),
                    **env,
                },
            )
        )
    return members


def told(members: Sequence[Child]) -> str:
    return "\n".join(member.output() for member in members)


def finish(members: Sequence[Child]) -> None:
    """All of them end well."""
    try:
        assert [member.wait(90) for member in members] == [0] * len(members), told(members)
    finally:
        for member in members:
            member.kill()


def test_one_process_then_three_then_two_change_nothing(
    kafka: Kafka, topic: str, postgres_url: str, tmp_path: Path
) -> None:
    logs = io.random_log(21, 9_000)
    kafka.create_topic(topic, len(logs))
    env = io.settings(kafka, topic, postgres_url, STOP_AT_END="")
    done = [0] * len(logs)
    stored = 0
    for step, processes in enumerate(SIZES):
        upto = [len(log) * (step + 1) // len(SIZES) for log in logs]
        parts = [log[a:b] for log, a, b in zip(logs, done, upto, strict=True)]
        io.produce(kafka, topic, parts)
        done = upto
        members = start(tmp_path, env, processes, f"{step}")
        deadline = time.monotonic() + 120
        while io.count(postgres_url, "candles") <= stored:
            assert time.monotonic() < deadline, told(members)
            assert all(member.returncode is None for member in members), told(members)
            time.sleep(0.1)
        for member in members:
            member.send(signal.SIGTERM)
        finish(members)
        stored = io.count(postgres_url, "candles")
    finish(start(tmp_path, env | {"STOP_AT_END": "1"}, SIZES[-1], "end"))

    expected = io.expected(logs, Rule())
    assert io.kafka_rows(kafka, f"{topic}-out") == expected
    assert io.table_rows(postgres_url) == io.final(expected)
    stores = sorted(path.parent for path in tmp_path.glob("volume-*/recovery/*/*.sqlite3"))
    assert stores == [tmp_path / "volume-0" / "recovery" / "candles-v1"]


def test_what_is_no_flow_is_told(tmp_path: Path) -> None:
    for flow in ("wiring", "nothing", "../candles"):
        (member,) = start(tmp_path, {}, 1, "none", flow)
        assert member.wait(30) == 2
        assert f"FLOW={flow} is no flow" in member.output()


def test_a_pod_beyond_the_cluster_is_told(tmp_path: Path) -> None:
    pod = {"PROCESSES": "3", "BYTEWAX_POD_NAME": "flow-candles-3"}
    (member,) = start(tmp_path, pod, 1, "beyond")
    assert member.wait(30) == 2
    assert "flow-candles-3 is not one of PROCESSES=3" in member.output()
