"""What Docker says of the containers that carry probed services: their health, and where they can be reached.

One thread asks one after the other, each by its own pace and all by Docker's deadline. It follows a
container by its full id, also while it holds no device memory and is no tenant: one that has just been
restarted, or whose worker has died.
"""

import os
import select
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from gpuwarden.adapters.docker_client import DockerDoor
from gpuwarden.adapters.docker_describe import table, text
from gpuwarden.adapters.dockerd import inspect
from gpuwarden.adapters.tenancy import container_id_of, is_nested
from gpuwarden.clock import Clock
from gpuwarden.errors import Refused, Unavailable, Unsupported
from gpuwarden.model.ids import TenantId

IDLE_S = 60.0
WAKE_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One look at a container. ``health`` as Docker calls it; empty: it has no HEALTHCHECK."""

    at: float
    is_running: bool
    health: str = ""
    streak: int = 0
    """Failures in a row, by Docker's own count."""
    said: str = ""
    """What its check printed last."""
    address: str = ""
    """Where it listens: its own address, the host's loopback where it shares the host's network, or nothing."""


class ContainerLooks:
    """Has no thread until ``start``. ``heard`` is told of each look, or why there was none."""

    def __init__(
        self,
        door: DockerDoor,
        clock: Clock,
        every_s: Mapping[str, float],
        heard: Callable[[str, Look | str], None],
    ) -> None:
        """``every_s``: how often to look at the container of each service."""
        self._door = door
        self._clock = clock
        self._every_s = dict(every_s)
        self._heard = heard
        self._ids: Mapping[str, str] = {}
        self._due = dict.fromkeys(every_s, 0.0)
        self.failures = 0
        self._stop = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._thread = threading.Thread(target=self._run, name="container looks", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def follow(self, carriers: Mapping[str, TenantId]) -> None:
        """Who carries which service now; one that is not named is followed on as it was."""
        known = dict(self._ids)
        for service, tenant in carriers.items():
            if service in self._every_s and not is_nested(tenant):
                with suppress(Refused):
                    known[service] = container_id_of(tenant)
        self._ids = known

    def close(self) -> None:
        """Tell the thread to end; one that waits for Docker is left to its deadline."""
        os.eventfd_write(self._stop, 1)
        if self._thread.is_alive():
            self._thread.join(self._door.timeout_s)

    def _run(self) -> None:
        poller = select.poll()
        poller.register(self._stop, select.POLLIN)
        while True:
            wait_s = self._round()
            if poller.poll(wait_s * 1000.0):
                return

    def _round(self) -> float:
        """Look at what is due; seconds until the next is."""
        for service, every_s in self._every_s.items():
            if self._clock.now() < self._due[service]:
                continue
            container = self._ids.get(service)
            if container is None:
                # Nobody is seen to carry it yet; that changes with a tenant, not with Docker.
                self._due[service] = self._clock.now() + min(every_s, 1.0)
                continue
            self._due[service] = self._clock.now() + every_s
            self._heard(service, self._look(container))
        due = min(self._due.values(), default=self._clock.now() + IDLE_S)
        return max(WAKE_S, due - self._clock.now())

    def _look(self, container: str) -> Look | str:
        try:
            with self._door.call() as client:
                return look_of(inspect(client, container), self._clock.now())
        except Refused:
            return Look(at=self._clock.now(), is_running=False)
        except (Unavailable, Unsupported) as error:
            self.failures += 1
            return str(error)
        except Exception as error:  # noqa: BLE001  a thread that dies says nothing; this one counts and goes on
            self.failures += 1
            return f"unexpected {type(error).__name__}"


def look_of(raw: Mapping[str, Any], at: float) -> Look:
    """A look from ``docker inspect``."""
    state = table(raw, "State")
    health = table(state, "Health")
    streak, log = health.get("FailingStreak"), health.get("Log")
    last = log[-1] if isinstance(log, list) and log and isinstance(log[-1], Mapping) else {}
    return Look(
        at=at,
        is_running=state.get("Running") is True and state.get("Restarting") is not True,
        health=(text(health, "Status") or "").replace("none", ""),
        streak=streak if isinstance(streak, int) and not isinstance(streak, bool) else 0,
        said=(text(last, "Output") or "")[:400],
        address=_address(raw),
    )


def _address(raw: Mapping[str, Any]) -> str:
    if text(table(raw, "HostConfig"), "NetworkMode") == "host":
        return "127.0.0.1"
    networks = table(raw, "NetworkSettings", "Networks")
    found = [text(one, "IPAddress") for one in networks.values() if isinstance(one, Mapping)]
    return next((address for address in found if address), "")
