"""The driver's own record of the run: who held how many bytes when, and when the device locked up.

Times are seconds of CLOCK_MONOTONIC as the driver process stamped them.
"""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path

from gpuwarden import interpreter
from gpuwarden.errors import Unavailable
from gpuwarden.sim.control import Control

PAGE = 5000


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One line of the allocation log: a process took or gave bytes on a device."""

    at: float
    pid: int
    device: int
    held_bytes: int
    """What the process holds there afterwards."""


def read_changes(control: Control, since: int = 0) -> tuple[list[Change], int]:
    """Everything logged since number ``since``, and where to go on."""
    changes: list[Change] = []
    while True:
        answer = control.request("log", since=since, limit=PAGE)
        if answer["lost"]:
            raise Unavailable("the driver's allocation log has overwritten its beginning")
        for _, at_ns, pid, device, _, held, _ in answer["entries"]:
            changes.append(Change(at=at_ns / 1e9, pid=pid, device=device, held_bytes=held))
        since = answer["next"]
        if len(answer["entries"]) < PAGE:
            return changes, since


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """What one tenant did on one device."""

    over_at: float | None
    """The first byte over quota."""
    peak_bytes: int
    empty_at: float | None
    """When, after that, it held nothing any more."""
    was_empty: bool
    """Whether it ever held nothing after that."""
    last_bytes: int


def course(
    changes: Iterable[Change], pids: AbstractSet[int], device: int, quota_bytes: int
) -> Course:
    """Follow the sum over a tenant's processes."""
    held: dict[int, int] = {}
    over_at = empty_at = None
    peak = total = 0
    was_empty = False
    for change in changes:
        if change.pid not in pids or change.device != device:
            continue
        held[change.pid] = change.held_bytes
        total = sum(held.values())
        peak = max(peak, total)
        if over_at is None and total > quota_bytes:
            over_at = change.at
        if over_at is not None:
            empty_at = (empty_at or change.at) if total == 0 else None
            was_empty |= total == 0
    return Course(
        over_at=over_at,
        peak_bytes=peak,
        empty_at=empty_at,
        was_empty=was_empty,
        last_bytes=total,
    )


def newcomers(changes: Iterable[Change], known: AbstractSet[int], after: float) -> set[int]:
    """Processes that nobody knew, seen to take bytes after a moment."""
    return {c.pid for c in changes if c.at > after and c.pid not in known and c.held_bytes > 0}


READ_WITHIN_S = 20.0


def xids(folder: Path, environ: Mapping[str, str]) -> Sequence[tuple[float, int]]:
    """When the driver reported which Xid, from its kernel log, as ``gpuwarden debug kernel-log`` reads it."""
    records = _records(folder)
    done = subprocess.run(
        interpreter.own("-m", "gpuwarden", "debug", "kernel-log"),
        env=dict(environ),
        input="".join(f"{record}\n" for record in records),
        capture_output=True,
        text=True,
        timeout=READ_WITHIN_S,
        check=False,
    )
    answers = done.stdout.splitlines()
    if done.returncode or len(answers) != len(records):
        raise Unavailable(f"the kernel log could not be read: {done.stderr[-300:]}")
    return [
        (_stamp_s(record), said["xid"])
        for record, answer in zip(records, answers, strict=True)
        if (said := json.loads(answer)) is not None and "xid" in said
    ]


def _stamp_s(record: str) -> float:
    """When it was printed: ``4,7,123456789,-;NVRM: ...`` is second 123.456789."""
    return int(record.split(",", 3)[2]) / 1e6


def _records(folder: Path) -> list[str]:
    """Every record the simulated log still has, one line each (what follows a record's first is details)."""
    found: list[str] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as kmsg:
        kmsg.settimeout(2.0)
        try:
            kmsg.connect(str(folder / "kmsg.sock"))
            kmsg.send(b"seek first")
            kmsg.send(b"credit 4096")
            kmsg.settimeout(0.2)
            while record := kmsg.recv(8192):
                found.append(record.decode(errors="replace").partition("\n")[0])
        except TimeoutError:
            pass  # nothing more
        except OSError as error:
            raise Unavailable(f"the simulated kernel log: {error}") from error
    return found
