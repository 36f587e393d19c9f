"""What surrounds the driver of a simulated host: its /proc, /sys and /etc as a folder, and the programs that a
repair calls there (``nvidia-smi``, ``systemctl``, the loading of the driver), each with a note of its call.

The processes on stage are the real ones: they stand in this /proc by links to the host's.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

from gpuwarden import interpreter
from gpuwarden.sim.host import SimHost

INITIAL_NAMESPACE = "pid:[4026531836]"
MANAGER = "nvidia-fabricmanager.service"
MANAGER_PID = 300
MANAGER_STAT = (
    f"{MANAGER_PID} (nv-fabricmanage) S 1 300 300 0 0 0 0 0 0 0 0 0 0 0 0 0 1 0 9000 1 2 3\n"
)
OLD_MODULE = "610.43.02"
LIBRARY = "usr/lib/x86_64-linux-gnu/libnvidia-ml.so"
SWITCH = "sys/bus/pci/devices/0000:c1:00.0"
RELOAD_MS = 300


class Tree:
    """Everything lies below ``root``; ``calls`` names what was called there, oldest first."""

    def __init__(self, folder: Path, host: SimHost) -> None:
        self.root = folder / "root"
        self.programs = folder / "remedies"
        self._host = host
        self._notes = folder / "calls"
        self._notes.touch()
        self._version = str(host.control("info")["driver_version"])
        self._furnish()
        self.programs.mkdir()
        self._write_programs()

    def _furnish(self) -> None:
        """A host whose driver, library and fabric manager are as they should be."""
        self._link("proc/1/ns/pid", INITIAL_NAMESPACE)
        self._link(f"proc/{MANAGER_PID}/ns/pid", INITIAL_NAMESPACE)
        self._write(f"proc/{MANAGER_PID}/stat", MANAGER_STAT)
        self._write("dev/null", "")
        self._write("sys/module/nvidia/version", f"{self._version}\n")
        self._write(f"{LIBRARY}.{self._version}", "")
        self._link(f"{LIBRARY}.1", f"libnvidia-ml.so.{self._version}")
        self._write(f"usr/lib/systemd/system/{MANAGER}", "[Service]\n")
        wants = f"etc/systemd/system/multi-user.target.wants/{MANAGER}"
        self._link(wants, f"/usr/lib/systemd/system/{MANAGER}")
        for device in self._host.control("info")["devices"]:
            self._function(f"sys/bus/pci/devices/{device['pci']}", "0x030200", "nvidia")
        self._function(SWITCH, "0x068000", "nvidia-nvswitch")

    def _function(self, at: str, kind: str, driver: str) -> None:
        self._write(f"{at}/vendor", "0x10de\n")
        self._write(f"{at}/class", f"{kind}\n")
        self._link(f"{at}/driver", f"../../../../bus/pci/drivers/{driver}")

    def show(self, pids: Iterable[int]) -> None:
        """These processes are on this host."""
        for pid in pids:
            if not (self.root / f"proc/{pid}").is_symlink():
                self._link(f"proc/{pid}", f"/proc/{pid}")

    # --- what befalls it ---

    def end_service(self) -> None:
        """The fabric manager's process is gone."""
        (self.root / f"proc/{MANAGER_PID}/stat").unlink(missing_ok=True)

    def set_module(self, *, is_old: bool) -> None:
        """Which of the kernel module's versions is loaded."""
        version = OLD_MODULE if is_old else self._version
        self._write("sys/module/nvidia/version", f"{version}\n")

    def calls(self) -> tuple[str, ...]:
        """Steps that were called, each once for as long as it was called in a row."""
        said = self._notes.read_text(encoding="utf-8").split()
        return tuple(step for n, step in enumerate(said) if n == 0 or said[n - 1] != step)

    # --- what is called there ---

    @property
    def nvidia_smi(self) -> Path:
        return self.programs / "nvidia-smi"

    @property
    def systemctl(self) -> Path:
        return self.programs / "systemctl"

    @property
    def reload(self) -> Path:
        return self.programs / "reload-driver"

    def _write_programs(self) -> None:
        own = Path(__file__).resolve().parents[3]
        inject = interpreter.own("-m", "gpuwarden", "simulate", "inject", "reload")
        stat = f"proc/{MANAGER_PID}/stat"
        self._program(
            self.nvidia_smi,
            "",
            f"case \" $* \" in *' --gpu-reset '*) echo reset-gpu >> {_words([self._notes])} ;; esac",
            f'exec {_words([self._host.nvidia_smi])} "$@"',
        )
        self._program(
            self.reload,
            "reload-driver",
            f"export PYTHONPATH={_words([own])}",
            f"{_words([*inject, '--dir', self._host.folder, '--away-ms', RELOAD_MS])} || exit 1",
            f"echo {self._version} > {_words([self.root / 'sys/module/nvidia/version'])}",
        )
        root = _words([self.root])
        self._program(
            self.systemctl,
            "",
            "verb=$1",
            "for unit; do :; done  # the last one",
            "case $verb in",
            f'show) if [ -e {root}/usr/lib/systemd/system/"$unit" ]; then echo loaded;'
            " else echo not-found; fi ;;",
            f'is-active) if [ "$unit" = {MANAGER} ] && [ -e {root}/{stat} ]; then echo active;'
            " else echo inactive; exit 3; fi ;;",
            f'restart|start) echo "$verb-services" >> {_words([self._notes])}',
            f"    echo {_words([MANAGER_STAT.strip()])} > {root}/{stat} ;;",
            "*) exit 1 ;;",
            "esac",
        )

    def _program(self, path: Path, note: str, *lines: str) -> None:
        noted = [f"echo {note} >> {_words([self._notes])}"] if note else []
        path.write_text("\n".join(["#!/bin/sh", *noted, *lines, ""]), encoding="utf-8")
        path.chmod(0o755)

    def _write(self, path: str, text: str) -> None:
        at = self.root / path
        at.parent.mkdir(parents=True, exist_ok=True)
        at.write_text(text, encoding="utf-8")

    def _link(self, path: str, target: str) -> None:
        at = self.root / path
        at.parent.mkdir(parents=True, exist_ok=True)
        at.unlink(missing_ok=True)
        at.symlink_to(target)


def _words(words: Sequence[object]) -> str:
    return shlex.join(str(word) for word in words)
