"""`python -m page`: serves what the flows write, from Kafka or from PostgreSQL."""

import asyncio
import logging
import sys

from page.app import make_app
from page.serving import serve
from page.settings import PageSettings
from schemas.errors import FlowError

__all__ = ["main"]


def main() -> int:
    """Serve until SIGTERM or SIGINT; exit status."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        settings = PageSettings.load()
        asyncio.run(serve(make_app(settings), settings, _tell))
    except FlowError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


async def _tell(url: str) -> None:
    sys.stdout.write(f"The page is at {url}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
