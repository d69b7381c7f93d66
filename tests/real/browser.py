"""A real Chromium without a window, driven through chromedriver.

Contract: every browser has a profile of its own, which goes away with it, and asks nothing of
the network but what a page asks. What a page writes to its console is kept. Nothing is
fetched: Chromium and chromedriver are those that are installed.
"""

import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

__all__ = ["Browser", "missing"]

_PROGRAMS = {"chromium": ("chromium", "chromium-browser"), "chromedriver": ("chromedriver",)}
_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--hide-scrollbars",
)
_COMPLAINTS = ("WARNING", "SEVERE")
# On a busy machine even a short script may wait for minutes.
_SCRIPT_TIMEOUT_S = 280.0
_COMMAND_TIMEOUT_S = 300
_POLL_S = 0.02


def missing() -> str:
    """What is not installed, in words; empty when all is there."""
    return "; ".join(f"{name} is not installed" for name in _PROGRAMS if _program(name) is None)


class Browser:
    """One Chromium with one page, started at once.

    Args:
        width: of the page, CSS pixels.
        height: likewise.
        flags: more of Chromium's flags.
    """

    def __init__(self, *, width: int = 1280, height: int = 900, flags: Sequence[str] = ()) -> None:
        self._profile = Path(tempfile.mkdtemp(prefix="tidemark-browser-"))
        options = webdriver.ChromeOptions()
        options.binary_location = str(_program("chromium"))
        for flag in (
            *_FLAGS,
            *flags,
            f"--user-data-dir={self._profile}",
            f"--window-size={width},{height}",
        ):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        service = Service(executable_path=str(_program("chromedriver")))
        self.driver = webdriver.Chrome(options=options, service=service)
        self.driver.set_script_timeout(_SCRIPT_TIMEOUT_S)
        self.driver.command_executor.client_config.timeout = _COMMAND_TIMEOUT_S
        self._service = service
        self._console: list[Mapping[str, Any]] = []
        self._forgiven: tuple[str, ...] = ()
        self._size = (width, height)
        self._devtools("Performance.enable", {})
        self.resize(width, height)

    def resize(self, width: int, height: int) -> None:
        """Give the page another size, CSS pixels; also one below the least of a window."""
        self._devtools(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False},
        )

    def prefer(self, scheme: str) -> None:
        """Have the page find that its reader prefers `light` or `dark`."""
        self._devtools(
            "Emulation.setEmulatedMedia",
            {"features": [{"name": "prefers-color-scheme", "value": scheme}]},
        )

    def open(self, url: str) -> None:
        """Load a page, also where only the hash differs from the one that is there."""
        if self.driver.current_url.partition("#")[0] == url.partition("#")[0]:
            self.driver.get("about:blank")
        self.driver.get(url)

    def renew(self) -> None:
        """An empty page of the usual size, and an empty console."""
        self.driver.get("about:blank")
        self.resize(*self._size)
        self.prefer("light")
        self.driver.get_log("browser")  # type: ignore[no-untyped-call]
        self._console = []
        self._forgiven = ()

    def run(self, script: str, *arguments: Any) -> Any:
        """Result of the body of a function in the page."""
        return self.driver.execute_script(script, *arguments)

    def wait(self, expression: str, *arguments: Any, timeout_s: float = 60) -> Any:
        """The value of an expression in the page once it is true there.

        Args:
            expression: JavaScript; `arguments[0]` and so on are what is given.
            timeout_s: how long to wait.

        Raises:
            TimeoutError: It was not; the message has what the page shows.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            value = self.run(f"return ({expression})", *arguments)
            if value:
                return value
            if time.monotonic() > deadline:
                text = self.run("return document.body.innerText.slice(0, 2000)")
                raise TimeoutError(f"{expression} is {value!r} after {timeout_s} s:\n{text}")
            time.sleep(_POLL_S)

    def text(self, selector: str) -> str:
        """Text of the first element of a CSS selector; empty when there is none."""
        return str(
            self.run("return document.querySelector(arguments[0])?.innerText ?? ''", selector)
        )

    def console(self) -> list[Mapping[str, Any]]:
        """All that the page has written so far, or the browser about it: level, message."""
        self._console += self.driver.get_log("browser")  # type: ignore[no-untyped-call]
        return list(self._console)

    def leave(self) -> None:
        """Leave the page, before its server ends; what it wrote is kept."""
        self.console()
        self.driver.get("about:blank")

    def forgive(self, *words: str) -> None:
        """Count no message with one of these words as a complaint; until the next `renew`."""
        self._forgiven = words

    def complaints(self) -> list[str]:
        """The warnings and errors among it."""
        messages = [str(one["message"]) for one in self.console() if one["level"] in _COMPLAINTS]
        return [text for text in messages if not any(word in text for word in self._forgiven)]

    def screenshot(self, path: Path) -> None:
        """Write what the page shows as PNG."""
        path.write_bytes(self.driver.get_screenshot_as_png())

    def heap_bytes(self) -> int:
        """Bytes that the page's JavaScript holds, after a collection."""
        self._devtools("HeapProfiler.collectGarbage", {})
        metrics = self._devtools("Performance.getMetrics", {})["metrics"]
        return int(next(one["value"] for one in metrics if one["name"] == "JSHeapUsedSize"))

    def cpu_s(self) -> float:
        """CPU-seconds of all processes of the browser that live."""
        total = 0.0
        for process in psutil.Process(self._service.process.pid).children(recursive=True):
            try:
                used = process.cpu_times()
            except psutil.NoSuchProcess:
                continue
            total += used.user + used.system
        return total

    def stop(self) -> None:
        """End it, and remove its profile."""
        self.driver.quit()
        shutil.rmtree(self._profile, ignore_errors=True)

    def _devtools(self, command: str, arguments: Mapping[str, Any]) -> Any:
        return self.driver.execute_cdp_cmd(command, dict(arguments))


def _program(name: str) -> str | None:
    return next(filter(None, map(shutil.which, _PROGRAMS[name])), None)
