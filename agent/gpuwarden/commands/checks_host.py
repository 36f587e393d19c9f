"""The doctor on the host itself: versions of the driver's parts, rights on control groups, the clock, and what
this program carries with it."""

import importlib
import os
import platform
import re
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path

from gpuwarden.adapters import kernel_clock
from gpuwarden.adapters.kernel_clock import ClockState
from gpuwarden.adapters.nvidia_host import NvidiaHost
from gpuwarden.commands.checks import Check, Result, Roots, is_exposed
from gpuwarden.commands.words import span

JUMP_S = 0.5
"""As rule ``wallclock`` has it: a clock that is slewed moves a thousandth of that in a check."""
GROUPS_LOOKED_AT = 256
_V2_CONTROLLERS = ("cpu", "memory", "pids")
_V2_FILES = ("cgroup.freeze", "cgroup.kill", "cpu.weight", "memory.high", "memory.max")
"""What the ladder writes: hold, end as a whole, throttle."""
_V1_TREES = ("freezer", "cpu", "memory")


def check_versions(host: NvidiaHost) -> Check:
    """Kernel module and library of one driver; two versions refuse each other."""
    name = "driver versions"
    module, library = host.module_version(), host.library_version()
    gpus = host.bus().gpus
    if module is None:
        if not gpus:
            seen = "no kernel module, and no NVIDIA GPU on the PCI bus"
            return Check(name=name, result=Result.OK, seen=seen)
        return Check(
            name=name,
            result=Result.WARNING,
            seen=f"{gpus} NVIDIA GPUs on the PCI bus, and no nvidia kernel module is loaded",
            fix="install the NVIDIA driver, then: modprobe nvidia",
        )
    if library is None:
        return Check(
            name=name,
            result=Result.WARNING,
            seen=f"kernel module {module}; libnvidia-ml.so.1 is in no usual folder",
            fix="apt install libnvidia-ml1 of that version, or name the file in nvml.library",
        )
    if module != library:
        return Check(
            name=name,
            result=Result.FAILED,
            seen=f"kernel module {module}, library {library}: new programs cannot use a GPU",
            fix="systemctl reboot (or, with every GPU unused: modprobe -r nvidia_uvm nvidia_drm "
            "nvidia_modeset nvidia; modprobe nvidia)",
        )
    return Check(name=name, result=Result.OK, seen=f"kernel module and library are {module}")


def check_group_rights(roots: Roots) -> Check:
    """Whether groups of tenants have the files that enforcement writes, and may be written to."""
    name = "cgroup rights"
    if (roots.cgroup / "cgroup.controllers").exists():
        return _v2_rights(name, roots.cgroup)
    missing = [tree for tree in _V1_TREES if not (roots.cgroup / tree).is_dir()]
    if missing:
        return Check(
            name=name,
            result=Result.WARNING,
            seen=f"v1 without {', '.join(missing)}: that part of the ladder cannot be used",
            fix=f"mount -t cgroup -o {missing[0]} {missing[0]} {roots.cgroup}/{missing[0]}, or boot "
            "with systemd.unified_cgroup_hierarchy=1",
        )
    closed = [tree for tree in _V1_TREES if not os.access(roots.cgroup / tree, os.W_OK)]
    return _written(name, f"v1: {', '.join(_V1_TREES)}", closed)


def _v2_rights(name: str, root: Path) -> Check:
    try:
        there = (root / "cgroup.controllers").read_text().split()
    except OSError as error:
        return Check(name=name, result=Result.UNKNOWN, seen=f"{root}: {error.strerror}")
    missing = [each for each in _V2_CONTROLLERS if each not in there]
    if missing:
        return Check(
            name=name,
            result=Result.WARNING,
            seen=f"v2 without {', '.join(missing)}: that part of the ladder cannot be used",
            fix="boot without systemd.unified_cgroup_hierarchy=0 and without "
            f"cgroup_disable={missing[0]} (cat /proc/cmdline)",
        )
    seen: set[str] = set()
    closed: set[str] = set()
    groups = 0
    for group in _groups(root):
        groups += 1
        for file in _V2_FILES:
            path = group / file
            if path.exists():
                seen.add(file)
                if not os.access(path, os.W_OK):
                    closed.add(file)
    if not groups:
        return Check(name=name, result=Result.UNKNOWN, seen="v2, and no group but the root")
    lacks = [file for file in _V2_FILES if file not in seen]
    if lacks:
        fix = "a kernel of at least 5.14 (cgroup.kill)"
        if lacks != ["cgroup.kill"]:
            fix = f"echo '+memory +cpu' > {root}/cgroup.subtree_control (systemd does so by itself)"
        return Check(
            name=name,
            result=Result.WARNING,
            seen=f"v2: no group has {', '.join(lacks)}",
            fix=fix,
        )
    return _written(name, f"v2: {', '.join(_V2_FILES)}", sorted(closed))


