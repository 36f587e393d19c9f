"""The single checks of ``doctor``: each looks, changes nothing, has a deadline, and names the fix."""

import http.client
import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from gpuwarden.adapters.kmsg.choose import find
from gpuwarden.adapters.kmsg.sieve import Counts, Sieve
from gpuwarden.adapters.kmsg.source import CannotRead
from gpuwarden.adapters.nvidia_host import NvidiaHost
from gpuwarden.clock import SystemClock
from gpuwarden.commands.words import plain, size
from gpuwarden.config import Config, KmsgConfig
from gpuwarden.model.kernel_record import KernelTrust

_DRIVER_LIBRARY = "libnvidia-ml.so.1"
_DRIVER_DEADLINE_S = 10.0
_DOCKER_DEADLINE_S = 3.0
_ANSWER_MAX_BYTES = 2**20
_NVIDIA_MAJOR = 195  # Documentation/admin-guide/devices.txt: 195 char NVIDIA graphics devices


class Result(StrEnum):
    """What a check found. ``UNKNOWN``: it could not look."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One line of the doctor: what was seen, and what to do where something is to be done."""

    name: str
    result: Result
    seen: str
    fix: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Roots:
    """Where the host's trees are mounted."""

    cgroup: Path = Path("/sys/fs/cgroup")
    dev: Path = Path("/dev")
    proc: Path = Path("/proc")
    systemd: Path = Path("/run/systemd/system")


def check_all(config: Config, roots: Roots | None = None) -> list[Check]:
    """Every check that needs no agent, in the order in which one depends on the other."""
    roots = roots or Roots()
    docker = ask_docker(config.docker.host.removeprefix("unix://"))
    return [
        check_user(),
        check_driver(config.nvml.library, NvidiaHost(str(config.health.root)).bus().gpus),
        check_cgroups(roots),
        check_docker(config.docker.host, docker),
        check_device_loss(docker, roots),
        check_pidfd(),
        check_kernel_log(config.kmsg),
        check_pressure(roots),
        check_state_dir(config.agent.state_dir, config.agent.journal_max_bytes),
    ]


def others_may_write(file: Path) -> bool:
    """Whether somebody who is neither root nor this user can change it."""
    try:
        status = file.stat()
    except OSError:
        return False
    return status.st_uid not in (0, os.geteuid()) or bool(status.st_mode & 0o022)


def check_user() -> Check:
    """The agent is meant to be root; the doctor sees what its own user sees."""
    uid = os.geteuid()
    if uid == 0:
        return Check(name="user", result=Result.OK, seen="root")
    return Check(
        name="user",
        result=Result.WARNING,
        seen=f"uid {uid}: the checks below say what this user may do, not what the agent may",
        fix="sudo gpuwarden doctor",
    )


# Runs in a process of its own: a driver call can hang beyond any timeout. Prints one JSON object.
_DRIVER_SCRIPT = """
import ctypes, json, sys
try:
    library = ctypes.CDLL(sys.argv[1])
except OSError as error:
    print(json.dumps({"missing": str(error)}))
    sys.exit()
code = library.nvmlInit_v2()
answer = {"code": code}
if code == 0:
    count, version = ctypes.c_uint(), ctypes.create_string_buffer(96)
    library.nvmlDeviceGetCount_v2(ctypes.byref(count))
    library.nvmlSystemGetDriverVersion(version, 96)
    answer.update(devices=count.value, version=version.value.decode("utf-8", "replace"))
    library.nvmlShutdown()
print(json.dumps(answer))
"""

# nvmlReturn_t of nvml.h.
_DRIVER_FIXES: Mapping[int, tuple[str, str]] = {
    4: ("no permission to use the driver", "run as root, or see the rights of /dev/nvidia*"),
    9: ("the driver is not loaded", "modprobe nvidia; see dmesg where that fails"),
    12: ("the driver's library lacks a part", "reinstall the NVIDIA driver"),
    15: ("the driver says that a GPU is lost", "see Xid lines in the kernel log; reset or reboot"),
    18: ("library and kernel module are of two versions", "reload the kernel module, or reboot"),
}


