"""A server whose metrics a test writes, for what reads the metrics of flows."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.real.process import HOST

__all__ = ["MetricsServer"]


class MetricsServer:
    """Answers every GET with `status` and `text`, until it is closed.

    Attributes:
        address: host and port.
    """

    def __init__(self) -> None:
        self.text = ""
        self.status = 200
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(outer.status)
                self.end_headers()
                self.wfile.write(outer.text.encode())

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer((HOST, 0), Handler)
        self.address = f"{HOST}:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
