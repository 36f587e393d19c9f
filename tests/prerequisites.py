"""What a marker needs, and whether this machine has it.

One probe a marker: it returns None when the thing is there, else one line that says what is missing
and how to get it. Probes have deadlines and change nothing. `.services/env`, written by
`scripts/services up`, is the only place a Docker or Slurm address is taken from: a test never talks to
a daemon that somebody else's containers or jobs depend on.
"""

from __future__ import annotations

import functools
import os
import shlex
import shutil
import socket
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

from tests import machine_inside

ROOT = Path(__file__).resolve().parent.parent
SERVICES_ENV = ROOT / ".services" / "env"
SERVICE_VARIABLES = (
    "CONTAINERD_ADDRESS",
    "CONTAINER_RUNTIME_ENDPOINT",
    "DOCKER_HOST",
    "PODMAN_HOST",
    "CONTAINERS_CONF",
    "CONTAINERS_STORAGE_CONF",
    "SLURM_CONF",
    "GPUWARDEN_TEST_MACHINE",
    "ALERTMANAGER_URLS",
    "PROMETHEUS_URL",
    "PROMETHEUS_TARGETS",
)
MACHINE_PROGRAM = str(ROOT / "scripts" / "machine")

ASK_TIMEOUT_S = 10.0


def services_environment(path: Path = SERVICES_ENV) -> dict[str, str]:
    """The variables of running services: `export NAME=value` lines; empty when none runs."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    found = {}
    for line in text.splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] == ["export"]:
            name, _, value = words[1].partition("=")
            found[name] = value
    return found


def _programs(*names: str, package: str) -> str | None:
    absent = [name for name in names if shutil.which(name) is None]
    if not absent:
        return None
    return f"no {' and no '.join(absent)} on PATH (Debian: apt-get install {package})"


def _root() -> str | None:
    return None if os.geteuid() == 0 else "not root: cannot make cgroups or signal other users"


def _pings(service: str, variable: str) -> str | None:
    """Docker's API, which Podman speaks too."""
    address = services_environment().get(variable, "")
    if not address:
        return f"no private {service} (as root: scripts/services up {service})"
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(ASK_TIMEOUT_S)
            sock.connect(address.removeprefix("unix://"))
            sock.sendall(b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n")
            answer = sock.recv(64)
    except OSError as error:
        return f"the private {service} at {address} does not answer: {error}"
    return None if b" 200 " in answer else f"the private {service} at {address} is ill: {answer!r}"


def _containerd() -> str | None:
    address = services_environment().get("CONTAINERD_ADDRESS", "")
    if not address:
        return "no private containerd (as root: scripts/services up containerd)"
    return _asked("ctr", "--address", address, "version")


def _slurm() -> str | None:
    conf = services_environment().get("SLURM_CONF", "")
    if not conf:
        return "no private Slurm (as root: scripts/services up slurm)"
    return _asked("scontrol", "ping", SLURM_CONF=conf)


def _asked(*command: str, **env: str) -> str | None:
    """What went wrong with a command that asks a service whether it is well."""
    said = " ".join(command)
    try:
        asked = subprocess.run(
            command,
            env={**os.environ, **env},
            capture_output=True,
            text=True,
            timeout=ASK_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{said}: {error}"
    return None if asked.returncode == 0 else f"{said}: {asked.stdout or asked.stderr}".strip()


def _prometheus() -> str | None:
    url = services_environment().get("PROMETHEUS_URL", "")
    if not url:
        return "no private Prometheus (scripts/services up prometheus)"
    host, _, port = url.removeprefix("http://").partition(":")
    try:
        socket.create_connection((host, int(port)), timeout=ASK_TIMEOUT_S).close()
    except OSError as error:
        return f"the private Prometheus at {url} does not answer: {error}"
    return None


def _gpu() -> str | None:
    version = Path("/proc/driver/nvidia/version")
    return None if version.exists() else f"no NVIDIA driver: {version} does not exist"


def _kmsg() -> str | None:
    """Its records are those of the running kernel: a container may have a file of that name."""
    try:
        os.close(os.open("/dev/kmsg", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC))
        number = os.stat("/dev/kmsg").st_rdev
    except OSError as error:
        return f"/dev/kmsg: {error.strerror}"
    return _root() or (None if number == os.makedev(1, 11) else "/dev/kmsg is not the kernel's log")


def _journald() -> str | None:
    journald = Path("/lib/systemd/systemd-journald")
    if not journald.exists():
        return f"no {journald} (Debian: apt-get install systemd)"
    return _kmsg() or _programs("journalctl", "unshare", package="systemd util-linux")


def _postgres() -> str | None:
    if "GPUWARDEN_TEST_POSTGRES" not in services_environment():
        return "no private PostgreSQL (scripts/services up postgresql)"
    return None


def _kubernetes() -> str | None:
    if Path(os.environ.get("KUBECONFIG", "/nonexistent")).is_file():
        return None
    return "no Kubernetes: KUBECONFIG does not name a file"


def _systemd() -> str | None:
    """The private machine; inside it, systemd itself."""
    if machine_inside.is_inside():
        return _answers("systemctl", "is-system-running")
    name = services_environment().get("GPUWARDEN_TEST_MACHINE", "")
    if not name:
        return "no private machine with systemd (as root: scripts/services up systemd)"
    return _answers(MACHINE_PROGRAM, "enter", name, "systemctl", "is-system-running")


def _answers(*command: str) -> str | None:
    try:
        asked = subprocess.run(
            command, capture_output=True, text=True, timeout=ASK_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{command[0]}: {error}"
    if asked.stdout.strip() in ("running", "degraded"):
        return None
    return f"{' '.join(command)}: {asked.stdout or asked.stderr}".strip()


def _vm() -> str | None:
    return _programs("qemu-system-x86_64", package="qemu-system-x86")


def _lxc() -> str | None:
    return _root() or _programs("lxc-start", "lxc-create", "busybox", package="lxc busybox-static")


def _slow() -> str | None:
    return "minutes long; runs where it is required (scripts/test --require slow)"


def _packages() -> str | None:
    if len([*ROOT.glob("dist/gpuwarden*.deb"), *ROOT.glob("dist/gpuwarden*.rpm")]) >= 4:
        return None
    return "no packages in dist/; fix: scripts/package"


PROBES: Mapping[str, Callable[[], str | None]] = {
    "alertmanager": lambda: _programs(
        "prometheus-alertmanager", "amtool", package="prometheus-alertmanager"
    ),
    "containerd": _containerd,
    "docker": lambda: _pings("docker", "DOCKER_HOST"),
    "go": lambda: _programs("go", package="golang-go"),
    "gpu": _gpu,
    "journald": _journald,
    "kmsg": _kmsg,
    "kubernetes": _kubernetes,
    "lxc": _lxc,
    "nginx": lambda: _programs("nginx", package="nginx-light"),
    "packages": _packages,
    "podman": lambda: _pings("podman", "PODMAN_HOST"),
    "postgres": _postgres,
    "prometheus": _prometheus,
    "promtool": lambda: _programs("promtool", package="prometheus"),
    "root": _root,
    "slow": _slow,
    "slurm": _slurm,
    "systemd": _systemd,
    "vm": _vm,
}


@functools.cache
def missing(marker: str) -> str | None:
    """Why tests with this marker cannot run here, or None. Asked once a run."""
    return PROBES[marker]()
