"""Where services' clients tell what they saw: HTTP on a unix socket that any local program may open.

``POST /v1/observations``, ``{"observations": [{"latency": 0.12, "ok": true, ...}], "lost": 0}``. Who it is, the
kernel says; whose numbers they are, the tenant's label: a container speaks for its own service and for no other. One
thread; a client that is slow holds one of a few places until its deadline, and every bound is on what one may send.
"""

import json
import os
import selectors
import socket
import stat
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from gpuwarden.adapters.observe_keeper import Heard, ObserveKeeper, tenants_of_pid
from gpuwarden.adapters.peers import read_peer
from gpuwarden.clock import Clock
from gpuwarden.errors import Unavailable

PATH = "/v1/observations"
CONNECTIONS_MAX = 16
HEAD_MAX_BYTES = 8 * 1024
BODY_MAX_BYTES = 512 * 1024
VISIT_S = 2.0
_REASONS = {
    202: "Accepted",
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    411: "Length Required",
    413: "Content Too Large",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    503: "Service Unavailable",
}

_STATUS = {Heard.TAKEN: 202, Heard.STRANGER: 403, Heard.MALFORMED: 400, Heard.TOO_MANY: 429}


@dataclass(slots=True, eq=False)
class _Visit:
    side: socket.socket
    deadline: float
    data: bytearray = field(default_factory=bytearray)
    length: int | None = None
    answer: bytes = b""


class ObserveSocket:
    """Listens from ``start`` to ``close``."""

    def __init__(self, path: Path, clock: Clock, keeper: ObserveKeeper) -> None:
        """``Unavailable`` when the socket cannot be made."""
        self._path, self._clock, self._keeper = path, clock, keeper
        self._stop = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.refused = 0
        """Requests that were not taken."""
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            with suppress(FileNotFoundError):
                if stat.S_ISSOCK(path.lstat().st_mode):
                    path.unlink()
            self._listener.bind(str(path))
            path.chmod(0o666)  # who may say what is decided by who it is
            self._listener.listen(CONNECTIONS_MAX)
        except OSError as error:
            self._listener.close()
            os.close(self._stop)
            raise Unavailable(f"{path}: {error.strerror}") from error
        self._thread = threading.Thread(target=self._run, name="gpuwarden-observe", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        os.eventfd_write(self._stop, 1)
        if self._thread.is_alive():
            self._thread.join(5.0)
        self._listener.close()
        os.close(self._stop)
        with suppress(OSError):
            self._path.unlink()

    def _run(self) -> None:
        visits: set[_Visit] = set()
        with selectors.DefaultSelector() as selector:
            selector.register(self._stop, selectors.EVENT_READ)
            selector.register(self._listener, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select(0.5 if visits else None):
                    if key.fileobj is self._listener:
                        self._welcome(selector, visits)
                    elif key.fd == self._stop:
                        for visit in visits:
                            visit.side.close()
                        return
                    else:
                        self._go_on(selector, visits, key.data)
                now = self._clock.now()
                for visit in [v for v in visits if v.deadline < now]:
                    self._end(selector, visits, visit)

    def _welcome(self, selector: selectors.BaseSelector, visits: set[_Visit]) -> None:
        try:
            side, _ = self._listener.accept()
        except OSError:
            return
        if len(visits) >= CONNECTIONS_MAX:  # the one that has waited longest gives way
            self._end(selector, visits, min(visits, key=lambda visit: visit.deadline))
        side.setblocking(False)
        visit = _Visit(side, self._clock.now() + VISIT_S)
        visits.add(visit)
        selector.register(side, selectors.EVENT_READ, visit)

    def _end(self, selector: selectors.BaseSelector, visits: set[_Visit], visit: _Visit) -> None:
        visits.discard(visit)
        with suppress(KeyError, ValueError):
            selector.unregister(visit.side)
        visit.side.close()

    def _go_on(self, selector: selectors.BaseSelector, visits: set[_Visit], visit: _Visit) -> None:
        try:
            data = visit.side.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            self._end(selector, visits, visit)
            return
        visit.data += data
        status = self._status(visit, is_ended=not data)
        if status is None:
            return
        if status != 202:
            self.refused += 1
        reason = f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        with suppress(OSError):
            visit.side.send(reason.encode("ascii"))
        self._end(selector, visits, visit)

    def _status(self, visit: _Visit, *, is_ended: bool) -> int | None:
        """What is answered; ``None``: there is more to come."""
        head, mark, body = visit.data.partition(b"\r\n\r\n")
        if not mark:
            too_long = len(head) > HEAD_MAX_BYTES
            return 431 if too_long else 400 if is_ended else None
        if visit.length is None:
            lines = head.decode("latin-1").split("\r\n")
            # POST /v1/observations HTTP/1.1
            if lines[0].split(" ")[:2] != ["POST", PATH]:
                return 404
            found = _length(lines[1:])
            if found is None:
                return 411
            if found > BODY_MAX_BYTES:
                return 413
            visit.length = found
        if len(body) < visit.length:
            return 400 if is_ended else None
        return self._heard(visit.side, bytes(body[: visit.length]))

    def _heard(self, side: socket.socket, body: bytes) -> int:
        try:
            peer = read_peer(side, ())
        except Unavailable:
            return 403
        try:
            said = json.loads(body)
            rows, lost = said["observations"], said.get("lost", 0)
            if not isinstance(rows, list) or not isinstance(lost, int):
                return 400
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return 400
        return _STATUS[self._keeper.heard(tenants_of_pid(peer.pid), len(rows), lambda: rows, lost)]


def _length(lines: list[str]) -> int | None:
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip().lower() == "content-length":
            text = value.strip()
            return int(text) if text.isascii() and text.isdigit() and len(text) <= 9 else None
    return None
