"""`python -m page`: serves what the flows write, from Kafka or from PostgreSQL."""

import logging
import sys

from page.app import make_app
from page.serving import server
from page.settings import PageSettings
from schemas.errors import FlowError

__all__ = ["main"]


def main() -> int:
    """Serve until SIGTERM or SIGINT; exit status."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        settings = PageSettings.load()
    except FlowError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    page = server(make_app(settings), settings.page_host, settings.page_port)
    host = f"[{settings.page_host}]" if ":" in settings.page_host else settings.page_host
    sys.stdout.write(f"The page is at http://{host}:{settings.page_port}/\n")
    sys.stdout.flush()
    page.run()
    return 0 if page.started else 1


if __name__ == "__main__":
    sys.exit(main())
