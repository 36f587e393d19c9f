"""The ``Senses`` port: one thread looks at what surrounds the GPUs, now and then.

Files of /proc and /sys can hang (a stuck driver, a dead disk): the thread then stands still, and what it
told last grows old, which readers see by its time. Nobody waits for it.
"""

import os
import select
import threading
from collections.abc import Callable, Sequence

from gpuwarden.adapters import kernel_clock
from gpuwarden.adapters.gpu_tasks import Found, GpuTasks
from gpuwarden.adapters.nvidia_host import NvidiaHost
from gpuwarden.clock import Clock
from gpuwarden.model.device import Listing
from gpuwarden.model.health import Surroundings, SystemService

SERVICES = {
    "nvidia-persistenced": "nvidia-persiste",
    "nvidia-fabricmanager": "nv-fabricmanage",
    "nvidia-imex": "nvidia-imex",
}
"""Each with the name of its process, as the kernel cuts it."""


class HostSenses:
    """Samples every ``every_s`` in a thread of its own."""

    def __init__(
        self,
        root: str,
        every_s: float,
        clock: Clock,
        *,
        library: str | None = None,
        read_clock: Callable[[], kernel_clock.ClockState] = kernel_clock.read,
    ) -> None:
        """``root``: where the host's /proc, /sys, /dev and /etc are seen. Starts the thread."""
        self._every_s = every_s
        self._clock = clock
        self._read_clock = read_clock
        self._host = NvidiaHost(root, library)
        self._tasks = GpuTasks(f"{root.rstrip('/')}/proc", SERVICES.values())
        self._listings: Sequence[Listing] = ()
        self._newest: Surroundings | None = None
        self.failures = 0
        """Unexpected exceptions: each is a defect, contained here."""
        self._stop = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._thread = threading.Thread(target=self._run, name="senses", daemon=True)
        self._thread.start()

    def watch(self, listings: Sequence[Listing]) -> None:
        """What the driver says of who holds bytes, for the next look."""
        self._listings = listings

    def surroundings(self) -> Surroundings | None:
        """The newest sample; None before the first."""
        return self._newest

    def close(self) -> None:
        """Tell the thread to end. One that hangs in a file is left behind: it holds nothing."""
        os.eventfd_write(self._stop, 1)
        self._thread.join(1.0)

    def _run(self) -> None:
        poller = select.poll()
        poller.register(self._stop, select.POLLIN)
        while True:
            try:
                self._newest = self.look(self._clock.now())
            except Exception:  # noqa: BLE001  a thread that dies says nothing; this one counts and goes on
                self.failures += 1
            if poller.poll(self._every_s * 1000.0):
                return

    def look(self, now: float) -> Surroundings:
        """One sample."""
        found = self._tasks.look(now, self._listings)
        bus, clock = self._host.bus(), self._read_clock()
        return Surroundings(
            at=now,
            every_s=self._every_s,
            stuck=found.stuck,
            remains=found.remains,
            services=tuple(self._service(name, found) for name in SERVICES),
            module_version=self._host.module_version(),
            library_version=self._host.library_version(),
            pci_gpus=bus.gpus,
            nvswitches=bus.nvswitches,
            imex_channels=self._host.imex_channels(),
            is_clock_synchronised=clock.is_synchronised,
            clock_error_s=clock.error_s,
        )

    def _service(self, name: str, found: Found) -> SystemService:
        """A process of its name runs; without one it does not, if the host's processes can be seen."""
        pids = found.named.get(SERVICES[name], ())
        unit = f"{name}.service"
        return SystemService(
            name=name,
            is_installed=self._host.is_installed(unit),
            is_enabled=self._host.is_enabled(unit),
            is_running=True if pids else False if found.sees_host else None,
            pid=pids[0] if pids else None,
        )
