"""What operators ask for on its way from the API's threads to the loop, and the answer on its way back."""

import os
import pwd
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from gpuwarden.clock import Clock
from gpuwarden.errors import Refused, Unavailable
from gpuwarden.log import get_log
from gpuwarden.model.audit import Audited, Caller
from gpuwarden.model.command import Answer, Command, Verb
from gpuwarden.ports_operator import Audit

QUEUE = 32
TEXT_MAX_CHARS = 400


@dataclass(slots=True)
class _Asked:
    is_answered: threading.Event = field(default_factory=threading.Event)
    answer: Answer | None = None


class CommandQueue:
    """Implements ``ports.Commands``; ``ask`` is for any thread. ``dropped`` counts commands that found it full.

    Who asks for what is on record before anybody hears of it, as every word to on-call is.
    """

    def __init__(self, audit: Audit, clock: Clock, most: int = QUEUE) -> None:
        self._audit = audit
        self._clock = clock
        self._most = most
        self._lock = threading.Lock()
        self._queue: deque[Command] = deque()
        self._waiting: dict[int, _Asked] = {}
        self._count = 0
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._is_closed = False
        self.dropped = 0

    def ask(self, verb: Verb, subject: str, reason: str, uid: int, timeout_s: float) -> Answer:
        """What became of it. ``Refused`` while too many wait; ``Unavailable`` when it cannot be written down,
        and when the loop does not answer in time: then it may still be carried out, and the journal tells."""
        asked = _Asked()
        caller = Caller(uid=uid, name=_name(uid))
        subject, reason = _line(subject), _line(reason)
        with self._lock:
            self._may_wait()
        self._write(caller, verb, f"{subject}: {reason or 'no reason given'}")
        with self._lock:
            self._may_wait()
            self._count += 1
            command = Command(
                id=self._count,
                verb=verb,
                subject=subject,
                reason=reason,
                uid=uid,
                name=caller.name,
            )
            self._queue.append(command)
            self._waiting[command.id] = asked
        self._tell()
        try:
            if not asked.is_answered.wait(timeout_s) or asked.answer is None:
                raise Unavailable(f"no answer within {timeout_s:g} s; it may still be carried out")
            return asked.answer
        finally:
            with self._lock:
                self._waiting.pop(command.id, None)

    def _may_wait(self) -> None:
        if self._is_closed or len(self._waiting) >= self._most:
            self.dropped += 1
            raise Refused(f"{self._most} commands are waiting already: try again later")

    def _write(self, caller: Caller, verb: Verb, what: str) -> None:
        entry = Audited(
            at=self._clock.now(), wall=self._clock.wall(), caller=caller, verb=verb.value, what=what
        )
        self._audit.audit(entry)
        get_log().info("command", verb=entry.verb, uid=caller.uid, what=what)

    def drain(self) -> Sequence[Command]:
        with suppress(BlockingIOError):
            os.eventfd_read(self._wake)
        with self._lock:
            found = list(self._queue)
            self._queue.clear()
        return found

    def answer(self, answers: Sequence[Answer]) -> None:
        with self._lock:
            for answer in answers:
                asked = self._waiting.get(answer.command)
                if asked is not None:
                    asked.answer = answer
                    asked.is_answered.set()

    def filenos(self) -> Sequence[int]:
        """Readable when something was asked."""
        return (self._wake,)

    def close(self) -> None:
        """Nobody is listening any more."""
        with self._lock:
            self._is_closed = True
            for asked in self._waiting.values():
                asked.is_answered.set()
            os.close(self._wake)

    def _tell(self) -> None:
        with self._lock, suppress(BlockingIOError):
            if not self._is_closed:
                os.eventfd_write(self._wake, 1)


def _line(text: str) -> str:
    cut = "".join(c if c.isprintable() else " " for c in text[:TEXT_MAX_CHARS])
    return " ".join(cut.split())


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"
