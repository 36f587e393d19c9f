"""Which lines are handed on: a cheap look at bytes, and for each kind of line an allowance.

A flood is as a rule the driver's own: whatever repeats is let through up to its allowance and counted
beyond it, so that no kind of line can push out another. Lines that may name a fault have an allowance
for each device and number.
"""

import math
import re
from dataclasses import dataclass, field

from gpuwarden.adapters.kmsg.source import Kept
from gpuwarden.model.kernel_record import KernelForgery

URGENT_BURST, URGENT_PER_S = 512.0, 50.0
PLAIN_BURST, PLAIN_PER_S = 256.0, 20.0
KEYS_MAX = 4096
FORGERY_CHARS = 200

DRIVER = (b"NVRM:", b"nvidia")
"""How a line of the driver begins."""
KERNEL = (
    b"INFO: task ",  # INFO: task cache_mgr_event:620917 blocked for more than 120 seconds.
    b"Out of memory:",  # Out of memory: Killed process 4711 (python3) total-vm:...
    b"Memory cgroup out of memory:",
    b"oom-kill:",  # oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=...
)
"""How the kernel's own lines about tasks begin."""
URGENT = (
    b"Xid (",  # of an SXid, too
    b"fallen off the bus",
    b"dapter",  # RmInitAdapter failed!, rm_init_adapter failed
    b"RESET_REQUIRED",
    b"RC all channels",
    b"Heartbeat timed out",
)
"""Words of a line that may name a fault: it wakes the loop."""
STARTS = (*DRIVER, *KERNEL)
XID = b"Xid ("
OTHERS = b"other driver lines"
TOO_MANY = b"more kinds than can be told apart"

OF_TASKS = (b"INFO: task ", b"ut of memory:", b"oom-kill:")
# NVRM: Xid (PCI:[24541]: segfault at 0 ip 00007f8b6d185ad8 sp 00007fff20ead218 error 4 in libc.so.6[...]
# nvidia-peermem (4711): drop_caches: 1
_OF_A_PROCESS = re.compile(
    rb".{1,15}?(?:\[[0-9]+\]| ?\([0-9]+\)|/[0-9]+: potentially|: page allocation failure| invoked oom-killer)",
    re.DOTALL,
)
"""What the kernel says of a process begins with the name that the process gave itself, 15 bytes long."""
MENTIONS = (b"NVRM", b"nvidia", *OF_TASKS)
"""One of these is in every line that matters."""
PRETENCES = tuple(
    b";" + start
    for start in (
        *(
            b"nvidia-nvswitch",
            b"nvidia-nvlink",
            b"nvidia-uvm",
            b"nvidia-modeset",
            b"nvidia-peermem",
        ),
        *(b"nvidia:", b"nvidia 0"),
    )
)
"""How a forged line may begin, if it says neither NVRM nor Xid; not as nvidia-persistenced's lines do."""


@dataclass(slots=True)
class Counts:
    """Totals since the agent's start."""

    records: int = 0
    bytes: int = 0
    kept: int = 0
    urgent: int = 0
    """Of those that were kept."""
    dropped: int = 0
    """Beyond the allowance of their kind, or beyond the queue's bound."""
    lost: int = 0
    """Overwritten before they could be read."""
    overruns: int = 0
    """EPIPE."""
    forgeries: int = 0
    garbage: int = 0
    """What is no record, and places that were not there."""
    cut: int = 0
    opens: int = 0


@dataclass(slots=True)
class _Allowance:
    left: float
    at: float


