"""The page's server as the process it is in production.

Contract: as of `FlowProcess`, it sees PATH, HOME, PYTHONPATH and what is passed, nothing else
of the environment. It keeps its port through every restart.
"""

import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from tests.real.flows import _environment
from tests.real.process import HOST, Child, free_port, wait_until_ready

__all__ = ["PageServer"]

_START_TIMEOUT_S = 60.0


class PageServer:
    """`python -m page`.

    Args:
        log: File its output is appended to; its directory is the working directory.
        env: Its settings, but for host and port.

    Attributes:
        url: of the page, without a slash at its end.
    """

    def __init__(self, log: Path, env: Mapping[str, str]) -> None:
        self._log = log
        self._port = free_port()
        self._env = _environment({**env, "PAGE_HOST": HOST, "PAGE_PORT": str(self._port)})
        self._child: Child | None = None
        self.url = f"http://{HOST}:{self._port}"

    @property
    def pid(self) -> int:
        """Process id.

        Raises:
            RuntimeError: It was not started.
        """
        if self._child is None:
            raise RuntimeError("The page was not started")
        return self._child.pid

    def start(self) -> None:
        """Start it and wait until it answers.

        Raises:
            StartError: It did not; the message holds the end of its log.
        """
        self._child = Child(
            [sys.executable, "-m", "page"], log=self._log, env=self._env, cwd=self._log.parent
        )
        wait_until_ready(self._child, self._ready, what="The page", timeout_s=_START_TIMEOUT_S)

    def stop(self) -> int:
        """SIGTERM, and wait; exit status.

        Raises:
            TimeoutError: It did not end in time and was killed.
        """
        return 0 if self._child is None else self._child.stop(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL, and wait; harmless when it has ended."""
        if self._child is not None:
            self._child.kill()

    def output(self) -> str:
        """What was printed so far, by former processes too."""
        return "" if self._child is None else self._child.output()

    def _ready(self) -> bool:
        try:
            with urlopen(f"{self.url}/healthz", timeout=5) as answer:
                return bool(answer.status == 200)
        except (URLError, TimeoutError, ConnectionError):
            return False
