"""Every runtime of a simulated node: Docker, managers of units and jobs, bare process groups."""

import signal
from collections.abc import Mapping, Sequence

from gpuwarden.errors import Refused, Unavailable, Unsupported
from gpuwarden.model.action import Target
from gpuwarden.model.ids import CgroupId, DeviceId, TenantId
from gpuwarden.model.owner import CgroupOwner, GpuContainer, RuntimeFacts
from gpuwarden.model.snapshot import Gap, GapKind
from gpuwarden.ports import Runtime
from gpuwarden.sim.node.containers import SimDocker
from gpuwarden.sim.node.kernel import Kernel
from gpuwarden.sim.node.process import Process

MANAGED = frozenset({"systemd-service", "systemd-scope", "slurm"})


class SimManager:
    """systemd or Slurm: stops what it started, and does not start it again."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    def describe(self, owner: CgroupOwner) -> RuntimeFacts:
        raise Refused("asked through facts")

    def restart_off(self, target: Target) -> Mapping[str, str]:
        return {}

    def restart_back(self, target: Target, old: Mapping[str, str]) -> None:
        return

    def stop(self, target: Target, grace_s: float) -> None:
        processes = self._kernel.of(target.tenant)
        pids = tuple(p.pid for p in processes)
        self._kernel.ledger.note("stop", target.tenant, pids=pids, text=f"grace {grace_s:g} s")
        for process in processes:
            self._kernel.deliver(process, signal.SIGTERM if grace_s > 0 else signal.SIGKILL)
        if grace_s > 0:
            self._kernel.clock.later(grace_s, lambda: self._kill(processes))

    def restart(self, target: Target, grace_s: float) -> None:
        raise Unsupported("only containers are restarted")

    def relocate(self, target: Target, device: DeviceId, index: int) -> str:
        raise Unsupported("only containers are moved")

    def _kill(self, processes: list[Process]) -> None:
        for process in processes:
            self._kernel.deliver(process, signal.SIGKILL)


class SimMps(SimManager):
    """The control daemon of the node's MPS server. ``is_faulty``: a client died by a signal while the server
    had hold of it, and everybody else's work went with it."""

    def __init__(self, kernel: Kernel) -> None:
        super().__init__(kernel)
        self.is_there = True
        self.is_faulty = False
        self.lets_go = True
        kernel.on_exit.append(self._exited)

    def stop(self, target: Target, grace_s: float) -> None:
        if not self.is_there:
            raise Unsupported("no nvidia-cuda-mps-control on this host")
        pids = {pid.pid for pid in target.pids}
        clients = [p for p in self._kernel.alive() if p.pid.pid in pids and p.habit.is_mps]
        self._kernel.ledger.note("detach", target.tenant, pids=tuple(p.pid for p in clients))
        if not self.lets_go:
            raise Unavailable("the server still serves its processes")
        for process in clients:
            process.is_detached = True
            process.holds.clear()

    def _exited(self, process: Process) -> None:
        if process.habit.is_mps and not process.is_detached:
            self.is_faulty = True


class SimRuntimes:
    """Implements ``ports.Runtimes``."""

    def __init__(self, kernel: Kernel, docker: SimDocker) -> None:
        self._kernel = kernel
        self.docker = docker
        self._manager = SimManager(kernel)
        self.mps = SimMps(kernel)
        self.accounts: dict[TenantId, str] = {}
        """Slurm account (or the like) of a tenant."""
        self.cannot_act: dict[str, str] = {}
        """Runtime -> why its tenants cannot be stopped here."""

    def facts(self, owner: CgroupOwner, tenant: TenantId, cgroup: CgroupId | None) -> RuntimeFacts:
        if owner.runtime != "docker":
            return RuntimeFacts(
                tenant=tenant,
                described=True,
                name=owner.unit or owner.name,
                account=self.accounts.get(tenant),
                owner_key=None if owner.unit is None else f"unit:{owner.unit}",
                cannot_act=self.cannot_act.get(owner.runtime),
            )
        container = self.docker.by_tenant(tenant)
        if container is None:
            return RuntimeFacts(tenant=tenant, described=False)
        return self.docker.told(container)

    def for_runtime(self, runtime: str) -> Runtime | None:
        if runtime in self.cannot_act:
            return None
        if runtime == "docker":
            return self.docker
        if runtime == "mps":
            return self.mps
        return self._manager if runtime in MANAGED or runtime == "pgrp" else None

    def changed(self) -> bool:
        was, self.docker.is_changed = self.docker.is_changed, False
        return was

    def gpu_containers(self) -> Sequence[GpuContainer]:
        return [
            GpuContainer(pid=one.main.pid.pid, devices=one.gpus)
            for one in self.docker.containers.values()
            if one.is_running and one.main is not None and one.gpus
        ]

    def filenos(self) -> Sequence[int]:
        return ()

    def gaps(self) -> Sequence[Gap]:
        if not (self.docker.is_hung or self.docker.is_absent):
            return ()
        return (Gap(source="runtimes", subject="docker", kind=GapKind.UNAVAILABLE),)

    def close(self) -> None:
        return
