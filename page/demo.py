"""`python -m page.demo`: the page and, in processes of their own, flows for it to show.

Needs nothing but the packages: a simulated market, simulated sales and devices, and the
embedded PostgreSQL, all in a directory of the demonstration's own. It goes on where it was
when it is started again within two hours; after that it begins anew.
"""

import argparse
import asyncio
import fcntl
import hashlib
import os
import shutil
import socket
import sys
import time
import webbrowser
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from dataflows import logs
from dataflows.telemetry_settings import TelemetrySettings
from page.app import make_app
from page.serving import serve
from page.settings import PageSettings
from page.supervision import Flow
from schemas.errors import FlowError

__all__ = ["main"]

_FLOWS = ("market", "sellers", "sessions")
_SHORT = {
    # Something to see within seconds, unless the environment says otherwise.
    "INTERVALS": "1s,1m",
    "EWMA_PERIOD_S": "5",
    "SELLERS_WINDOW_S": "10",
}
_OURS = ("DATA_DIR", "METRICS_PORT", "METRICS_HOST", "PAGE_", "OTEL_", "LOG_")
_KEPT_S = 2 * 3_600


def main(arguments: list[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT; exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m page.demo", description="The live page on a simulated market."
    )
    parser.add_argument("--open", action="store_true", help="open a browser")
    options = parser.parse_args(arguments)
    try:
        logs.set_up(TelemetrySettings.load())
        asyncio.run(_run(PageSettings.load(), is_opened=options.open))
    except FlowError as error:
        logs.explain(error)
        return 1
    return 0


async def _run(settings: PageSettings, *, is_opened: bool) -> None:
    for name in ("kafka_bootstrap_servers", "database_url"):
        if getattr(settings, name) is not None:
            raise FlowError(
                f"{name.upper()} is set, and the demonstration brings a log and a database of "
                "its own",
                "Unset it; or run `python -m page`, which shows what other processes write there.",
            )
    home = settings.data_dir.resolve() / "page"
    home.mkdir(parents=True, exist_ok=True)
    with _alone(home):
        environment = {**_SHORT, **os.environ}
        directory = _directory(home, environment)
        ports = dict(zip(_FLOWS, _free_ports(len(_FLOWS)), strict=True))
        flows = [
            Flow(
                name,
                directory / name,
                {**environment, "DATA_DIR": str(directory), "METRICS_PORT": str(port)},
                _tell,
            )
            for name, port in ports.items()
        ]
        urls = tuple(f"{name}=http://127.0.0.1:{port}/metrics" for name, port in ports.items())
        shown = settings.model_copy(update={"data_dir": directory, "page_metrics": urls})

        async def ready(url: str) -> None:
            _tell(f"The page is at {url}\nThe first rows take some seconds. Ctrl-C ends it.")
            if is_opened:
                await asyncio.to_thread(webbrowser.open, url)

        async with _running(flows):
            await serve(make_app(shown), shown, ready)


@asynccontextmanager
async def _running(flows: list[Flow]) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(flow.run()) for flow in flows]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    """Hold the directory while the block runs.

    Raises:
        FlowError: Another demonstration does.
    """
    with (home / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FlowError(
                f"A demonstration runs already with {home}",
                "Stop it, or set another DATA_DIR and PAGE_PORT.",
            ) from None
        yield


def _directory(home: Path, environment: Mapping[str, str]) -> Path:
    """Where to go on, or to begin; what is too old to go on with is removed.

    A market that stood still for long would first have to catch up, and one with other
    settings would be refused, as it should be for results that matter.
    """
    own = {
        name: value
        for name, value in environment.items()
        if name.isupper() and not name.startswith(_OURS) and name.startswith(_PREFIXES)
    }
    digest = hashlib.sha256(repr(sorted(own.items())).encode()).hexdigest()[:8]
    now_s = int(time.time())
    found = None
    for path in sorted(home.glob("market-*-*")):
        begun_s = path.name.split("-")[1]
        is_young = begun_s.isdigit() and 0 <= now_s - int(begun_s) < _KEPT_S
        if is_young and path.name.endswith(digest):
            found = path
        elif not is_young:
            # A server that was left running there sees that its files are gone, and ends.
            shutil.rmtree(path, ignore_errors=True)
    directory = found or home / f"market-{now_s}-{digest}"
    directory.mkdir(exist_ok=True)
    return directory


_PREFIXES = (
    "CORRECTION_S",
    "EWMA_",
    "FILL_GAPS",
    "FLOW_VERSION",
    "GAP_SILENCE_S",
    "INTERVALS",
    "LATENESS_S",
    "MARKET_",
    "MAX_AHEAD_S",
    "SELLERS_",
    "SESSION_",
    "SHARDS",
    "STATISTICS_",
)


def _free_ports(count: int) -> list[int]:
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def _tell(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
