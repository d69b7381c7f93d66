"""Flows as child processes: started again when they fail, stopped together, never left over."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from bytewax.recovery import init_db_dir

__all__ = ["Flow"]

_LAUNCH = Path(__file__).with_name("launch.py")
_ROOT = Path(__file__).parents[1]
_FIRST_PAUSE_S, _LAST_PAUSE_S = 1.0, 30.0
_STEADY_S = 60.0
_STOP_S = 10.0
_SNAPSHOT_S = 5
_TAIL_BYTES = 8_192


class Flow:
    """One flow in a process of its own.

    Args:
        name: such as `market`.
        directory: for its recovery store and what it complains of; made when missing.
        env: its whole environment.
        tell: told what the person at the terminal should know.

    Attributes:
        pid: of the process; None while there is none.
    """

    def __init__(
        self, name: str, directory: Path, env: Mapping[str, str], tell: Callable[[str], None]
    ) -> None:
        self.name = name
        self.pid: int | None = None
        self._directory = directory
        self._env = {**env, "PYTHONPATH": os.pathsep.join(_paths(env))}
        self._tell = tell

    async def run(self) -> None:
        """Keep it running until cancelled; then stop it and wait for its end."""
        recovery = self._directory / "recovery"
        if not recovery.exists():
            recovery.mkdir(parents=True)
            init_db_dir(recovery, 1)  # type: ignore[no-untyped-call]
        pause_s = _FIRST_PAUSE_S
        while True:
            started_s = time.monotonic()
            status = await self._run_once(recovery)
            if time.monotonic() - started_s >= _STEADY_S:
                pause_s = _FIRST_PAUSE_S
            self._tell(
                f"{self.name} ended with status {status}: {self._last_error()}\n"
                f"It starts again in {pause_s:.0f} s."
            )
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LAST_PAUSE_S)

    async def _run_once(self, recovery: Path) -> int:
        command = [sys.executable, "-m", "bytewax.run", f"dataflows.{self.name}"]
        command += ["-r", str(recovery), "-s", str(_SNAPSHOT_S), "-b", "0"]
        with self._errors.open("wb") as errors:  # of this run alone, so that it stays short
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", str(_LAUNCH), str(os.getpid())),
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=errors,
                env=self._env,
                cwd=self._directory,
                # Ctrl-C at the terminal reaches the page, which stops its flows in turn.
                start_new_session=True,
            )
        self.pid = process.pid
        try:
            return await process.wait()
        except asyncio.CancelledError:
            await _stop(process)
            raise
        finally:
            self.pid = None

    @property
    def _errors(self) -> Path:
        return self._directory / "errors.log"

    def _last_error(self) -> str:
        """The paragraph that says why it ended, or whatever it said last."""
        text = self._errors.read_bytes()[-_TAIL_BYTES:].decode(errors="replace")
        lines = [line for line in text.splitlines() if line.strip()]
        told = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
        return (told or lines or ["it did not say why"])[-1]


async def _stop(process: asyncio.subprocess.Process) -> None:
    """End a process in good order; one that hangs at its end has written everything."""
    if process.returncode is None:
        process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), _STOP_S)
        except TimeoutError:
            process.kill()
            await process.wait()


def _paths(env: Mapping[str, str]) -> list[str]:
    return [str(_ROOT), *filter(None, [env.get("PYTHONPATH")])]
