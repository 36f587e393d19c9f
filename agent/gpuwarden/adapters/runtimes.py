"""The ``Runtimes`` port: which adapter answers for which kind of owner, and what is known of each.

A runtime that is not on the host costs nothing: no library of its own, no thread, no process; its
tenants, should there be any, say why nobody here can act on them.
"""

import os
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress

from gpuwarden.adapters.cgroupfs import CgroupFs
from gpuwarden.adapters.describer import Describer
from gpuwarden.adapters.docker_client import DockerDoor
from gpuwarden.adapters.docker_events import DockerEvents
from gpuwarden.adapters.docker_gpus import GpuContainers
from gpuwarden.adapters.firstof import FirstOf, OnlyWhere
from gpuwarden.adapters.late import Late
from gpuwarden.adapters.mps import MpsServers
from gpuwarden.adapters.mps_control import MpsControl
from gpuwarden.adapters.nested import ByCgroup, ByPlace
from gpuwarden.adapters.pgrp import ProcessGroups
from gpuwarden.adapters.procfs import ProcFs
from gpuwarden.adapters.systemd import Systemd
from gpuwarden.adapters.tenancy import spelled
from gpuwarden.adapters.tool import Tool
from gpuwarden.clock import Clock
from gpuwarden.config import Config
from gpuwarden.errors import Unsupported
from gpuwarden.model.ids import CgroupId, TenantId
from gpuwarden.model.owner import CgroupOwner, GpuContainer, RuntimeFacts
from gpuwarden.model.snapshot import Gap, GapKind
from gpuwarden.ports import Cgroups, Runtime

_EVENTS_REFRESH_S = 600.0
"""Docker tells of changes; this is for what its events drop."""
_TOOL_REFRESH_S = 300.0