@dataclass(slots=True)
class Sieve:
    """The reading thread's alone; its counts are read by any."""

    counts: Counts
    _allowances: dict[bytes, _Allowance] = field(default_factory=dict)
    _forgot_at: float = -math.inf
    _forged: int = 0
    _first: tuple[int | None, str] | None = None

    def is_muted(self, now: float) -> bool:
        """Whether lines of the driver that are not urgent have used up their allowance."""
        allowance = self._allowances.get(OTHERS)
        if allowance is None:
            return False
        return allowance.left + (now - allowance.at) * PLAIN_PER_S < 1.0

    def admits(self, key: bytes, now: float, *, is_urgent: bool) -> bool:
        """Whether one more line of this kind goes through; counted when it does not."""
        burst, per_s = (URGENT_BURST, URGENT_PER_S) if is_urgent else (PLAIN_BURST, PLAIN_PER_S)
        allowance = self._allowances.get(key)
        if allowance is None:
            if len(self._allowances) >= KEYS_MAX and not self._forget(now):
                key = TOO_MANY
            allowance = self._allowances.setdefault(key, _Allowance(burst, now))
        left = min(burst, allowance.left + (now - allowance.at) * per_s)
        allowance.at = now
        if left < 1.0:
            allowance.left = left
            self.counts.dropped += 1
            return False
        allowance.left = left - 1.0
        return True

    def keep(self, kept: list[Kept], one: Kept) -> None:
        """Hand a record on."""
        self.counts.kept += 1
        self.counts.urgent += one.is_urgent
        kept.append(one)

    def _forget(self, now: float) -> bool:
        """Let go of the kinds that have their whole allowance again, at most once a second; whether there is
        room for one more."""
        if now - self._forgot_at >= 1.0:
            self._forgot_at = now
            whole_s = max(URGENT_BURST / URGENT_PER_S, PLAIN_BURST / PLAIN_PER_S)
            for key in [k for k, a in self._allowances.items() if now - a.at > whole_s]:
                del self._allowances[key]
        return len(self._allowances) < KEYS_MAX

    def accuse(self, text: bytes, facility: int | None, count: int = 1) -> None:
        """Count lines that pretend to be the driver's; ``text`` is the first."""
        self.counts.forgeries += count
        self._forged += count
        if self._first is None:
            self._first = (facility, text[:FORGERY_CHARS].decode("utf-8", "backslashreplace"))

    def accused(self) -> KernelForgery | None:
        """What was counted since the last call."""
        if self._first is None:
            return None
        (facility, text), count = self._first, self._forged
        self._first, self._forged = None, 0
        return KernelForgery(count=count, text=text, facility=facility)


def mentions(text: bytes) -> bool:
    """Whether any line in it may matter."""
    return any(text.find(word) >= 0 for word in MENTIONS)


def is_urgent(text: bytes) -> bool:
    """Whether any line in it may name a fault."""
    return any(text.find(word) >= 0 for word in URGENT)


def kind_of(line: bytes, at: int = 0) -> tuple[bytes, bool] | None:
    """The kind of a line that begins at ``at`` as the driver's or the kernel's do, and whether it is
    urgent."""
    if line.startswith(DRIVER, at):
        return kind_within(line)
    for start in KERNEL:
        if line.startswith(start, at):
            return start, False
    return None


def kind_anywhere(line: bytes) -> tuple[bytes, bool] | None:
    """The kind of a line that a logger put something before."""
    for start in KERNEL:
        if line.find(start) >= 0:
            return start, False
    return kind_within(line) if mentions(line) else None


def kind_within(text: bytes) -> tuple[bytes, bool]:
    """The kind of a driver's line, wherever in ``text`` it begins."""
    at = text.find(XID)
    if at >= 0:
        # Xid (PCI:0000:3b:00): 79, pid=... -> the device and the number
        end = text.find(b",", at, at + 64)
        return (text[at:end] if end > 0 else XID), True
    for word in URGENT:
        if text.find(word) >= 0:
            return word, True
    return OTHERS, False


def is_of_a_process(text: bytes) -> bool:
    """Whether a kernel line that begins as the driver's do begins with a process's name."""
    return _OF_A_PROCESS.match(text) is not None


def pretends(line: bytes) -> bool:
    """Whether a line of somebody else (with what stands before it, up to ``;``) looks like the driver's."""
    if line.find(b"NVRM:") >= 0 or line.find(XID) >= 0:
        return True
    return any(line.find(start) >= 0 for start in PRETENCES)
