"""A Docker daemon of a test's own, which may be killed and started again."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

from tests.e2e.agent import until
from tests.e2e.containers import ASK_TIMEOUT_S, IMAGE, docker


class OwnDaemon:
    """As scripts/services starts one: no bridge, no iptables, cgroupfs, a containerd of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.address = f"unix://{folder}/docker.sock"

    def start(self) -> None:
        self._folder.mkdir(exist_ok=True)
        (self._folder / "daemon.json").write_text("{}")
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    "dockerd",
                    *("--config-file", str(self._folder / "daemon.json")),
                    *("--host", self.address, "--pidfile", str(self._folder / "pid")),
                    *("--data-root", str(self._folder / "data")),
                    *("--exec-root", str(self._folder / "exec")),
                    *("--iptables=false", "--ip6tables=false", "--ip-masq=false"),
                    *("--ip-forward=false", "--bridge=none", "--userland-proxy=false"),
                    *("--exec-opt", "native.cgroupdriver=cgroupfs", "--shutdown-timeout", "3"),
                    *("--containerd-namespace", f"test-{os.getpid()}"),
                    *("--containerd-plugins-namespace", f"test-{os.getpid()}-plugins"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        until("the daemon answers", self._answers, story=self._said)

    def _answers(self) -> bool:
        return bool(
            docker("version", "--format={{.Server.Version}}", check=False, daemon=self.address)
        )

    def _said(self) -> str:
        return "\n".join((self._folder / "log").read_text(errors="replace").splitlines()[-20:])

    def load(self) -> None:
        """The test image, as the private daemon has it."""
        archive = self._folder / "image.tar"
        docker("save", "--output", str(archive), IMAGE)
        docker("load", "--input", str(archive), daemon=self.address)

    def kill(self) -> None:
        """KILL: its containers run on."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(ASK_TIMEOUT_S)

    def close(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(ASK_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self.kill()
        self._end_what_is_left()
        mounts = Path("/proc/self/mounts").read_text().splitlines()
        below = [line.split()[1] for line in mounts if f" {self._folder}/" in line]
        for mount in sorted(below, reverse=True):
            subprocess.run(["umount", "-l", mount], check=False, timeout=ASK_TIMEOUT_S)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _end_what_is_left(self) -> None:
        """Shims and containerd outlive a daemon that was killed; ours carry our folder in their words."""
        for line in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = line.read_bytes()
            except OSError:
                continue
            pid = int(line.parent.name)
            if f"{self._folder}/exec".encode() in words and pid != os.getpid():
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
