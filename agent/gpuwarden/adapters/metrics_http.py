"""A small HTTP server: GET /metrics, /healthz and /ready/NAME, nothing else.

One thread, no thread a connection: a reader that sends or reads a byte a minute holds one of a bounded
number of places until its deadline, and the oldest unanswered one gives way to a newcomer.
"""

import ipaddress
import selectors
import socket
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import unquote

from gpuwarden.adapters.exposition import CONTENT_TYPE
from gpuwarden.clock import Clock
from gpuwarden.errors import GpuwardenError, Unavailable

_READ = selectors.EVENT_READ
_WRITE = selectors.EVENT_WRITE
_HEAD_MAX_BYTES = 8 * 1024
_DRAIN_MAX_BYTES = 64 * 1024
_TEXT = "text/plain; charset=utf-8"
_JSON = "Content-Type: application/json\r\nCache-Control: no-store\r\n"
_READY, _FIT = "/ready/", "/fit/"
_REASONS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


class Pages(Protocol):
    """What is served; either raises ``Unavailable`` when there is nothing to tell yet."""

    def page(self, *, is_packed: bool = False) -> bytes: ...

    def health(self) -> str: ...

    def ready(self, name: str) -> tuple[bool, bytes] | None:
        """Whether an instance is fit, and one line of JSON about it; ``None``: nobody is called so."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpLimits:
    """Bounds: a connection lives no longer than ``request_s`` + ``response_s`` + ``drain_s``."""

    connections: int = 32
    request_s: float = 5.0
    response_s: float = 10.0
    drain_s: float = 1.0


@dataclass(slots=True, eq=False)
class _Visit:
    """One connection: its request so far, then what is left of the answer."""

    side: socket.socket
    is_local: bool
    deadline: float
    head: bytearray = field(default_factory=bytearray)
    answer: memoryview | None = None
    is_answered: bool = False
    drained_bytes: int = 0


class HttpServer:
    """Listens on ``address`` (``127.0.0.1:9420``, ``[::1]:0``) until ``stop``."""

    def __init__(
        self,
        address: str,
        pages: Pages,
        *,
        clock: Clock,
        limits: HttpLimits | None = None,
        is_local: Callable[[str], bool] | None = None,
        documents: Mapping[str, Callable[[], bytes]] | None = None,
        fit: Callable[[str], tuple[int, bytes]] | None = None,
        setting: str = "agent.metrics_listen",
    ) -> None:
        """Bind and listen; ``Unavailable`` with what to do when that fails.

        Readers whose address ``is_local`` (loopback, unless said otherwise) never get gzip. ``documents``:
        further pages by their path, each of JSON. ``fit``: of /fit/NAME, the status and JSON. ``setting``: what to change when the address cannot be had.
        """
        self._is_local = is_local or _is_loopback
        self._pages = pages
        self._documents = documents or {}
        self._fit = fit
        self._clock = clock
        self._limits = limits or HttpLimits()
        self._listener = _bound(address, setting)
        self._visits: dict[socket.socket, _Visit] = {}
        self._counts: Counter[str] = Counter()
        self._deaf_until: float | None = None
        self._selector = selectors.DefaultSelector()
        self._stop_read, self._stop_write = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name="gpuwarden-metrics", daemon=True)

    @property
    def port(self) -> int:
        """Where it listens; the kernel's choice when the address said 0."""
        return int(self._listener.getsockname()[1])

    def start(self) -> None:
        self._selector.register(self._listener, _READ)
        self._selector.register(self._stop_read, _READ)
        self._thread.start()

    def stop(self) -> None:
        self._stop_write.close()
        if self._thread.is_alive():
            self._thread.join()

    def counts(self) -> Mapping[str, int]:
        """served, declined (any status but 200), timeout, evicted, failed."""
        return dict(self._counts)

    def _run(self) -> None:
        running = True
        while running:
            is_busy = bool(self._visits) or self._deaf_until is not None
            ready = self._selector.select(0.25 if is_busy else None)
            now = self._clock.now()
            for key, mask in ready:
                if key.fileobj is self._stop_read:
                    running = False
                elif key.fileobj is self._listener:
                    self._accept(now)
                elif (visit := self._visits.get(key.fileobj)) is not None:  # type: ignore[call-overload]  # only sockets are registered
                    self._serve(visit, mask, now)
            self._sweep(now)
        for visit in list(self._visits.values()):
            self._drop(visit)
        self._selector.close()
        self._stop_read.close()
        self._listener.close()

    def _accept(self, now: float) -> None:
        try:
            side, peer = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError:
            # Out of descriptors: the listener stays readable and would spin.
            self._counts["failed"] += 1
            self._selector.unregister(self._listener)
            self._deaf_until = now + 0.2
            return
        if len(self._visits) >= self._limits.connections and not self._make_room():
            side.close()
            return
        side.setblocking(False)
        visit = _Visit(
            side=side, is_local=self._is_local(peer[0]), deadline=now + self._limits.request_s
        )
        self._visits[side] = visit
        self._selector.register(side, _READ)

    def _make_room(self) -> bool:
        """The oldest that has not even asked gives way (dicts keep the order of arrival)."""
        self._counts["evicted"] += 1
        for visit in self._visits.values():
            if visit.answer is None:
                self._drop(visit)
                return True
        return False

    def _serve(self, visit: _Visit, mask: int, now: float) -> None:
        try:
            if mask & _READ:
                self._read(visit, now)
            if mask & _WRITE and visit.answer is not None:
                self._write(visit, now)
        except BlockingIOError:
            return
        except OSError:
            self._drop(visit)

    def _read(self, visit: _Visit, now: float) -> None:
        data = visit.side.recv(4096)
        if not data:
            self._drop(visit)
        elif visit.answer is not None:
            visit.drained_bytes += len(data)
            if visit.drained_bytes > _DRAIN_MAX_BYTES:
                self._drop(visit)
        else:
            visit.head += data
            is_whole = b"\r\n\r\n" in visit.head or b"\n\n" in visit.head
            if is_whole or len(visit.head) > _HEAD_MAX_BYTES:
                self._answer(visit, is_whole=is_whole, now=now)

    def _answer(self, visit: _Visit, *, is_whole: bool, now: float) -> None:
        status, body, headers = 431, b"too many headers\n", f"Content-Type: {_TEXT}\r\n"
        is_head = False
        if is_whole:
            method, target, fields = _parsed(bytes(visit.head))
            is_head = method == "HEAD"
            wants_gzip = not visit.is_local and "gzip" in fields.get("accept-encoding", "")
            status, body, headers = self._respond(method, target, is_packed=wants_gzip)
        self._counts["served" if status == 200 else "declined"] += 1
        top = (
            f"HTTP/1.1 {status} {_REASONS[status]}\r\n{headers}"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        visit.answer = memoryview(top.encode("ascii") + (b"" if is_head else body))
        visit.deadline = now + self._limits.response_s
        self._selector.modify(visit.side, _READ | _WRITE)
        self._write(visit, now)

    def _respond(self, method: str, target: str, *, is_packed: bool) -> tuple[int, bytes, str]:
        plain = f"Content-Type: {_TEXT}\r\n"
        if method not in ("GET", "HEAD"):
            if not method:
                return 400, b"not HTTP\n", plain
            return 405, b"only GET\n", f"{plain}Allow: GET, HEAD\r\n"
        try:
            if target == "/metrics":
                page = self._pages.page(is_packed=is_packed)
                packed = "Content-Encoding: gzip\r\n" if is_packed else ""
                kind = f"Content-Type: {CONTENT_TYPE}\r\nVary: Accept-Encoding\r\n"
                return 200, page, f"{kind}{packed}"
            if target == "/healthz":
                return 200, f"{self._pages.health()}\n".encode(), plain
            if (document := self._documents.get(target)) is not None:
                return 200, document(), _JSON
            if self._fit is not None and target.startswith(_FIT):
                status, line = self._fit(unquote(target[len(_FIT) :]))
                return status, line, _JSON
            if target.startswith(_READY):
                return self._fitness(unquote(target[len(_READY) :]))
        except GpuwardenError as error:
            return 503, f"{error}\n".encode("utf-8", "replace"), plain
        except Exception as error:  # noqa: BLE001  the boundary: one bad page ends one request
            self._counts["failed"] += 1
            return 500, f"internal error: {type(error).__name__}\n".encode(), plain
        fit = () if self._fit is None else (f"{_FIT}SERVICE",)
        paths = ", ".join(("/metrics", "/healthz", *self._documents, *fit))
        return 404, f"{paths} or /ready/NAME\n".encode(), plain

    def _fitness(self, name: str) -> tuple[int, bytes, str]:
        """For load balancers: 200 or 503, each time as of the newest look."""
        headers = _JSON
        found = self._pages.ready(name)
        if found is None:
            return 404, b'{"ready": false, "reasons": ["nobody is called so"]}\n', headers
        is_fit, line = found
        return (200 if is_fit else 503), line, headers

    def _write(self, visit: _Visit, now: float) -> None:
        if visit.answer:
            sent = visit.side.send(visit.answer)
            visit.answer = visit.answer[sent:]
        if not visit.answer and not visit.is_answered:
            # Closing with unread input would reset the connection and lose the answer's tail.
            visit.is_answered = True
            visit.side.shutdown(socket.SHUT_WR)
            visit.deadline = now + self._limits.drain_s
            self._selector.modify(visit.side, _READ)

    def _sweep(self, now: float) -> None:
        if self._deaf_until is not None and now >= self._deaf_until:
            self._deaf_until = None
            self._selector.register(self._listener, _READ)
        for visit in [visit for visit in self._visits.values() if now >= visit.deadline]:
            if not visit.is_answered:
                self._counts["timeout"] += 1
            self._drop(visit)

    def _drop(self, visit: _Visit) -> None:
        if self._visits.pop(visit.side, None) is not None:
            self._selector.unregister(visit.side)
            visit.side.close()


def _bound(address: str, setting: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    try:
        if not 0 <= int(port) <= 65535:
            raise ValueError("no such port")  # getaddrinfo would take it modulo 65536
        found = socket.getaddrinfo(
            host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, kind, protocol, _, where = found[0]
        listener = socket.socket(family, kind | socket.SOCK_NONBLOCK, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(where)
            listener.listen(64)
        except OSError:
            listener.close()
            raise
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise Unavailable(f"metrics cannot be served at {address}: {reason} ({setting})") from error
    return listener


def _parsed(head: bytes) -> tuple[str, str, dict[str, str]]:
    """Method, path without its query, header fields by lower-case name; ``""`` for no HTTP."""
    lines = head.decode("latin-1").replace("\r\n", "\n").split("\n")
    # GET /metrics?x=1 HTTP/1.1
    words = lines[0].split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1.") or not words[0].isupper():
        return "", "", {}
    fields = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if colon:
            fields[name.strip().lower()] = value.strip().lower()
    return words[0], words[1].partition("?")[0], fields


def _is_loopback(host: str) -> bool:
    """Packing a page for a reader on the same host costs more than copying it."""
    try:
        found = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None)
    return bool((mapped or found).is_loopback)
