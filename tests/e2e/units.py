"""Units of a real systemd that run workloads of the simulated driver, and what became of them."""

from __future__ import annotations

import os
import shutil
import subprocess
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gpuwarden.sim.host import SimHost

ASK_TIMEOUT_S = 60.0
HOG = ("hog", "--size", "12GiB", "--rate", "30GiB/s")


def systemctl(*words: str, check: bool = True) -> str:
    """One ``systemctl`` command; its output."""
    done = subprocess.run(
        ["systemctl", *words], capture_output=True, text=True, timeout=ASK_TIMEOUT_S, check=False
    )
    if check and done.returncode:
        raise AssertionError(f"systemctl {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout.strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """One unit by its name."""

    name: str

    def shown(self, key: str) -> str:
        return systemctl("show", f"--property={key}", "--value", "--", self.name)

    def is_active(self) -> bool:
        return self.shown("ActiveState") == "active"

    def is_down(self) -> bool:
        """Stopped, and not about to be started again."""
        return self.shown("ActiveState") in ("inactive", "failed") and not self.pids()

    def starts(self) -> int:
        """How often systemd has started it again by itself."""
        return int(self.shown("NRestarts") or 0)

    def kill(self) -> None:
        systemctl("kill", "--signal=KILL", "--", self.name)

    def pids(self) -> list[int]:
        """Everything in its control group."""
        group = self.shown("ControlGroup")
        if not group:
            return []
        found: list[int] = []
        for procs in Path(f"/sys/fs/cgroup{group}").rglob("cgroup.procs"):
            found += [int(word) for word in procs.read_text().split()]
        return found


class Units:
    """Starts workloads of one simulated host as units, and removes them all again."""

    def __init__(self, host: SimHost, folder: Path) -> None:
        self._host = host
        self.program = folder / "hog"  # others may not look into the folder it was built in
        shutil.copy(host.built.workload, self.program)
        self._names: list[str] = []
        self._files: list[Path] = []
        self._scopes: list[subprocess.Popen[bytes]] = []

    def run(self, role: str, *words: str, properties: Sequence[str] = (), name: str = "") -> Unit:
        """``workload WORDS`` as a transient service, which is forgotten as soon as it is down."""
        name = name or f"{role}-{uuid.uuid4().hex[:8]}.service"
        self._names.append(name)
        command = ["systemd-run", "--quiet", f"--unit={name}"]
        command += [f"--property={one}" for one in properties]
        command += [f"--setenv={key}={value}" for key, value in self.environment().items()]
        subprocess.run([*command, str(self.program), *words], timeout=ASK_TIMEOUT_S, check=True)
        return Unit(name=name)

    def scope(self, role: str, *words: str) -> Unit:
        """The same as a scope: systemd did not start it, and only looks after its group."""
        name = f"{role}-{uuid.uuid4().hex[:8]}.scope"
        self._names.append(name)
        command = ["systemd-run", "--quiet", "--scope", f"--unit={name}", str(self.program)]
        environment = {**os.environ, **self.environment()}
        self._scopes.append(
            subprocess.Popen(
                [*command, *words],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
            )
        )
        return Unit(name=name)

    def install(
        self, file: str, *words: str, settings: Sequence[str] = (), program: str = ""
    ) -> None:
        """A unit file; what is started from it is known to systemd when it is down, too."""
        told = [f"Environment={key}={value}" for key, value in self.environment().items()]
        command = " ".join([program or str(self.program), *words])
        lines = ["[Service]", f"ExecStart={command}", *told, *settings, ""]
        self._files.append(Path("/run/systemd/system") / file)
        self._files[-1].write_text("\n".join(lines))
        systemctl("daemon-reload")

    def start(self, name: str) -> Unit:
        self._names.append(name)
        systemctl("start", "--", name)
        return Unit(name=name)

    def environment(self, device: int = 0) -> dict[str, str]:
        """What a workload has to be told."""
        return {"GPUWARDEN_SIM_DIR": str(self._host.folder), "NVIDIA_VISIBLE_DEVICES": str(device)}

    def close(self) -> None:
        for name in self._names:
            systemctl("kill", "--signal=KILL", "--", name, check=False)
            systemctl("stop", "--", name, check=False)
            systemctl("reset-failed", "--", name, check=False)
        for scope in self._scopes:
            scope.wait(ASK_TIMEOUT_S)
        for file in self._files:
            file.unlink()
        if self._files:
            systemctl("daemon-reload")