def _written(name: str, what: str, closed: list[str]) -> Check:
    if closed:
        return Check(
            name=name,
            result=Result.WARNING,
            seen=f"{what}; this user may not write {', '.join(closed)}",
            fix="sudo gpuwarden doctor; for the agent: gpuwarden enable-enforcement",
        )
    return Check(name=name, result=Result.OK, seen=f"{what} can be written")


def _groups(root: Path) -> Iterator[Path]:
    """Groups below the root, nearest first, boundedly many."""
    level, count = [root], 0
    while level:
        below: list[Path] = []
        for group in level:
            try:
                children = [each for each in group.iterdir() if each.is_dir()]
            except OSError:
                continue  # it has ended meanwhile
            for child in children:
                count += 1
                if count > GROUPS_LOOKED_AT:
                    return
                yield child
                below.append(child)
        level = below


# docker-<64 hex>.scope, cri-containerd-....scope, crio-....scope, libpod-....scope: groups that systemd made
_SCOPE = re.compile(r"(docker|cri-containerd|crio|libpod)-[0-9a-f]{12,64}\.scope\Z")


def check_scopes(roots: Roots) -> Check:
    """The exposure of `device loss`, for containers of every runtime that has systemd make their groups."""
    name = "device loss, running"
    trees = [roots.cgroup, roots.cgroup / "systemd", roots.cgroup / "unified"]
    scopes = {match[1]: None for t in trees for g in _groups(t) if (match := _SCOPE.match(g.name))}
    if not scopes:
        return Check(name=name, result=Result.OK, seen="no container runs in a group of systemd's")
    runtimes = ", ".join(sorted(scopes))
    if not is_exposed(roots):
        return Check(name=name, result=Result.OK, seen=f"{runtimes}: not exposed")
    return Check(
        name=name,
        result=Result.WARNING,
        seen=f"containers of {runtimes} run in systemd's groups, and /dev/char does not name the GPUs: "
        "`systemctl daemon-reload` takes them from those that have one",
        fix="nvidia-ctk system create-dev-char-symlinks --create-all (and at boot, by a udev rule)",
    )


def check_clock(state: ClockState | None = None, moved_s: float = 0.0) -> Check:
    """Whether anything keeps the wall clock right. ``moved_s``: by how much it was set while we looked."""
    name = "clock"
    state = state or kernel_clock.read()
    if abs(moved_s) >= JUMP_S:
        return Check(
            name=name,
            result=Result.WARNING,
            seen=f"the wall clock was set by {moved_s:+.1f} s while the doctor looked",
            fix="chronyc tracking, or timedatectl timesync-status: one service alone may set it",
        )
    if state.is_synchronised is None:
        return Check(name=name, result=Result.UNKNOWN, seen="the kernel does not say (adjtimex)")
    if not state.is_synchronised:
        return Check(
            name=name,
            result=Result.WARNING,
            seen="the kernel says that nothing keeps the wall clock right: times in incidents, silences and "
            "certificates may be wrong",
            fix="systemctl enable --now systemd-timesyncd (or chrony)",
        )
    within = "" if state.error_s is None else f", within {span(state.error_s)}"
    return Check(name=name, result=Result.OK, seen=f"synchronised{within}")


def libraries() -> dict[str, str]:
    """Versions of what a package carries in its interpreter; ``none`` where it was built without."""
    return {
        "Python": platform.python_version(),
        "OpenSSL": ssl.OPENSSL_VERSION.removeprefix("OpenSSL "),
        "sqlite": _attribute("sqlite3", "sqlite_version"),
        "zlib": _attribute("zlib", "ZLIB_RUNTIME_VERSION"),
    }


def check_libraries() -> Check:
    """What has to be rebuilt when one of them has a hole: named, so that a person can compare."""
    said = ", ".join(f"{name} {version}" for name, version in libraries().items())
    whose = "the package's own" if "/lib/gpuwarden" in sys.prefix else f"of {sys.prefix}"
    return Check(name="libraries", result=Result.OK, seen=f"{said} ({whose})")


def _attribute(module: str, name: str) -> str:
    try:
        return str(getattr(importlib.import_module(module), name))
    except (ImportError, AttributeError):
        return "none"
