"""A real process that holds real device memory: scripts/gpu-check.d/holder.py and its line protocol."""

from __future__ import annotations

import contextlib
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

HOLDER = Path(__file__).resolve().parents[2] / "scripts" / "gpu-check.d" / "holder.py"
ANSWER_S = 60.0
"""The first context on a board without persistence takes seconds."""


class Absent(Exception):
    """There is no CUDA here; the text says why."""


class RealHolder:
    """One holder process. Not for several threads."""

    def __init__(self, device: int, *, ignores_term: bool = False) -> None:
        """Raises Absent where CUDA does not start."""
        arguments = ["--ignore-term"] if ignores_term else []
        self.process = subprocess.Popen(
            [sys.executable, str(HOLDER), str(device), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            start_new_session=True,
        )
        verb, *rest = self._answer().split(maxsplit=1) or ["absent"]
        if verb != "ready":
            self.end()
            raise Absent(" ".join(rest) or "the holder ended")

    @property
    def pid(self) -> int:
        return self.process.pid

    def tell(self, *words: object) -> None:
        """Ask without waiting: the answer is read by ``answer``."""
        assert self.process.stdin is not None
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()

    def answer(self) -> tuple[bool, tuple[int, ...]]:
        """Whether it worked, and its numbers (the CUDA code when it did not)."""
        verb, *rest = self._answer().split() or ["failed", "-1"]
        return verb == "ok", tuple(map(int, rest))

    def ask(self, *words: object) -> tuple[bool, tuple[int, ...]]:
        self.tell(*words)
        return self.answer()

    def _answer(self) -> str:
        assert self.process.stdout is not None
        if not select.select([self.process.stdout], [], [], ANSWER_S)[0]:
            return ""
        return self.process.stdout.readline()

    def end(self, timeout_s: float = 20.0) -> None:
        """Its standard input closes, so it ends in order; killed only when it does not."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        try:
            self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(timeout_s)
        self.process.stdout.close()


@contextlib.contextmanager
def holding(size_bytes: int, device: int = 0) -> Iterator[RealHolder]:
    """A process that holds so much, and lets go at the end."""
    holder = RealHolder(device)
    try:
        is_held, said = holder.ask("alloc", size_bytes)
        assert is_held, f"cuMemAlloc of {size_bytes} bytes: CUDA says {said}"
        yield holder
    finally:
        holder.end()
