"""What the steps of a package's life ask: of its unit, in its place."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from debs import Debs
from place import Place, must_do
from steps import Steps, until

QUIET_DPKG = "DEBIAN_FRONTEND=noninteractive dpkg --force-confold"
Value = TypeVar("Value")


class UnitLife:
    """One package with one unit."""

    package = ""
    unit = ""
    config = ""
    drop_ins = ""
    state = ""

    def __init__(self, place: Place, steps: Steps, debs: Debs) -> None:
        self.place = place
        self.steps = steps
        self.debs = debs

    def within(self, seconds: float) -> float:
        return seconds * self.place.slow

    def do(self, script: str, seconds: float = 60.0) -> str:
        return must_do(self.place, script, self.within(seconds))

    def shown(self, key: str, unit: str = "") -> str:
        return self.do(f"systemctl show --property={key} --value {unit or self.unit}")

    def is_active(self) -> bool:
        return self.shown("ActiveState") == "active"

    def pid(self) -> int:
        return int(self.shown("MainPID") or 0)

    def is_another(self, pid: int) -> bool:
        """Whether a process that is not this one is active."""
        return self.pid() not in (0, pid) and self.is_active()

    def ask(self, verb: str) -> dict[str, Any]:
        """A verb's JSON; empty while nobody answers."""
        said = self.place.do(f"gpuwarden {verb} --json 2>/dev/null", self.within(30))
        try:
            answer = json.loads(said.out)
        except ValueError:
            return {}
        return answer if isinstance(answer, dict) else {}

    def until(self, what: str, ask: Callable[[], Value], seconds: float = 60.0) -> Value:
        return until(what, ask, self.within(seconds))

    def install_deb(self, deb: Path, seconds: float = 120.0) -> str:
        return self.do(f"{QUIET_DPKG} --install {deb} 2>&1", seconds)

    def starts(self) -> int:
        said = self.do(f"journalctl --no-pager -o cat -u {self.unit} | grep -c '^Started ' || :")
        return int(said or 0)

    def reloads(self) -> int:
        """How often systemd was told to read its units again: that takes GPUs from containers on some hosts."""
        said = self.do("journalctl --no-pager -o cat _PID=1 | grep -c '^Reloading' || :")
        return int(said or 0)
