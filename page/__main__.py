"""`python -m page`: serves what the flows write, from Kafka or from PostgreSQL."""

import asyncio
import sys

from dataflows import logs
from dataflows.telemetry_settings import TelemetrySettings
from page.app import make_app
from page.serving import serve
from page.settings import PageSettings
from schemas.errors import FlowError

__all__ = ["main"]


def main() -> int:
    """Serve until SIGTERM or SIGINT; exit status."""
    try:
        logs.set_up(TelemetrySettings.load())
        settings = PageSettings.load()
        asyncio.run(serve(make_app(settings), settings, _tell))
    except FlowError as error:
        logs.explain(error)
        return 1
    return 0


async def _tell(url: str) -> None:
    sys.stdout.write(f"The page is at {url}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
