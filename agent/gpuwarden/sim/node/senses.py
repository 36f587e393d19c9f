"""What surrounds the GPUs of a simulated node."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from gpuwarden.model.device import Listing
from gpuwarden.model.health import GpuTask, Remains, Surroundings, SystemService
from gpuwarden.model.ids import Pid
from gpuwarden.sim.node.cards import Cards
from gpuwarden.sim.node.clock import SimClock


@dataclass(slots=True)
class SimSenses:
    """Implements ``ports.Senses`` by the truth of the kernel, at the pace of the real one."""

    clock: SimClock
    cards: Cards
    every_s: float = 15.0
    services: dict[str, bool] = field(default_factory=dict)
    """NVIDIA's services that are installed and enabled, and whether they run."""
    module_version: str | None = None
    library_version: str | None = None
    pci_gpus: int | None = None
    nvswitches: int | None = None
    is_clock_synchronised: bool | None = True
    is_hung: bool = False
    """Its thread stands still in a file."""
    _newest: Surroundings | None = None
    _stuck_since: dict[Pid, float] = field(default_factory=dict)

    def watch(self, listings: Sequence[Listing]) -> None:
        """The truth needs no list."""

    def surroundings(self) -> Surroundings | None:
        now = self.clock.now()
        if not self.is_hung and (self._newest is None or now - self._newest.at >= self.every_s):
            self._newest = self._look(now)
        return self._newest

    def close(self) -> None:
        return

    def _look(self, now: float) -> Surroundings:
        holding = [p for p in self.cards.kernel.everyone() if any(p.holds.values())]
        stuck = [p for p in holding if p.is_alive and p.is_stuck]
        self._stuck_since = {p.pid: self._stuck_since.get(p.pid, now) for p in stuck}
        return Surroundings(
            at=now,
            every_s=self.every_s,
            stuck=tuple(
                GpuTask(pid=p.pid, comm=p.comm, since=since, holds="listed")
                for p in stuck
                if (since := self._stuck_since[p.pid]) < now
            ),
            remains=tuple(
                Remains(
                    device=device,
                    raw_pid=p.pid.pid,
                    used_bytes=held,
                    is_zombie=p.is_zombie,
                    comm=p.comm if p.is_zombie else "",
                    parent=1 if p.is_zombie else None,
                )
                for p in holding
                if not p.is_alive
                for device, held in p.holds.items()
                if held
            ),
            services=tuple(
                SystemService(name=name, is_installed=True, is_enabled=True, is_running=runs)
                for name, runs in self.services.items()
            ),
            module_version=self.module_version,
            library_version=self.library_version,
            pci_gpus=self.pci_gpus,
            nvswitches=self.nvswitches,
            imex_channels=0,
            is_clock_synchronised=self.is_clock_synchronised,
        )
