"""One probe child as the parent holds it: its start, its messages, its marks, its polite end."""

import contextlib
import mmap
import os
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from gpuwarden.adapters.probe import layout
from gpuwarden.errors import Unavailable
from gpuwarden.model.decision import ProbePlan

_BOOT = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); "
    "from gpuwarden.adapters.probe.child import main; main()"
)
_ROOT = str(Path(__file__).resolve().parents[3])
_BUFFER_BYTES = 1 << 20
_SO_SNDBUFFORCE = 32
_MESSAGES_A_TURN = 256
"""Messages taken from one child in one drain: the rest waits for the next."""


class Frame(NamedTuple):
    """One frame of the child. ``at``: monotonic seconds of what it tells."""

    kind: int
    part: int
    ordinal: int
    at: float
    payload: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A call in progress. ``ordinal`` -1: on no device."""

    thread: int
    since: float
    ordinal: int
    symbol: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """How a child is started. ``only`` empty: every GPU but those of ``skip``."""

    library: str | None
    fast_deadline_s: float
    slow_deadline_s: float
    only: tuple[int, ...] = ()
    skip: tuple[int, ...] = ()
    has_clock_events: bool = False


class Worker:
    """A running child. Everything but ``ask`` belongs to the loop's thread."""

    def __init__(self, start: Start, now: float) -> None:
        """Raises Unavailable when the process cannot be started (limits of the host)."""
        self.start = start
        self.started_at = now
        self.is_open = True
        self._ask_lock = threading.Lock()
        self._asked = 0
        try:
            self._spawn()
        except OSError as error:
            raise Unavailable(f"the probe child cannot be started: {error}") from error

    def _spawn(self) -> None:
        shared = os.memfd_create("gpuwarden-probe")
        try:
            os.ftruncate(shared, layout.SHARED_BYTES)
            self._shared = mmap.mmap(shared, layout.SHARED_BYTES)
            self._frames, frames = _pair()
            self._requests, requests = _pair()
            with frames, requests:
                self.process = subprocess.Popen(
                    self._command(frames.fileno(), requests.fileno(), shared),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    pass_fds=(frames.fileno(), requests.fileno(), shared),
                    env={**os.environ, "MALLOC_ARENA_MAX": "1"},  # three threads, one heap: 1 MiB
                    start_new_session=True,
                )
        finally:
            os.close(shared)

    def _command(self, frames: int, requests: int, shared: int) -> list[str]:
        start = self.start
        return [
            *(sys.executable, "-I", "-S", "-c", _BOOT, _ROOT),
            str(frames),
            str(requests),
            str(shared),
            str(start.fast_deadline_s),
            str(start.slow_deadline_s),
            start.library or "",
            ",".join(map(str, start.only)),
            ",".join(map(str, start.skip)),
            "clock" if start.has_clock_events else "",
        ]

    @property
    def pid(self) -> int:
        return self.process.pid

    def fileno(self) -> int:
        """Readable when the child has sent something or is gone."""
        return self._frames.fileno()

    def frames(self) -> Iterator[Frame]:
        """What the child has sent since the last call; sets ``is_open`` False when it hung up."""
        for _ in range(_MESSAGES_A_TURN):
            try:
                message = self._frames.recv(layout.MESSAGE_MAX)
            except BlockingIOError:
                return
            except OSError:
                message = b""
            if not message:
                self.is_open = False
                return
            yield from split(message)

    def send(self, kind: int, payload: bytes) -> bool:
        """Send one frame; False when the child does not take it now."""
        header = layout.HEADER.pack(len(payload), kind, 0, layout.NO_DEVICE, 0.0)
        try:
            self._frames.send(header + payload)
        except OSError:
            return False
        return True

    def marks(self) -> list[Mark]:
        """Calls in progress, one a thread at most; a mark that is just being written is left out."""
        found = []
        for thread in range(layout.THREADS):
            at = thread * layout.MARK.size
            once = layout.MARK.unpack_from(self._shared, at)
            if once[2] and once == layout.MARK.unpack_from(self._shared, at):
                since, ordinal, symbol = once
                found.append(Mark(thread=thread, since=since, ordinal=ordinal, symbol=symbol))
        return found

    def progress(self, thread: int) -> tuple[float, int, int, int]:
        """Time of the thread's last finished pass, passes, messages dropped, NVML calls."""
        at = layout.PROGRESS_AT + thread * layout.PROGRESS.size
        finished, passes, dropped, calls = layout.PROGRESS.unpack_from(self._shared, at)
        return float(finished), int(passes), int(dropped), int(calls)

    def ask(
        self, operation: int, ordinal: int, path: str, soft: int, hard: int, timeout_s: float
    ) -> tuple[int, int, int, int]:
        """Have the child set or get limits: code, soft, hard, used. Any thread but the loop's.

        Raises Unavailable when no answer came in time or the child is gone.
        """
        text = path.encode()
        with self._ask_lock:
            if self._requests.fileno() < 0:  # released before it was this thread's turn
                raise Unavailable("the probe child went away")
            self._asked += 1
            request = layout.REQUEST.pack(self._asked, operation, ordinal, len(text), soft, hard)
            poller = select.poll()
            try:
                poller.register(self._requests, select.POLLIN)
                self._requests.send(request + text)
                while poller.poll(timeout_s * 1000.0):
                    number, *answer = layout.ANSWER.unpack(self._requests.recv(4096))
                    if number == self._asked:
                        return answer[0], answer[1], answer[2], answer[3]
            except (OSError, layout.Error) as error:
                raise Unavailable(f"the probe child went away: {error}") from error
        raise Unavailable(f"no answer from the driver within {timeout_s:g} s")

    def hang_up(self) -> None:
        """Tell the child to end when it can: pipe closed, TERM, never KILL."""
        self.is_open = False
        for end in (self._frames, self._requests):
            with contextlib.suppress(OSError):
                # Closed by ``release`` alone: another thread may be waiting in ``ask``, and the number
                # of a closed descriptor is soon somebody else's.
                end.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(ProcessLookupError):
            self.process.terminate()

    def release(self) -> bool:
        """Let go of its descriptors; False while another thread still waits in ``ask``."""
        if not self._ask_lock.acquire(blocking=False):
            return False
        try:
            self._frames.close()
            self._requests.close()
            self._shared.close()
        finally:
            self._ask_lock.release()
        return True

    def has_ended(self) -> bool:
        return self.process.poll() is not None

    def wait(self, timeout_s: float) -> bool:
        """Whether it ended in time."""
        try:
            self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        return True


def split(message: bytes) -> Iterator[Frame]:
    """The frames of a message; stops at a length that does not fit."""
    offset = 0
    while offset + layout.HEADER.size <= len(message):
        length, kind, part, ordinal, at = layout.HEADER.unpack_from(message, offset)
        offset += layout.HEADER.size
        if offset + length > len(message):
            return
        payload = message[offset : offset + length]
        offset += length
        yield Frame(kind, part, ordinal, at, payload)


def _pair() -> tuple[socket.socket, socket.socket]:
    """Our end (non-blocking) and the child's, with room for a burst of lists."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    for end in (ours, theirs):
        try:
            end.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _BUFFER_BYTES)
        except PermissionError:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
    return ours, theirs


def plan_payload(plan: ProbePlan, items: Iterable[tuple[int, bool]]) -> bytes:
    """Payload of a PLAN frame: per ordinal the bytes of change that list it, and whether at once."""
    listed = [layout.PLAN_ITEM.pack(trigger, int(is_wanted)) for trigger, is_wanted in items]
    head = layout.PLAN_HEAD.pack(
        plan.period_s, plan.list_every_s, plan.list_gap_s, plan.slow_every_s, len(listed)
    )
    return head + b"".join(listed)
