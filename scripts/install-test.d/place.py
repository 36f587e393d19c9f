"""Where packages are installed: something booted in which shell commands can be run."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from steps import Failed, until

MACHINE = Path(__file__).resolve().parents[1] / "machine"
BOOT_S = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    status: int
    out: str


class Place(Protocol):
    """``slow`` stretches what is waited for: an emulated machine takes that much longer."""

    name: str
    slow: float

    def do(self, script: str, within_s: float = 60.0) -> Said:
        """A script of its /bin/sh; what it printed, both ways."""

    def close(self) -> None: ...


def must_do(place: Place, script: str, within_s: float = 60.0) -> str:
    said = place.do(script, within_s)
    if said.status:
        raise Failed(
            f"`{script.splitlines()[0][:120]}` ended with {said.status}: {said.out[-600:]}"
        )
    return said.out.strip()


def write(place: Place, path: str, text: str) -> None:
    must_do(place, f"mkdir -p $(dirname {path}); cat >{path} <<'END-OF-FILE'\n{text}\nEND-OF-FILE")


class Container:
    """A booted copy of a root folder (scripts/machine); gone without a trace when closed."""

    slow = 1.0

    def __init__(self, name: str, root: Path, shown: Iterable[Path]) -> None:
        self.name = name
        self._machine = f"install-{name}"
        show = [word for folder in shown for word in ("--show", str(folder))]
        self._process = subprocess.Popen(
            [MACHINE, "boot", "--root", str(root), "--kernel-log", *show, self._machine],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        try:
            until("it has booted", self._is_up, BOOT_S)
        except BaseException:
            self.close()
            raise

    def do(self, script: str, within_s: float = 60.0) -> Said:
        try:
            ran = subprocess.run(
                [MACHINE, "enter", self._machine, "/bin/sh", "-c", script],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                timeout=within_s,
                check=False,
            )
        except subprocess.TimeoutExpired as late:
            raise Failed(
                f"`{script.splitlines()[0][:120]}`: no end within {within_s:g} s"
            ) from late
        return Said(status=ran.returncode, out=ran.stdout)

    def _is_up(self) -> bool:
        if self._process.poll() is not None:
            raise Failed(f"scripts/machine ended with {self._process.returncode}")
        return self.do("systemctl is-system-running").out.strip() in ("running", "degraded")

    def close(self) -> None:
        subprocess.run([MACHINE, "stop", self._machine], check=False, timeout=60)
        self._process.kill()
        self._process.wait(60)
