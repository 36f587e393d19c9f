"""A virtual machine, emulated (no KVM): a whole systemd as pid 1, cgroup v2 with all its controllers, docker.io."""

from __future__ import annotations

import base64
import shutil
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import roots
from place import Said
from steps import Failed, until

PACKAGES = (
    *(*roots.PLAIN, "udev", "iproute2", "kmod", "linux-image-cloud-amd64"),
    *("docker.io", "iptables", "nftables", "ca-certificates", "busybox-static"),
)
DISK_MIB, MEMORY_MIB, CPUS = 4096, 3072, 2
BOOT_S = 240.0
DOOR = """#!/bin/bash
# Commands come in base64, one a line; what they say and their status go back in the same way.
stty -F /dev/ttyS1 raw -echo
exec 3<>/dev/ttyS1
echo ready >&3
while IFS= read -r line <&3; do
    said=$(printf %s "$line" | base64 -d | /bin/sh 2>&1 </dev/stdin)
    status=$?
    printf '%s %s\\n' "$status" "$(printf %s "$said" | base64 -w0)" >&3
done
"""
DOOR_UNIT = """[Unit]
After=multi-user.target docker.service
[Service]
ExecStart=/bin/bash /root/door
StandardError=journal+console
Environment=HOME=/root
[Install]
WantedBy=multi-user.target
"""


class Vm:
    """Booted from a fresh disk; its power is cut when it is closed."""

    slow = 10.0
    """Emulated code runs 7 to 10 times slower (packaging research 4)."""

    def __init__(self, folder: Path, debs: Sequence[Path]) -> None:
        self.name = "vm"
        self._folder = folder
        self._qemu: subprocess.Popen[bytes] | None = None
        self._door: socket.socket | None = None
        root = roots.root("bookworm", PACKAGES)
        self._disks(root, debs)
        try:
            self._boot(root)
        except BaseException:
            self.close()
            raise

    def _disks(self, root: Path, debs: Sequence[Path]) -> None:
        """The root folder as a disk, with the door put in; the packages as another."""
        extra = self._folder / "extra"
        (extra / "debs").mkdir(parents=True)
        for deb in debs:
            shutil.copy(deb, extra / "debs")
        run(
            "mke2fs",
            "-q",
            "-F",
            "-t",
            "ext4",
            "-d",
            str(extra / "debs"),
            self._image("debs"),
            "512M",
        )
        run(
            *("mke2fs", "-q", "-F", "-t", "ext4", "-O", "^has_journal"),
            *("-d", str(root), self._image("root"), f"{DISK_MIB}M"),
        )
        for name, text, place in (
            ("door", DOOR, "/root/door"),
            ("unit", DOOR_UNIT, "/etc/systemd/system/door.service"),
            ("fstab", "/dev/vda / ext4 rw 0 1\n/dev/vdb /debs ext4 ro 0 0\n", "/etc/fstab"),
            ("id", "", "/etc/machine-id"),
        ):
            (extra / name).write_text(text)
            run(
                *("debugfs", "-w", "-R"),
                *(f"rm {place}", self._image("root")),
            )
            run("debugfs", "-w", "-R", f"write {extra / name} {place}", self._image("root"))
        wants = "/etc/systemd/system/multi-user.target.wants/door.service"
        for command in ("mkdir /debs", f"symlink {wants} ../door.service"):
            run("debugfs", "-w", "-R", command, self._image("root"))

    def _image(self, name: str) -> str:
        return str(self._folder / f"{name}.img")

    def _boot(self, root: Path) -> None:
        boot = root / "boot"
        door = self._folder / "door"
        console = self._folder / "console"
        self._qemu = subprocess.Popen(
            [
                *("qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max"),
                *("-smp", str(CPUS), "-m", str(MEMORY_MIB), "-display", "none", "-no-reboot"),
                *("-nodefaults", "-serial", f"file:{console}"),
                *("-chardev", f"socket,id=door,path={door},server=on,wait=off"),
                *("-serial", "chardev:door"),
                *("-kernel", str(next(boot.glob("vmlinuz-*")))),
                *("-initrd", str(next(boot.glob("initrd.img-*")))),
                *("-drive", f"file={self._image('root')},format=raw,if=virtio,cache=unsafe"),
                *("-drive", f"file={self._image('debs')},format=raw,if=virtio,readonly=on"),
                "-append",
                "root=/dev/vda rw console=ttyS0 systemd.show_status=0 quiet mitigations=off apparmor=0",
            ],
            stdin=subprocess.DEVNULL,
        )
        until("its door is there", door.is_socket, 10.0)
        self._door = socket.socket(socket.AF_UNIX)
        self._door.connect(str(door))
        if self._line(BOOT_S) != b"ready":
            raise Failed("the first word from inside is not the door's")

    def do(self, script: str, within_s: float = 60.0) -> Said:
        assert self._door is not None
        self._door.sendall(base64.b64encode(script.encode()) + b"\n")
        try:
            status, _, said = self._line(within_s).partition(b" ")
        except TimeoutError as late:
            raise Failed(
                f"`{script.splitlines()[0][:120]}`: no end within {within_s:g} s"
            ) from late
        return Said(status=int(status), out=base64.b64decode(said).decode(errors="replace"))

    def _line(self, within_s: float) -> bytes:
        assert self._door is not None
        end, got = time.monotonic() + within_s, bytearray()
        while not got.endswith(b"\n"):
            self._door.settimeout(max(0.01, end - time.monotonic()))
            piece = self._door.recv(65536)
            if not piece:
                raise Failed(f"the machine is gone:\n{self._tail()}")
            got += piece
        return bytes(got).strip()

    def _tail(self) -> str:
        return (self._folder / "console").read_text(errors="replace")[-1500:]

    def close(self) -> None:
        if self._door is not None:
            self._door.close()
        if self._qemu is not None:
            self._qemu.kill()
            self._qemu.wait(60)


def run(*words: str) -> None:
    done = subprocess.run(
        words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300, check=False
    )
    if done.returncode:
        raise SystemExit(f"{words[0]}: {done.stderr.strip()}")
