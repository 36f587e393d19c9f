"""Directory trees from one literal, and real cgroups and processes for tests that have root."""

import os
import select
import signal
import subprocess
import textwrap
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

CGROUP_ROOT = Path("/sys/fs/cgroup")


def build(root: Path, literal: str) -> Path:
    r"""Files from ``path: text`` lines (``\n`` in the text is a line break); the root."""
    for line in textwrap.dedent(literal).strip().splitlines():
        name, _, text = line.partition(": ")
        path = root / name.strip()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace("\\n", "\n") + "\n")
    return root


def unkept(old: Mapping[str, str]) -> None:
    """Where nobody needs to know how it was."""


@contextmanager
def real_group(*hierarchies: str) -> Iterator[str]:
    """A cgroup of our own of one path in several hierarchies; emptied and removed afterwards."""
    name = f"gpuwarden-test-{uuid.uuid4().hex[:12]}"
    made = [CGROUP_ROOT / hierarchy / name for hierarchy in hierarchies]
    for directory in made:
        directory.mkdir()
    try:
        yield f"/{name}"
    finally:
        for directory in made:
            for procs in directory.rglob("cgroup.procs"):
                for pid in procs.read_text().split():
                    with suppress(ProcessLookupError):
                        os.kill(int(pid), signal.SIGKILL)
                    wait_gone(int(pid))
            for below in sorted(directory.rglob("*"), reverse=True):
                if below.is_dir():
                    below.rmdir()
            directory.rmdir()


def join(pid: int, path: str, *hierarchies: str) -> None:
    """Move a process into a group."""
    for hierarchy in hierarchies:
        (CGROUP_ROOT / hierarchy / path.lstrip("/") / "cgroup.procs").write_text(str(pid))


@contextmanager
def sleeper(
    argv: Sequence[str] = ("sleep", "300"), *, is_new_group: bool = True
) -> Iterator[subprocess.Popen[bytes]]:
    """A process of our own, gone afterwards whatever the test did to it."""
    process = subprocess.Popen(argv, start_new_session=is_new_group)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(timeout=10)


def wait_gone(pid: int, timeout_s: float = 10.0) -> bool:
    """Whether the process ends within the time."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([fd], [], [], timeout_s)[0])
    finally:
        os.close(fd)


def soon(is_so: Callable[[], bool], timeout_s: float = 10.0) -> bool:
    """Whether it comes true within the time (a group may list a dead process for a moment)."""
    pause = threading.Event()
    until = time.monotonic() + timeout_s
    while not is_so():
        if time.monotonic() > until:
            return False
        pause.wait(0.01)
    return True


def real_hierarchies() -> list[str]:
    """Folders below ``CGROUP_ROOT`` in which this process may make groups; ``.`` on a pure v2 host."""
    names: tuple[str, ...] = ("freezer", "unified", "pids", "memory", "cpu")
    if (CGROUP_ROOT / "cgroup.controllers").exists():
        names = (".",)
    return [name for name in names if os.access(CGROUP_ROOT / name / "cgroup.procs", os.W_OK)]


def identity(hierarchy: str) -> str:
    """How ``CgroupId.hierarchy`` names that folder."""
    return "" if hierarchy in (".", "unified") else hierarchy


def remove_empty_groups(name: str) -> None:
    """Remove what an engine leaves behind: groups of this name, where they are empty."""
    for top in (*CGROUP_ROOT.glob(name), *CGROUP_ROOT.glob(f"*/{name}")):
        for directory in (*sorted(top.rglob("*/"), reverse=True), top):
            with suppress(OSError):
                directory.rmdir()
