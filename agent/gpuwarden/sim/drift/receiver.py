"""Whoever trains, in the scene: takes what the aggregator posts, and looks at its signature."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from gpuwarden.adapters.sinks.webhook import signature

BODY_MAX_BYTES = 1 << 20
TIMEOUT_S = 10.0


class Receiver:
    """Listens on loopback from ``with`` to its end."""

    def __init__(self, secret: str) -> None:
        self._secret = secret
        self._lock = threading.Lock()
        self._calls: list[dict[str, Any]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.1,), name="receiver", daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(TIMEOUT_S)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/retrain"

    def calls(self) -> list[dict[str, Any]]:
        """Each with ``is_signed`` and ``decision`` beside what was posted."""
        with self._lock:
            return list(self._calls)

    def _take(self, headers: Any, body: bytes) -> None:
        stamp = headers.get("X-Gpuwarden-Timestamp", "")
        wanted = f"v1={signature(self._secret, stamp, body)}"
        said = {
            **json.loads(body),
            "decision": headers.get("X-Gpuwarden-Decision", ""),
            "is_signed": headers.get("X-Gpuwarden-Signature") == wanted,
        }
        with self._lock:
            self._calls.append(said)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        take = self._take

        class Handler(BaseHTTPRequestHandler):
            timeout = TIMEOUT_S

            def do_POST(self) -> None:
                length = min(BODY_MAX_BYTES, int(self.headers.get("Content-Length", "0")))
                take(self.headers, self.rfile.read(length))
                self.send_response(202)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                return

        return Handler
