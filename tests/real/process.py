"""Child processes that never outlive the test run, and what starting a server needs.

Contract: a `Child` runs in a process group of its own (Ctrl-C reaches the test run, not
the servers) and is killed at interpreter exit; when the interpreter itself is killed, the
kernel ends the child. The kernel ties it to the *thread* that started it, so start
children from a thread that lives as long as they shall: normally the main thread.
"""

import atexit
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

__all__ = ["HOST", "Child", "StartError", "free_port", "wait_until_ready"]

HOST = "127.0.0.1"
_LAUNCH = Path(__file__).with_name("launch.py")
_LOWEST_PORT = 15_000
_running: "set[Child]" = set()


class StartError(RuntimeError):
    """A component did not become ready; the message ends with the tail of its log."""


class Child:
    """A process whose stdout and stderr are appended to a file.

    Args:
        command: Program and arguments.
        log: File for its output.
        env: Its whole environment; this process's own when None.
        cwd: Its working directory; this process's own when None.
        user: Account to run as; only root may name one.
        death_signal: What it gets when this process dies.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        user: str = "",
        death_signal: signal.Signals = signal.SIGKILL,
    ) -> None:
        self.log = log
        self.death_signal = death_signal
        launcher = [sys.executable, "-I", str(_LAUNCH), str(os.getpid()), str(int(death_signal))]
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [*launcher, user, *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=env,
                cwd=cwd,
                start_new_session=True,
            )
        _running.add(self)

    @property
    def pid(self) -> int:
        """Process id, also of its group."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """Exit status, -n after signal n; None while it runs."""
        code = self._process.poll()
        if code is not None:
            _running.discard(self)
        return code

    def wait(self, timeout_s: float) -> int:
        """Exit status once it has ended.

        Raises:
            TimeoutError: It still runs; it is left running.
        """
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout_s)
        code = self.returncode
        if code is None:
            raise TimeoutError(f"{self.pid} still runs after {timeout_s} s; {self.tail()}")
        return code

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process alone; nothing happens when it has ended."""
        if self.returncode is None:
            self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL the process and its group, and wait for it; harmless when it has ended."""
        if self.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            self._process.wait()
            _running.discard(self)

    def stop(self, number: signal.Signals = signal.SIGTERM, *, timeout_s: float = 30) -> int:
        """Ask it to end and wait; exit status.

        Raises:
            TimeoutError: It did not end in time and was killed.
        """
        self.send(number)
        try:
            return self.wait(timeout_s)
        finally:
            self.kill()

    def output(self) -> str:
        """All it has printed so far."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def tail(self, lines: int = 40) -> str:
        """The end of its output, for error messages."""
        return "\n".join(["the log ends with:", *self.output().splitlines()[-lines:]])


def _end_all() -> None:
    for child in list(_running):
        with suppress(TimeoutError):
            child.stop(child.death_signal, timeout_s=5)


atexit.register(_end_all)


def free_port() -> int:
    """A TCP port on 127.0.0.1 that nobody listens on.

    Taken from below the kernel's ephemeral range: while a server is down, clients that try
    to reconnect to an ephemeral port could be given that very port as their own end, and
    the server could not come back to it.
    """
    lowest_ephemeral = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    highest = max(lowest_ephemeral - 1, _LOWEST_PORT + 1_000)
    chance = random.SystemRandom()  # never seeded: two test runs must not walk the same ports
    for _ in range(1_000):
        port = chance.randint(_LOWEST_PORT, highest)
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, port))
            return port
    raise StartError(f"No free port was found between {_LOWEST_PORT} and {highest}")


def wait_until_ready(
    child: Child, ready: Callable[[], bool], *, what: str, timeout_s: float
) -> None:
    """Ask `ready` until it says so; the child is killed when it never does.

    Raises:
        StartError: The child has ended, or the time is over.
    """
    deadline = time.monotonic() + timeout_s
    try:
        while not ready():
            _check_alive(child, deadline, what)
            time.sleep(0.05)
    except BaseException:
        child.kill()
        raise


def _check_alive(child: Child, deadline: float, what: str) -> None:
    if child.returncode is not None:
        raise StartError(f"{what} ended with {child.returncode}; {child.tail()}")
    if time.monotonic() > deadline:
        raise StartError(f"{what} is not ready in time; {child.tail()}")
