"""Flows as the processes they are in production.

Contract: a flow sees PATH, HOME, PYTHONPATH and what the test passes, nothing else of the
environment; it writes its output to files; it never outlives the tests. Plans that kill and
restart flows are in `tests/crash`.
"""

import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from bytewax.recovery import init_db_dir

from tests.real.process import HOST, Child, free_port

__all__ = ["Cluster", "FlowProcess"]

_REPOSITORY = Path(__file__).parents[2]


class FlowProcess:
    """`python -m bytewax.run MODULE`, started at once.

    Args:
        module: Import string, such as `dataflows.candles` or `package.module:flow`.
        log: File its output is appended to; its directory is the working directory.
        env: Settings of the flow. A PYTHONPATH in here comes after the repository.
        recovery_dir: Recovery store, made with one partition when missing; None for none.
        workers: Worker threads.
        snapshot_interval_s: Whole seconds between snapshots, as Bytewax takes them; 0 for
            one per activation.
        position: Number of this process and the addresses of all, in a cluster.
    """

    def __init__(
        self,
        module: str,
        *,
        log: Path,
        env: Mapping[str, str],
        recovery_dir: Path | None,
        workers: int = 1,
        snapshot_interval_s: int = 1,
        position: tuple[int, Sequence[str]] | None = None,
    ) -> None:
        command = [sys.executable, "-m", "bytewax.run", module, "-w", str(workers)]
        command += ["-s", str(snapshot_interval_s)]
        if recovery_dir is not None:
            recovery_dir.mkdir(parents=True, exist_ok=True)
            if not any(recovery_dir.iterdir()):
                init_db_dir(recovery_dir, 1)  # type: ignore[no-untyped-call]
            # Nothing is backed up, so no snapshot needs to be kept for that.
            command += ["-r", str(recovery_dir), "-b", "0"]
        if position is not None:
            number, addresses = position
            command += ["-i", str(number), "-a", ";".join(addresses)]
        self._child = Child(command, log=log, env=_environment(env), cwd=log.parent)

    @property
    def pid(self) -> int:
        """Process id."""
        return self._child.pid

    @property
    def returncode(self) -> int | None:
        """Exit status, -n after signal n; None while it runs."""
        return self._child.returncode

    def wait(self, timeout_s: float) -> int:
        """Exit status once it has ended.

        Raises:
            TimeoutError: It still runs; it is left running.
        """
        return self._child.wait(timeout_s)

    def kill9(self) -> None:
        """SIGKILL, and wait; harmless when it has ended."""
        self._child.kill()

    def terminate(self) -> None:
        """SIGTERM; `wait` for the end."""
        self._child.send(signal.SIGTERM)

    def output(self) -> str:
        """What was printed so far to `log`, by former processes too."""
        return self._child.output()


class Cluster:
    """Several processes of one flow that work together, on free ports of this machine.

    Takes the arguments of `FlowProcess`; process n logs to `<name>-n<suffix>` beside `log`.

    Attributes:
        processes: the members, to harm one of them alone.
    """

    def __init__(
        self,
        module: str,
        *,
        processes: int,
        log: Path,
        env: Mapping[str, str],
        recovery_dir: Path | None,
        workers: int = 1,
        snapshot_interval_s: int = 1,
    ) -> None:
        addresses = [f"{HOST}:{free_port()}" for _ in range(processes)]
        self.processes = [
            FlowProcess(
                module,
                log=log.with_name(f"{log.stem}-{number}{log.suffix}"),
                env=env,
                recovery_dir=recovery_dir,
                workers=workers,
                snapshot_interval_s=snapshot_interval_s,
                position=(number, addresses) if processes > 1 else None,
            )
            for number in range(processes)
        ]

    @property
    def returncode(self) -> int | None:
        """As of `FlowProcess`, once one has failed or all have ended; else None."""
        codes = [process.returncode for process in self.processes]
        failed = next((code for code in codes if code), None)
        return None if failed is None and None in codes else failed or 0

    def wait(self, timeout_s: float) -> int:
        """Status of the first process that failed, else 0 when all have ended.

        Raises:
            TimeoutError: They still run; they are left running.
        """
        deadline = time.monotonic() + timeout_s
        while (code := self.returncode) is None:
            if time.monotonic() > deadline:
                raise TimeoutError(f"The cluster still runs after {timeout_s} s:\n{self.output()}")
            time.sleep(0.02)
        return code

    def kill9(self) -> None:
        """SIGKILL to all, and wait."""
        for process in self.processes:
            process._child.send(signal.SIGKILL)  # first, so that none sees another's end
        for process in self.processes:
            process.kill9()

    def terminate(self) -> None:
        """SIGTERM to all; `wait` for the end."""
        for process in self.processes:
            process.terminate()

    def output(self) -> str:
        """What all have printed so far, one after the other."""
        return "\n".join(process.output() for process in self.processes)


def _environment(env: Mapping[str, str]) -> dict[str, str]:
    base = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    path = os.pathsep.join(filter(None, (str(_REPOSITORY), env.get("PYTHONPATH"))))
    return {**base, **env, "PYTHONPATH": path}
