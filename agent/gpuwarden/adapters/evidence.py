"""What is kept when a repair has failed, before the next step wipes it out: a folder an incident.

The kernel log as it stands, what nvidia-smi says of the device, and nvidia-bug-report where it is installed: what a vendor
asks for first (health research 7). Each of them may be missing; the folder says which, and why.
"""

import json
import os
import re
import shutil
import stat
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gpuwarden.adapters.tool import Tool
from gpuwarden.clock import Clock
from gpuwarden.errors import Unavailable, Unsupported
from gpuwarden.model.repair import Subject

FOLDERS_MAX = 16
"""The oldest goes for a new one."""
FREE_MIN_BYTES = 512 * 2**20
"""Nothing is kept on a disk with less room (reliability research 2: never fill the host)."""
LOG_MAX_BYTES = 1024 * 1024
"""The newest part of the kernel log; a ring is rarely larger."""
REPORT_MAX_BYTES = 64 * 2**20
SMI_S = 20.0
_RECORD_MAX = 8192
# inc-6b084410-1
_INCIDENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,79}\Z")
# inc-6b084410-1.2
_FOLDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,79}\.[0-9]{1,6}\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceRoom:
    """Keeps evidence under ``folder``, readable for its owner alone. For a worker: ``keep`` blocks."""

    folder: Path
    kernel_log: Path
    nvidia_smi: Path
    bug_report: Path
    """nvidia-bug-report.sh; one that is not there is left out."""
    report_s: float
    clock: Clock

    def keep(self, subject: Subject, incident: str, why: str) -> str:
        """Where it lies and what it holds, in words; ``Unavailable`` when nothing could be kept."""
        room = self._folder(incident)
        missing: dict[str, str] = {}
        parts: dict[str, Callable[[], str]] = {
            "kernel.log": lambda: self._log(room),
            "nvidia-smi.txt": lambda: self._smi(room, subject),
            "nvidia-bug-report": lambda: self._report(room),
        }
        kept: list[str] = []
        for name, take in parts.items():
            try:
                kept.append(take())
            except (Unavailable, Unsupported, OSError) as error:
                missing[name] = " ".join(str(error).split())[:300]
        about = {
            "incident": incident,
            "device": subject.device,
            "index": subject.index,
            "pci": subject.pci,
            "why": why[:500],
            "wall": self.clock.wall(),
            "kept": kept,
            "missing": missing,
        }
        self._write(room / "about.json", (json.dumps(about, indent=2) + "\n").encode())
        left_out = "".join(f"; no {name}: {said}" for name, said in missing.items())
        return f"{room}: {', '.join(kept) or 'nothing'}{left_out}"[:1000]

    def _folder(self, incident: str) -> Path:
        if not _INCIDENT.match(incident):
            raise Unavailable(f"not the name of an incident: {incident[:80]!r}")
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if shutil.disk_usage(self.folder).free < FREE_MIN_BYTES:
                raise Unavailable(f"{self.folder}: under {FREE_MIN_BYTES >> 20} MiB are free")
            old = sorted(self._folders(), key=lambda path: path.stat().st_mtime)
            for path in old[: max(0, len(old) - FOLDERS_MAX + 1)]:
                shutil.rmtree(path)
            mine = [int(p.name.rpartition(".")[2]) for p in old if p.stem == incident]
            room = self.folder / f"{incident}.{max(mine, default=0) + 1}"
            room.mkdir(mode=0o700)
        except OSError as error:
            raise Unavailable(f"{self.folder}: {error.strerror or error}") from error
        return room

    def _folders(self) -> list[Path]:
        """Folders of evidence; whatever else lies there is somebody else's."""
        return [
            Path(entry.path)
            for entry in os.scandir(self.folder)
            if _FOLDER.match(entry.name) and entry.is_dir(follow_symlinks=False)
        ]

    def _log(self, room: Path) -> str:
        mode = self.kernel_log.stat().st_mode
        if stat.S_ISCHR(mode):
            text = _records(self.kernel_log)
        elif stat.S_ISREG(mode):
            text = _end_of(self.kernel_log)
        else:
            raise Unsupported(f"{self.kernel_log} is not read a second time")
        if not text:
            raise Unavailable(f"{self.kernel_log} is empty")
        self._write(room / "kernel.log", text)
        return "kernel.log"

    def _smi(self, room: Path, subject: Subject) -> str:
        which = () if subject.device is None else ("-i", str(subject.device))
        answer = Tool(name=str(self.nvidia_smi), clock=self.clock, timeout_s=SMI_S).run(
            "-q", *which
        )
        self._write(room / "nvidia-smi.txt", (answer.out + answer.err).encode())
        if answer.status != 0:
            raise Unavailable(f"nvidia-smi.txt holds its failure: {answer.why}")
        return "nvidia-smi.txt"

    def _report(self, room: Path) -> str:
        """In safe mode: without the parts that its own help says may hang a sick host."""
        path = room / "nvidia-bug-report.log"
        tool = Tool(name=str(self.bug_report), clock=self.clock, timeout_s=self.report_s)
        answer = tool.run("--safe-mode", "--output-file", str(path))
        if answer.status != 0:
            raise Unavailable(f"{self.bug_report.name}: {answer.why}")
        for found in (path.with_name(f"{path.name}.gz"), path):  # gzip is used where it is there
            if not found.is_file():
                continue
            if found.stat().st_size > REPORT_MAX_BYTES:
                found.unlink()
                raise Unavailable(f"{found.name} was over {REPORT_MAX_BYTES >> 20} MiB: removed")
            return found.name
        raise Unavailable(f"{self.bug_report.name} wrote no {path.name}")

    def _write(self, path: Path, data: bytes) -> None:
        with open(path, "xb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            file.write(data)


def _records(path: Path) -> bytes:
    """The newest of what the ring holds, a record a line, as the device gives it."""
    parts: deque[bytes] = deque()
    size = 0
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        while True:
            try:
                part = os.read(fd, _RECORD_MAX)
            except BrokenPipeError:
                continue  # overwritten meanwhile: the next read is the oldest that is left
            except BlockingIOError:
                break
            if not part:
                break
            parts.append(part)
            size += len(part)
            while size > LOG_MAX_BYTES:
                size -= len(parts.popleft())
    finally:
        os.close(fd)
    return b"".join(parts)


def _end_of(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - LOG_MAX_BYTES))
        return file.read(LOG_MAX_BYTES)
