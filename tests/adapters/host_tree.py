"""A host's /proc, /sys, /dev and /etc as a folder, built from a few words."""

from __future__ import annotations

from pathlib import Path

INITIAL = "pid:[4026531836]"


class HostTree:
    """Everything lies below ``root``; what nobody put there is not there."""

    def __init__(self, root: Path, namespace: str = INITIAL) -> None:
        self.root = root
        self.link("proc/1/ns/pid", namespace)

    def write(self, path: str, text: str | bytes) -> None:
        """A file, its folders too."""
        at = self.root / path
        at.parent.mkdir(parents=True, exist_ok=True)
        at.write_bytes(text if isinstance(text, bytes) else text.encode())

    def link(self, path: str, target: str) -> None:
        at = self.root / path
        at.parent.mkdir(parents=True, exist_ok=True)
        at.unlink(missing_ok=True)
        at.symlink_to(target)

    def process(
        self,
        pid: int,
        comm: str = "python3",
        state: str = "S",
        *,
        ppid: int = 1,
        start: int = 9000,
        cpu_ns: int | None = 5_000,
        threads: dict[int, tuple[str, int]] | None = None,
        files: tuple[str, ...] = (),
        namespace: str = INITIAL,
    ) -> None:
        """A process; ``threads``: further ones by their id, with state and CPU time."""
        others = threads or {}
        line = stat(pid, comm, state, ppid, start, 1 + len(others))
        self.write(f"proc/{pid}/stat", line)
        for thread, (its_state, its_ns) in {pid: (state, cpu_ns), **others}.items():
            self.write(f"proc/{pid}/task/{thread}/stat", stat(thread, comm, its_state, ppid, start))
            if its_ns is not None:
                self.write(f"proc/{pid}/task/{thread}/schedstat", f"{its_ns} 17 3\n")
        for number, target in enumerate(files):
            self.link(f"proc/{pid}/fd/{number}", target)
        self.link(f"proc/{pid}/ns/pid", namespace)

    def gpu(
        self,
        address: str,
        *,
        kind: str = "0x030200",
        driver: str | None = "nvidia",
        vendor: str = "0x10de",
    ) -> None:
        """A function on the PCI bus."""
        at = f"sys/bus/pci/devices/{address}"
        self.write(f"{at}/vendor", f"{vendor}\n")
        self.write(f"{at}/class", f"{kind}\n")
        if driver is not None:
            self.link(f"{at}/driver", f"../../../../bus/pci/drivers/{driver}")

    def unit(self, name: str, *, enabled: bool = False, masked: bool = False) -> None:
        """A unit of systemd."""
        if masked:
            self.link(f"etc/systemd/system/{name}", "/dev/null")
        else:
            self.write(f"usr/lib/systemd/system/{name}", "[Service]\n")
        if enabled:
            wants = f"etc/systemd/system/multi-user.target.wants/{name}"
            self.link(wants, f"/usr/lib/systemd/system/{name}")


def stat(pid: int, comm: str, state: str, ppid: int, start: int, threads: int = 1) -> bytes:
    """A line of /proc/<pid>/stat."""
    middle = " ".join("0" for _ in range(12))
    return (
        f"{pid} ({comm}) {state} {ppid} {pid} {pid} 0 {middle} {threads} 0 {start} 1 2 3\n".encode()
    )
