"""The log in systemd's journal: its native protocol, with fields to search by, an id for each kind of event, and
lines that repeat themselves folded. Loaded only where stderr is the journal.
"""

import hashlib
import os
import re
import socket
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Final

SOCKET: Final = "/run/systemd/journal/socket"
IDENTIFIER = "gpuwarden"
SEND_S = 0.2
"""A journal that does not take a line within this has it counted as lost: the log stops nobody."""
LINE_MAX_BYTES = 48 * 1024
"""journald's own LineMax; the datagram that holds it stays far below what a socket takes."""
MESSAGE_MAX_CHARS = 8 * 1024
FIELDS_MAX = 60
SAME_MAX = 5
SAME_S = 30.0
"""So many equal lines within this long are said; the others are counted, and the count is said afterwards."""
REMEMBERED_MAX = 256
_PRIORITY: Final = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
_NOT_A_NAME = re.compile(r"[^A-Z0-9_]")


def message_id(event: str) -> str:
    """The MESSAGE_ID of an event, the same in every version: ``journalctl MESSAGE_ID=...``."""
    return hashlib.sha256(f"gpuwarden log event {event}".encode()).hexdigest()[:32]


def is_stderr(environ: Mapping[str, str]) -> bool:
    """Whether the journal is what stderr leads to, by the word of systemd and of the descriptor itself."""
    said = environ.get("JOURNAL_STREAM", "")
    try:
        status = os.fstat(2)
    except OSError:
        return False
    return said == f"{status.st_dev}:{status.st_ino}"


class Folding:
    """Says which lines are the same as others a moment ago, and how many were not said."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._seen: OrderedDict[str, list[float]] = OrderedDict()
        """By line: when its window began, how many it held, how many of those were not said."""

    def is_said(self, line: str) -> bool:
        """Whether this one is to be said; ask ``over`` before."""
        seen = self._seen.get(line)
        if seen is None:
            self._seen[line] = [self._now(), 1.0, 0.0]
            return True
        seen[1] += 1
        seen[2] += seen[1] > SAME_MAX
        return seen[1] <= SAME_MAX

    def over(self) -> list[tuple[str, int]]:
        """Lines that were folded and whose time is over, each with how often it was not said."""
        now, found = self._now(), []
        for line, (began, _, held) in list(self._seen.items()):
            is_old = now - began > SAME_S
            if held and is_old:
                found.append((line, int(held)))
            if is_old or len(self._seen) > REMEMBERED_MAX:
                del self._seen[line]
        return found


class Journal:
    """What structlog hands finished events to."""

    def __init__(self, path: str = SOCKET, folding: Folding | None = None) -> None:
        self._path = path
        self._folding = folding or Folding()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.settimeout(SEND_S)
        self.lost = 0

    def msg(self, **event: Any) -> None:
        """One event: its level, its name, its values (``log._on_one_line`` has tamed them)."""
        level = str(event.pop("level", "info"))
        name = str(event.pop("event", ""))
        event.pop("timestamp", None)  # the journal has its own
        values = {key: _shown(value) for key, value in event.items() if value is not None}
        text = " ".join((name, *(f"{key}={value}" for key, value in values.items())))
        text = text[:MESSAGE_MAX_CHARS]
        for folded, count in self._folding.over():
            self._send(
                {"MESSAGE": f"{folded} (and {count} times more)", **_head("info", "repeated")}
            )
        if not self._folding.is_said(text):
            return
        fields = {**_head(level, name), "MESSAGE": text}
        for key, value in list(values.items())[:FIELDS_MAX]:
            fields.setdefault(_field(key), value)
        self._send(fields)

    def close(self) -> None:
        """Nothing is said after this."""
        self._socket.close()

    debug = info = warning = warn = error = critical = exception = fatal = failure = log = msg

    def _send(self, fields: Mapping[str, str]) -> None:
        if self.lost:
            fields = {**fields, "GPUWARDEN_LOST": str(self.lost)}
        try:
            self._socket.sendto(packed(fields), self._path)
        except OSError:
            self.lost += 1
            # What the journal's stream takes is better than nothing; it is the same journal.
            print(fields["MESSAGE"], file=sys.stderr)  # noqa: T201
        else:
            self.lost = 0


def packed(fields: Mapping[str, str]) -> bytes:
    """As journald reads it: NAME=VALUE, or with its length where the value has a line of its own."""
    lines: list[bytes] = []
    left = LINE_MAX_BYTES
    for name, value in fields.items():
        data = value.encode("utf-8", "replace")[: max(0, left)]
        left -= len(data)
        if b"\n" in data:
            lines.append(name.encode() + b"\n" + len(data).to_bytes(8, "little") + data + b"\n")
        else:
            lines.append(name.encode() + b"=" + data + b"\n")
    return b"".join(lines)


def _head(level: str, name: str) -> dict[str, str]:
    return {
        "PRIORITY": str(_PRIORITY.get(level, 6)),
        "SYSLOG_IDENTIFIER": IDENTIFIER,
        "MESSAGE_ID": message_id(name),
        "GPUWARDEN_EVENT": name,
    }


def _field(key: str) -> str:
    """``incident`` -> ``GPUWARDEN_INCIDENT``: at most 64 of A-Z, 0-9 and _."""
    return f"GPUWARDEN_{_NOT_A_NAME.sub('_', key.upper())}"[:64]


def _shown(value: object) -> str:
    return value if isinstance(value, str) else repr(value)
