"""The simulated exchange as a command: found at its address, the same after a restart."""

import json
import os
import signal
import socket
import sys
import time
from pathlib import Path

from websocket import create_connection

from tests.real.process import HOST, Child, free_port

ROOT = Path(__file__).parents[2]


def start(directory: Path, *options: str) -> Child:
    return Child(
        [sys.executable, "-m", "dataflows.commands.simulated_exchange", *options],
        log=directory / f"exchange-{time.monotonic_ns()}.log",
        env={"PATH": os.environ["PATH"], "HOME": str(directory), "PYTHONPATH": str(ROOT)},
    )


def endpoint(exchange: Child) -> str:
    deadline = time.monotonic() + 60
    while not exchange.output().endswith("\n"):
        assert exchange.returncode is None, exchange.output()
        assert time.monotonic() < deadline, exchange.output()
        time.sleep(0.05)
    return exchange.output().strip().removeprefix("DERIBIT_ENDPOINT=")


def first_trades(url: str) -> list[dict]:
    """The trades 1 and 2 of an instrument."""
    connection = create_connection(url, timeout=30)
    asked = {"instrument_name": "BTC-PERPETUAL", "start_seq": 1, "end_seq": 2, "sorting": "asc"}
    method = "public/get_last_trades_by_instrument"
    connection.send(json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": asked}))
    answer = json.loads(connection.recv())
    connection.close()
    return answer["result"]["trades"]


def test_a_restart_is_the_same_exchange(tmp_path: Path) -> None:
    seen = []
    for _ in range(2):
        port = free_port()
        exchange = start(tmp_path, "--port", str(port), "--seed", "3", "--instruments", "2")
        url = endpoint(exchange)
        assert url == f"ws://{HOST}:{port}/ws/api/v2"
        seen.append(first_trades(url))
        exchange.send(signal.SIGTERM)
        assert exchange.wait(30) == 0, exchange.output()
    assert seen[0] == seen[1]
    assert [trade["trade_seq"] for trade in seen[0]] == [1, 2]


def test_a_port_that_is_taken_is_told(tmp_path: Path) -> None:
    with socket.create_server((HOST, 0)) as taken:
        exchange = start(tmp_path, "--port", str(taken.getsockname()[1]))
        assert exchange.wait(60) == 2
    assert "cannot be listened at" in exchange.output()


def test_a_wrong_option_is_told(tmp_path: Path) -> None:
    for option in (["--rate", "0"], ["--faults", "2"], ["--opened-at", "noon"]):
        exchange = start(tmp_path, *option)
        assert exchange.wait(60) == 2
        assert option[0] in exchange.output()
