"""The client itself: a buffer, and a thread that empties it into the agent's socket.

The socket speaks HTTP: ``POST /v1/observations`` with ``{"observations": [{...}], "lost": N}``, so that any other
program can do the same (``curl --unix-socket /run/gpuwarden/observe/http.sock``).
"""

import atexit
import json
import os
import socket
import threading
import time
import weakref
from collections import deque
from typing import Any, Callable, Deque, Dict, List, Optional, Tuple

SOCKET = "/run/gpuwarden/observe/http.sock"
SOCKET_VARIABLE = "GPUWARDEN_OBSERVE"
CAPACITY = 20_000
BATCH = 1000
BATCH_MAX_BYTES = 400_000
EVERY_S = 1.0
TIMEOUT_S = 1.0
BACKOFF_MAX_S = 30.0
AT_EXIT_S = 0.5
_NAMES = (
    "latency",
    "ok",
    "features",
    "prediction",
    "label",
    "segment",
    "arm",
    "unit_id",
    "prediction_id",
    "confidence",
    "score",
    "cost",
    "complaint",
    "opt_out",
    "payload",
    "opinions",
    "counts",
)
_Row = Tuple[Any, ...]
_Rows = List[_Row]


class Client:
    """Made once a process. Each process of a server that forks has a buffer and a thread of its own."""

    def __init__(
        self,
        path: Optional[str] = None,
        capacity: int = CAPACITY,
        every_s: float = EVERY_S,
    ) -> None:
        """``path``: the agent's socket; unset: ``$GPUWARDEN_OBSERVE``, else /run/gpuwarden/observe/http.sock."""
        self._path = path or os.environ.get(SOCKET_VARIABLE) or SOCKET
        self._capacity = capacity
        self._every_s = every_s
        self.lost = 0
        """Observations that did not fit, or that the agent would not have."""
        self.sent = 0
        self._begin()
        alive = weakref.ref(self)
        os.register_at_fork(after_in_child=lambda: _begin_again(alive))
        atexit.register(_last_words, alive)

    def _begin(self) -> None:
        self._buffer: Deque[_Row] = deque()
        self._waiting: _Rows = []
        self._unreported = 0
        self._thread: Optional[threading.Thread] = None
        self._starting = threading.Lock()
        self._stop = threading.Event()
        self._sending = threading.Lock()

    def observe(
        self,
        latency: Any = None,
        ok: Any = None,
        features: Any = None,
        prediction: Any = None,
        label: Any = None,
        segment: Any = None,
        arm: Any = None,
        unit_id: Any = None,
        *,
        prediction_id: Any = None,
        confidence: Any = None,
        score: Any = None,
        cost: Any = None,
        complaint: Any = None,
        opt_out: Any = None,
        payload: Any = None,
        opinions: Any = None,
        counts: Any = None,
    ) -> None:
        """One request, or what became known of one later. ``latency`` in seconds; ``features`` by name, ``None``
        for one that is missing; ``label`` and ``score`` find their prediction by ``prediction_id``. ``payload``: by
        which people find the input again, should they be asked about this prediction; ``opinions``: what others
        said of the same input; ``counts``: what the service counts itself, by name (series ``custom.NAME``)."""
        try:
            buffer = self._buffer
            if len(buffer) >= self._capacity:
                self.lost += 1
                self._unreported += 1
                return
            buffer.append(
                (
                    latency,
                    ok,
                    features,
                    prediction,
                    label,
                    segment,
                    arm,
                    unit_id,
                    prediction_id,
                    confidence,
                    score,
                    cost,
                    complaint,
                    opt_out,
                    payload,
                    opinions,
                    counts,
                )
            )
            if self._thread is None:
                self._start()
        except Exception:  # noqa: BLE001  whatever it is, it is not the caller's
            self.lost += 1

    def flush(self, timeout_s: float = 1.0) -> bool:
        """Send what waits, now, for tests and for the end of a program; whether all of it went."""
        until = time.monotonic() + timeout_s
        try:
            while self._buffer or self._waiting:
                if time.monotonic() > until or not self._send_some():
                    return False
        except Exception:  # noqa: BLE001
            return False
        return True

    def close(self) -> None:
        """End the thread; what waits is not sent."""
        self._stop.set()

    def _start(self) -> None:
        if not self._starting.acquire(blocking=False):
            return
        thread = threading.Thread(
            target=_run,
            args=(weakref.ref(self), self._stop, self._every_s),
            name="gpuwarden-observe",
            daemon=True,
        )
        self._thread = thread
        thread.start()

    def _send_some(self) -> bool:
        """One batch; whether the agent took it (or will never have it)."""
        with self._sending:
            while len(self._waiting) < BATCH and self._buffer:
                self._waiting.append(self._buffer.popleft())
            if not self._waiting and not self._unreported:
                return True
            lost = self._unreported
            count, body = _encoded(self._waiting, lost)
            status = _post(self._path, body)
            # 403: the agent does not know (yet) whose process this is; what has just been started is looked at
            # within seconds. Whoever carries no service at all loses what does not fit, and that is counted.
            if status is None or status in (403, 429) or status >= 500:
                return False
            if status >= 300:
                self.lost += count
            else:
                self.sent += count
                self._unreported -= lost
            del self._waiting[:count]
            return True


def _encoded(rows: _Rows, lost: int) -> Tuple[int, bytes]:
    """As many as fit a message, and that message; a row that is no JSON is left out."""
    parts, size, count = [], 0, 0
    for row in rows:
        count += 1
        try:
            said: Dict[str, Any] = {}
            for name, value in zip(_NAMES, row):
                if value is not None:
                    said[name] = value
            text = json.dumps(said, allow_nan=False, default=_plain)
        except Exception:  # noqa: BLE001
            lost += 1
            continue
        parts.append(text)
        size += len(text)
        if size > BATCH_MAX_BYTES:
            break
    body = '{"observations": [%s], "lost": %d}' % (", ".join(parts), lost)
    return count, body.encode("utf-8", "replace")


def _plain(value: Any) -> float:
    """numpy's scalars and their like."""
    return float(value)


def _post(path: str, body: bytes) -> Optional[int]:
    """Status of the answer; ``None``: nobody answered."""
    head = (
        b"POST /v1/observations HTTP/1.1\r\nHost: gpuwarden\r\nContent-Type: application/json\r\n"
        b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
    )
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as side:
            side.settimeout(TIMEOUT_S)
            side.connect(path)
            side.sendall(head + body)
            answer = side.recv(4096)
        # HTTP/1.1 202 Accepted
        return int(answer.split(b" ", 2)[1])
    except (OSError, ValueError, IndexError):
        return None


def _run(alive: "Callable[[], Optional[Client]]", stop: threading.Event, every_s: float) -> None:
    wait_s = every_s
    while not stop.wait(wait_s):
        client = alive()
        if client is None:
            return
        try:
            is_well = client._send_some()
            while is_well and len(client._buffer) >= BATCH and not stop.is_set():
                is_well = client._send_some()
        except Exception:  # noqa: BLE001
            is_well = False
        wait_s = every_s if is_well else min(BACKOFF_MAX_S, max(wait_s, every_s) * 2)
        del client


def _begin_again(alive: "Callable[[], Optional[Client]]") -> None:
    """In a child after a fork: the parent's observations are the parent's, and its thread is not here."""
    client = alive()
    if client is not None:
        client._begin()
        client.lost = client.sent = 0


def _last_words(alive: "Callable[[], Optional[Client]]") -> None:
    client = alive()
    if client is not None and (client._buffer or client._waiting):
        client.flush(AT_EXIT_S)