class HostRuntimes:
    """Implements ``ports.Runtimes``. ``facts`` and ``changed`` belong to the loop's thread.

    ``dropped`` counts questions that found a queue full, ``errors`` what no adapter should raise.
    """

    def __init__(
        self,
        cfg: Config,
        clock: Clock,
        *,
        cgroups: Cgroups | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._is_changed = threading.Event()
        self._clock = clock
        self._timeout_s = cfg.docker.timeout_s
        self._door = DockerDoor(cfg.docker.host, cfg.docker.timeout_s, clock)
        self._events: DockerEvents | None = None
        if cgroups is None:
            with suppress(Unsupported):
                cgroups = CgroupFs()
        self._runtimes = _adapters(cfg, clock, self._door, cgroups, environ)
        self._describers: dict[str, Describer] = {}
        self._gpus = GpuContainers(self._door, clock, self._tell)
        self._follow_docker()

    def facts(self, owner: CgroupOwner, tenant: TenantId, cgroup: CgroupId | None) -> RuntimeFacts:
        kind = tenant.partition(":")[0]
        if kind == "pgrp" or owner.is_never_victim:
            return RuntimeFacts(tenant=tenant, described=True, owner_key=_bare_key(owner))
        runtime = self._runtimes.get(owner.runtime)
        if runtime is None:
            reason = f"nothing on this host can stop a tenant of runtime {owner.runtime}"
            return RuntimeFacts(tenant=tenant, described=True, cannot_act=reason)
        if owner.runtime == "docker":
            self._follow_docker()
        return self._describer(owner.runtime, runtime).facts(owner, tenant, cgroup)

    def for_runtime(self, runtime: str) -> Runtime | None:
        return self._runtimes.get(runtime)

    def changed(self) -> bool:
        with suppress(BlockingIOError):
            os.eventfd_read(self._wake)
        is_changed = self._is_changed.is_set()
        self._is_changed.clear()
        return is_changed

    def gpu_containers(self) -> Sequence[GpuContainer]:
        self._follow_docker()
        return self._gpus.given()

    def filenos(self) -> Sequence[int]:
        return (self._wake,)

    def gaps(self) -> Sequence[Gap]:
        """Runtimes that are here and do not answer."""
        found = [
            Gap(source="runtimes", subject=name, kind=GapKind.UNAVAILABLE, detail=one.trouble[:200])
            for name, one in self._describers.items()
            if one.trouble is not None
        ]
        if self._events is not None and self._events.trouble is not None:
            detail = self._events.trouble[:200]
            found.append(
                Gap(
                    source="runtimes",
                    subject="docker events",
                    kind=GapKind.UNAVAILABLE,
                    detail=detail,
                )
            )
        return found

    @property
    def dropped(self) -> int:
        return self._gpus.dropped + sum(one.dropped for one in self._describers.values())

    @property
    def errors(self) -> int:
        return sum(one.errors for one in self._describers.values())

    def close(self) -> None:
        if self._events is not None:
            self._events.close()
        self._gpus.close(self._timeout_s)
        for describer in self._describers.values():
            describer.close(self._timeout_s)
        self._door.close()
        os.close(self._wake)

    def _describer(self, name: str, runtime: Runtime) -> Describer:
        describer = self._describers.get(name)
        if describer is None:
            refresh_s = _EVENTS_REFRESH_S if name == "docker" else _TOOL_REFRESH_S
            describer = Describer(name, runtime, self._clock, self._tell, refresh_s)
            self._describers[name] = describer
        return describer

    def _follow_docker(self) -> None:
        """Start to follow Docker's events once there is a socket."""
        if self._events is None and self._door.is_there():
            self._events = DockerEvents(
                f"unix://{self._door.socket_path}", self._timeout_s, self._clock, self._heard
            )
            self._events.start()

    def _heard(self, action: str, container_id: str) -> None:
        self._gpus.heard(action, container_id)
        is_paused = {"pause": True, "unpause": False}.get(action)
        for describer in tuple(self._describers.values()):
            describer.touch(container_id, is_paused=is_paused, is_gone=action == "destroy")
        self._tell()

    def _tell(self) -> None:
        self._is_changed.set()
        with suppress(BlockingIOError, OSError):  # full is as good as set; closed while ending
            os.eventfd_write(self._wake, 1)


def _adapters(
    cfg: Config,
    clock: Clock,
    door: DockerDoor,
    cgroups: Cgroups | None,
    environ: Mapping[str, str],
) -> Mapping[str, Runtime]:
    """One adapter a kind of owner; one whose tool is missing says so when it is asked."""
    timeout_s = cfg.docker.timeout_s

    def tool(name: str, *variables: str) -> Tool:
        env = {one: environ[one] for one in variables if one in environ}
        return Tool(name=name, clock=clock, timeout_s=timeout_s, env=env)

    def open_proc() -> ProcFs:
        return ProcFs(cgroups)

    def cri_alone() -> Runtime:
        from gpuwarden.adapters.cri import Cri
        from gpuwarden.adapters.cri_door import doors

        return Cri(doors(cfg.cri, clock), cgroups)

    def cri_or_containerd() -> Runtime:
        from gpuwarden.adapters.containerd import ADDRESS, Containerd

        address = environ.get("CONTAINERD_ADDRESS", ADDRESS)
        return FirstOf((cri, Containerd(tool("ctr"), clock, cgroups, address=address)))

    def podman() -> Runtime:
        from gpuwarden.adapters.podman import Podman

        return Podman(tool("podman", "CONTAINERS_CONF", "CONTAINERS_STORAGE_CONF"), cgroups)

    def slurm() -> Runtime:
        from gpuwarden.adapters.slurm import Slurm

        squeue, scancel, scontrol = (
            tool(name, "SLURM_CONF") for name in ("squeue", "scancel", "scontrol")
        )
        return Slurm(squeue, scancel, clock, scontrol)

    def lxc() -> Runtime:
        from gpuwarden.adapters.lxc import Lxc

        return Lxc(tool("lxc-info"), tool("lxc-stop"))

    def dockerd() -> Runtime:
        from gpuwarden.adapters.dockerd import Docker

        return Docker(door, cgroups)

    docker = Late(dockerd)
    cri, pods = Late(cri_alone), Late(cri_or_containerd)
    pods_of_docker = OnlyWhere(docker, door.is_there, f"no Docker at {door.socket_path}")
    systemd = Systemd(tool("systemctl"), clock, cgroups)
    groups = ProcessGroups(clock, timeout_s, open_proc)
    known: dict[str, Runtime] = {
        "docker": docker,
        "ecs": docker,
        "unknown": docker,
        "podman": Late(podman),
        "containerd": pods,
        "crio": cri,
        "kubernetes": FirstOf((pods, pods_of_docker)),
        "slurm": Late(slurm),
        "lxc": Late(lxc),
        "systemd-service": systemd,
        "systemd-scope": systemd,
        "nspawn": systemd,
    }
    if cgroups is not None:
        inside = ByCgroup(cgroups, clock, timeout_s, open_proc)
        known = {name: ByPlace(runtime, inside) for name, runtime in known.items()}
    return {**known, "pgrp": groups, "mps": MpsServers(MpsControl(), clock)}


def _bare_key(owner: CgroupOwner) -> str | None:
    """Owner of a bare process group across restarts: the unit or session it lives in."""
    return spelled(f"{owner.runtime}:{owner.unit}") if owner.unit else None
