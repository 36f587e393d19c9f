"""Paging a webhook, for real: what arrives, what refuses, what never answers."""

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from gpuwarden.adapters.pager import LEFT_BEHIND_MAX, WebhookPager
from gpuwarden.errors import Unavailable, Unsupported

DEADLINE_S = 20.0
TOKEN = "sehr-geheim"
Answer = Callable[[socket.socket], None]


class Hook:
    """A webhook that answers as told and keeps what it was sent."""

    def __init__(self, answer: bytes | Answer = b"HTTP/1.1 202 Accepted\r\n\r\n") -> None:
        self.answer = answer
        self.requests: list[bytes] = []
        self.ended = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}/{TOKEN}"

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                side, _ = self._listener.accept()
                threading.Thread(target=self._one, args=(side,), daemon=True).start()

    def _one(self, side: socket.socket) -> None:
        with side, contextlib.suppress(OSError):
            data = side.recv(65536)
            while b"\r\n\r\n" not in data or not data.endswith(b"}"):
                data += side.recv(65536)
            self.requests.append(data)
            if callable(self.answer):
                self.answer(side)
            else:
                side.sendall(self.answer)

    def close(self) -> None:
        self.ended.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def hook() -> Iterator[Hook]:
    made = Hook()
    yield made
    made.close()


def send(url: str | None, timeout_s: float = DEADLINE_S) -> None:
    WebhookPager(url, timeout_s, "node-1").send("inc-1", "critical", "wörds\n", {"gpu": "0"})


def test_a_page_arrives_as_json(hook: Hook) -> None:
    send(hook.url)
    head, _, body = hook.requests[0].partition(b"\r\n\r\n")
    assert head.startswith(f"POST /{TOKEN} HTTP/1.1\r\n".encode())
    assert b"Content-Type: application/json" in head
    assert json.loads(body) == {
        "incident": "inc-1",
        "severity": "critical",
        "summary": "wörds\n",
        "host": "node-1",
        "details": {"gpu": "0"},
    }


def test_without_a_webhook_the_log_alone_has_it() -> None:
    with pytest.raises(Unsupported, match=r"page\.webhook"):
        send(None)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n", "HTTP 500"),
        (b"HTTP/1.1 404 Nope\r\nContent-Length: 0\r\n\r\n", "HTTP 404"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/\r\n\r\n", "HTTP 302"),
        (b"nonsense\r\n\r\n", "BadStatusLine"),
        (b"", "RemoteDisconnected"),
    ],
)
def test_what_is_no_yes_is_said_without_the_address(hook: Hook, answer: bytes, said: str) -> None:
    hook.answer = answer
    with pytest.raises(Unavailable, match=said) as raised:
        send(hook.url)
    assert TOKEN not in str(raised.value)
    assert len(hook.requests) == 1


def test_nobody_listens(hook: Hook) -> None:
    url = hook.url
    hook.close()
    with pytest.raises(Unavailable, match="Connection refused"):
        send(url)


def test_an_address_that_is_none_is_said_without_it() -> None:
    with pytest.raises(Unavailable, match="InvalidURL") as raised:
        send(f"http://127.0.0.1:9/{TOKEN} \x01")
    assert TOKEN not in str(raised.value)


def test_a_hook_that_drips_for_ever_costs_the_deadline_and_a_bounded_number_of_threads(
    hook: Hook,
) -> None:
    def drip(side: socket.socket) -> None:
        side.sendall(b"HTTP/1.1 200 OK\r\n")
        while not hook.ended.wait(0.01):
            side.sendall(b"X: y\r\n"[:1])

    hook.answer = drip
    pager = WebhookPager(hook.url, 0.1, "node-1")
    for _ in range(LEFT_BEHIND_MAX):
        with pytest.raises(Unavailable, match=r"within 0\.1 s"):
            pager.send("inc-1", "critical", "s", {})
    with pytest.raises(Unavailable, match="have not ended yet"):
        pager.send("inc-1", "critical", "s", {})
    hook.ended.set()
    hook.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    pause = threading.Event()
    for _ in range(int(DEADLINE_S / 0.05)):
        with contextlib.suppress(Unavailable):
            pager.send("inc-2", "critical", "s", {})
            return
        pause.wait(0.05)
    pytest.fail("the places were never given back")