def check_driver(library: str | None, gpus: int | None) -> Check:
    """Whether libnvidia-ml can be loaded, initialised, and sees devices. ``gpus``: on the PCI bus; None: it cannot
    be seen. No driver where there is no GPU is no fault: it is what a host without one looks like."""
    path = library or _DRIVER_LIBRARY
    child = subprocess.Popen(
        [sys.executable, "-I", "-c", _DRIVER_SCRIPT, path],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        said, _ = child.communicate(timeout=_DRIVER_DEADLINE_S)
    except subprocess.TimeoutExpired:
        child.terminate()  # never SIGKILL: a killed client has frozen GPUs
        return Check(
            name="driver",
            result=Result.FAILED,
            seen=f"{path}: a call has not returned for {_DRIVER_DEADLINE_S:.0f} s (pid {child.pid})",
            fix="look for Xid lines in the kernel log; the driver needs a reload or the host a reboot",
        )
    try:
        answer = json.loads(said)
    except ValueError:
        return Check(
            name="driver",
            result=Result.FAILED,
            seen=f"{path}: its first call ended the process (status {child.returncode})",
            fix="reinstall the NVIDIA driver",
        )
    if "missing" in answer:
        if gpus == 0 and library is None:
            return Check(
                name="driver",
                result=Result.WARNING,
                seen="no GPUs: the PCI bus holds none of NVIDIA's, and libnvidia-ml is not installed",
                fix="nothing to do on a host without GPUs; the agent waits for a driver and watches all else",
            )
        on_bus = f" (the PCI bus holds {gpus} GPUs)" if gpus else ""
        return Check(
            name="driver",
            result=Result.FAILED,
            seen=plain(str(answer["missing"])) + on_bus,
            fix="apt install libnvidia-ml1 (RHEL: dnf install nvidia-driver-NVML), or name it in nvml.library",
        )
    if answer["code"] != 0:
        seen, fix = _DRIVER_FIXES.get(
            answer["code"], (f"NVML says {answer['code']}", "nvidia-smi may say more")
        )
        return Check(name="driver", result=Result.FAILED, seen=seen, fix=fix)
    seen = f"{plain(str(answer['version']))}, {answer['devices']} devices"
    if not answer["devices"]:
        return Check(
            name="driver", result=Result.WARNING, seen=seen, fix="lspci | grep -i nvidia; dmesg"
        )
    return Check(name="driver", result=Result.OK, seen=seen)


def check_cgroups(roots: Roots) -> Check:
    """Which version is mounted, and whether this user may write there."""
    root = roots.cgroup
    if (root / "cgroup.controllers").exists():
        version, tree = "v2", root
    elif (root / "freezer").is_dir():
        is_hybrid = (root / "unified" / "cgroup.controllers").exists()
        version, tree = ("v1 and v2 (hybrid)" if is_hybrid else "v1"), root / "freezer"
    else:
        return Check(
            name="cgroups",
            result=Result.FAILED,
            seen=f"{root}: neither a v2 tree nor a v1 freezer",
            fix="mount cgroups: nothing can be frozen or ended as a whole without them",
        )
    try:
        is_read_only = bool(os.statvfs(tree).f_flag & os.ST_RDONLY)
    except OSError as error:
        return Check(name="cgroups", result=Result.UNKNOWN, seen=f"{tree}: {error.strerror}")
    if is_read_only or not os.access(tree, os.W_OK):
        why = "mounted read-only" if is_read_only else "this user may not write"
        return Check(
            name="cgroups",
            result=Result.FAILED,
            seen=f"{version} at {root}: {why}",
            fix="run the agent as root on the host (in a container: mount /sys/fs/cgroup rw)",
        )
    return Check(name="cgroups", result=Result.OK, seen=f"{version} at {root}, writable")


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("docker", timeout=_DOCKER_DEADLINE_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def ask_docker(path: str) -> Mapping[str, Any] | str:
    """What ``GET /info`` says, or why it did not."""
    connection = _UnixConnection(path)
    try:
        connection.request("GET", "/info")
        answer = connection.getresponse()
        body = answer.read(_ANSWER_MAX_BYTES)
        if answer.status != 200:
            return f"HTTP {answer.status}"
        info = json.loads(body)
    except OSError as error:
        return error.strerror or str(error)
    except (http.client.HTTPException, ValueError) as error:
        return f"no answer that makes sense: {error}"
    finally:
        connection.close()
    return info if isinstance(info, dict) else "no answer that makes sense"


def check_docker(host: str, info: Mapping[str, Any] | str) -> Check:
    """Whether Docker answers: without it containers have no labels and are not stopped by it."""
    if isinstance(info, str):
        return Check(
            name="docker",
            result=Result.WARNING,
            seen=f"{host}: {plain(info)}",
            fix="start Docker or set docker.host; nothing to do on a host without Docker",
        )
    version = plain(str(info.get("ServerVersion", "?")))
    driver = plain(str(info.get("CgroupDriver", "?")))
    cgroups = plain(str(info.get("CgroupVersion", "?")))
    seen = f"{version}, cgroup driver {driver}, cgroup v{cgroups}"
    return Check(name="docker", result=Result.OK, seen=seen)


def check_device_loss(info: Mapping[str, Any] | str, roots: Roots) -> Check:
    """Whether a `systemctl daemon-reload` or `docker update` takes the GPUs from running containers.

    With the systemd cgroup driver systemd writes the device list anew and knows only devices that
    stand in /dev/char; the NVIDIA driver makes none (NVIDIA/nvidia-container-toolkit issue 48).
    """
    name = "device loss"
    if isinstance(info, str):
        return Check(name=name, result=Result.OK, seen="not exposed: no Docker")
    driver = plain(str(info.get("CgroupDriver", "?")))
    if driver != "systemd":
        return Check(name=name, result=Result.OK, seen=f"not exposed: cgroup driver {driver}")
    nodes = sorted(node.name for node in roots.dev.glob("nvidia[0-9]*"))
    if not nodes:
        return Check(name=name, result=Result.OK, seen="not exposed: no NVIDIA device nodes")
    if not is_exposed(roots):
        return Check(
            name=name, result=Result.OK, seen="cgroup driver systemd; /dev/char names the GPUs"
        )
    return Check(
        name=name,
        result=Result.WARNING,
        seen="cgroup driver systemd, and /dev/char does not name the GPUs: `systemctl daemon-reload` "
        "or `docker update` takes them from running containers",
        fix="nvidia-ctk system create-dev-char-symlinks --create-all (and at boot, by a udev rule), "
        "or Docker's cgroupfs driver; gpuwarden itself throttles through cgroup files only",
    )


def is_exposed(roots: Roots) -> bool:
    """Whether there are NVIDIA devices that systemd would not know by their numbers."""
    nodes = list(roots.dev.glob("nvidia[0-9]*"))
    linked = list((roots.dev / "char").glob(f"{_NVIDIA_MAJOR}:*"))
    return len(linked) < len(nodes)


def check_pidfd() -> Check:
    """Signals go through pidfds: a reused pid is never hit."""
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError) as error:
        return Check(
            name="pidfd",
            result=Result.FAILED,
            seen=f"pidfd_open: {error}",
            fix="a kernel of at least 5.3, and no seccomp filter on pidfd_open",
        )
    return Check(name="pidfd", result=Result.OK, seen="pidfd_open works")


def check_kernel_log(config: KmsgConfig) -> Check:
    """Xid lines come from here: opens it as the agent would, and lets go again."""
    name = "kernel log"
    if config.source == "none":
        return Check(
            name=name,
            result=Result.WARNING,
            seen="kmsg.source is none: faults that NVML does not report are not seen",
            fix="set kmsg.source to auto",
        )
    source = None
    try:
        source = find(config, "", SystemClock(), Sieve(Counts()))
        source.open(None, is_backlog=True)
    except CannotRead as error:
        return Check(
            name=name,
            result=Result.FAILED,
            seen=str(error),
            fix="run as root or with CAP_SYSLOG, pass /dev/kmsg into a container, or set kmsg.path and "
            "kmsg.source",
        )
    finally:
        if source is not None:
            source.close()
    where = config.path if source.name != "journal" else "systemd's journal"
    if source.trust is KernelTrust.UNTRUSTED:
        return Check(
            name=name,
            result=Result.WARNING,
            seen=f"{where} ({source.name}): others may write there, so nothing drastic follows from it",
            fix="let the agent read /dev/kmsg",
        )
    return Check(name=name, result=Result.OK, seen=f"{where} can be read ({source.trust})")


def check_pressure(roots: Roots) -> Check:
    """Pressure stall information: without it the host rules see less."""
    if (roots.proc / "pressure" / "memory").exists():
        return Check(name="pressure", result=Result.OK, seen="/proc/pressure is there")
    return Check(
        name="pressure",
        result=Result.WARNING,
        seen="/proc/pressure is not there: host memory pressure cannot be judged",
        fix="boot with psi=1 (kernel 4.20 or later)",
    )


def check_state_dir(folder: Path, need_bytes: int) -> Check:
    """The journal lives here: without room for it nothing harmful may be done."""
    name = "state"
    existing: Path = next(each for each in (folder, *folder.absolute().parents) if each.exists())
    if not os.access(existing, os.W_OK | os.X_OK):
        return Check(
            name=name,
            result=Result.FAILED,
            seen=f"{existing}: this user may not write there",
            fix=f"run as root, or set agent.state_dir to a folder of its own (now {folder})",
        )
    try:
        usage = os.statvfs(existing)
    except OSError as error:
        return Check(name=name, result=Result.UNKNOWN, seen=f"{existing}: {error.strerror}")
    free_bytes = usage.f_bavail * usage.f_frsize
    seen = f"{folder}: {size(free_bytes)} free"
    if usage.f_flag & os.ST_RDONLY or free_bytes < need_bytes:
        reason = (
            "read-only"
            if usage.f_flag & os.ST_RDONLY
            else f"the journal may take {size(need_bytes)}"
        )
        return Check(
            name=name,
            result=Result.FAILED,
            seen=f"{seen}; {reason}",
            fix="make room, set agent.state_dir elsewhere, or lower agent.journal_max_bytes",
        )
    return Check(name=name, result=Result.OK, seen=seen)
