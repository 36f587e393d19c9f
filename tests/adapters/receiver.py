"""A receiver of pages on loopback: keeps each request, answers as told, well or badly, with or without TLS."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

from tests.adapters import sink_schemas

WAIT_S = 20.0
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def answer(status: int, said: str = "", **headers: str) -> bytes:
    """A whole answer."""
    body = said.encode()
    lines = [f"HTTP/1.1 {status} Word", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request as it came."""

    path: str
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(slots=True)
class Receiver:
    """``kind``: each request is checked against what receivers of that kind publish."""

    kind: str = ""
    answers: list[bytes | Callable[[socket.socket], None]] = field(default_factory=list)
    """The next ones, in order; then ``usual``."""
    usual: bytes | Callable[[socket.socket], None] = OK
    tls: ssl.SSLContext | None = None
    requests: list[Request] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)
    port: int = 0
    _listener: socket.socket | None = None
    _came: threading.Condition = field(default_factory=threading.Condition)

    def start(self) -> Receiver:
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, args=(self._listener,), daemon=True).start()
        return self

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        assert self.faults == []

    def url(self, path: str = "/") -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}{path}"

    def close(self) -> None:
        """Nobody listens there any more."""
        self.ended.set()
        if self._listener is not None:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()

    def wait(self, count: int) -> list[Request]:
        """The requests, once there are so many."""
        with self._came:
            if not self._came.wait_for(lambda: len(self.requests) >= count, WAIT_S):
                raise AssertionError(f"{len(self.requests)} requests instead of {count}")
            return list(self.requests)

    def _serve(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                side, _ = listener.accept()
                threading.Thread(target=self._one, args=(side,), daemon=True).start()

    def _one(self, side: socket.socket) -> None:
        if self.tls is not None:
            side = self.tls.wrap_socket(side, server_side=True, do_handshake_on_connect=False)
        with contextlib.suppress(OSError), side:
            if isinstance(side, ssl.SSLSocket):
                side.do_handshake()
            data = b""
            while b"\r\n\r\n" not in data:
                if not (more := side.recv(65536)):
                    return
                data += more
            head, _, body = data.partition(b"\r\n\r\n")
            first, *rest = head.decode("latin-1").split("\r\n")
            headers = {n.lower(): v.strip() for n, _, v in (line.partition(":") for line in rest)}
            while len(body) < int(headers.get("content-length", "0")):
                body += side.recv(65536)
            self._keep(Request(path=first.split()[1], headers=headers, body=body))
            said = self.answers.pop(0) if self.answers else self.usual
            if callable(said):
                said(side)
            else:
                side.sendall(said)

    def _keep(self, request: Request) -> None:
        if self.kind:
            try:
                sink_schemas.check(self.kind, request.json())
            except Exception as error:  # noqa: BLE001  shown by the test that ends
                self.faults.append(f"{type(error).__name__}: {error}"[:1000])
        with self._came:
            self.requests.append(request)
            self._came.notify_all()


def drip(receiver: Receiver) -> Callable[[socket.socket], None]:
    """An answer that never ends, one byte after the other."""

    def say(side: socket.socket) -> None:
        side.sendall(b"HTTP/1.1 200 OK\r\nX: ")
        while not receiver.ended.wait(0.01):
            side.sendall(b"y")

    return say
