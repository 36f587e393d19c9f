"""One GET over loopback or to a container, in steps that never block: many at once on one thread."""

import contextlib
import socket
from urllib.parse import quote, urlsplit

from gpuwarden.errors import Unavailable

PAGE_MAX_BYTES = 4 * 2**20
_HEAD_MAX_BYTES = 16 * 1024


class Scrape:
    """A connection under way. ``wants_write`` until the request is out; then it reads to the end.

    HTTP/1.0: the answer ends where its Content-Length or the connection does, never in chunks.
    """

    def __init__(self, url: str, deadline: float, *, is_probe: bool = False) -> None:
        """Connect; ``Unavailable`` when that fails at once. ``deadline`` is for the caller's clock.

        A page is what comes with status 200; of a probe 200 to 399 is all there is to know.
        """
        self._is_probe = is_probe
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or 80
        # The settings admit these only, and Docker tells an address: no name is looked up.
        address = "127.0.0.1" if host == "localhost" else host
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~")
        query = f"?{quote(parts.query, safe='/%:@!$&()*+,;=~?')}" if parts.query else ""
        self.deadline = deadline
        self._out = (
            f"GET {path}{query} HTTP/1.0\r\nHost: {host}:{port}\r\n"
            "Accept: text/plain\r\nConnection: close\r\n\r\n"
        ).encode("ascii", "replace")
        self._in = bytearray()
        self.socket = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            with contextlib.suppress(BlockingIOError):
                self.socket.connect((address, port))
        except OSError as error:
            self.socket.close()
            raise Unavailable(error.strerror or str(error)) from error

    @property
    def wants_write(self) -> bool:
        return bool(self._out)

    def step(self) -> str | None:
        """Go on as far as possible: the page, or ``None`` when there is more to wait for."""
        try:
            if self._out:
                self._out = self._out[self.socket.send(self._out) :]
                return None
            data = self.socket.recv(65536)
        except BlockingIOError:
            return None
        except OSError as error:
            raise Unavailable(error.strerror or str(error)) from error
        self._in += data
        if len(self._in) > PAGE_MAX_BYTES:
            raise Unavailable("the page is larger than 4 MiB")
        return self._page(is_ended=not data)

    def close(self) -> None:
        self.socket.close()

    def _page(self, *, is_ended: bool) -> str | None:
        head, mark, body = self._in.partition(b"\r\n\r\n")
        if not mark:
            if is_ended or len(self._in) > _HEAD_MAX_BYTES:
                raise Unavailable("no HTTP answer")
            return None
        lines = head.decode("latin-1").split("\r\n")
        # HTTP/1.0 200 OK
        words = lines[0].split(" ")
        if not lines[0].startswith("HTTP/1.") or len(words) < 2 or not words[1].isdigit():
            raise Unavailable("no HTTP answer")
        if self._is_probe and len(words[1]) == 3 and 200 <= int(words[1]) <= 399:
            return ""
        if self._is_probe or words[1] != "200":
            raise Unavailable(f"HTTP {words[1][:3]}")
        length = _length(lines[1:])
        if length is not None and len(body) >= length:
            return body[:length].decode("utf-8", "replace")
        if not is_ended:
            return None
        if length is not None:
            raise Unavailable("the page ends too early")
        return body.decode("utf-8", "replace")


def _length(lines: list[str]) -> int | None:
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip().lower() == "transfer-encoding":
            raise Unavailable("a chunked answer to HTTP/1.0")
        if name.strip().lower() == "content-length":
            if not value.strip().isdigit() or len(value.strip()) > 12:
                raise Unavailable("no HTTP answer")
            return int(value)
    return None
