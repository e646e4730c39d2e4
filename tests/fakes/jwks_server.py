"""An HTTP server of documents on a free port of the loopback address, in a thread: an issuer's key set, or trouble."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


class JwksServer:
    """`GET /jwks` gives what `document` returns; other paths are trouble of one kind each."""

    def __init__(self, document: Callable[[], bytes]) -> None:
        self.asked = 0
        server = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None:
                """Stay silent."""

            def do_GET(self) -> None:
                server.asked += 1
                if self.path == "/moved":
                    self.send_response(302)
                    self.send_header("location", "/jwks")
                    self.end_headers()
                elif self.path == "/slow":
                    self.send_response(200)
                    self.end_headers()
                    self.wfile.flush()
                    time.sleep(2)
                elif self.path in ("/large", "/jwks"):
                    self.send_response(200)
                    self.end_headers()
                    self.wfile.write(b" " * 300_000 if self.path == "/large" else document())
                else:
                    self.send_error(500)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
