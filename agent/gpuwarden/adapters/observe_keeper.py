"""Who may tell what of a service, whichever way it came: its own tenants alone, and so much a second."""

import threading
from collections.abc import Callable, Sequence
from enum import Enum
from pathlib import Path

from gpuwarden.adapters.cgroup_owner import owner_of_pid
from gpuwarden.adapters.procstat import parse_stat
from gpuwarden.adapters.tenancy import tenant_of_owner
from gpuwarden.clock import Clock
from gpuwarden.log import get_log

OBSERVATIONS_A_SECOND = 20_000
"""Of one service, by all ways together: 3 us each are 6 % of a core."""
LOST_MAX = 2**40
SERVICES_MAX = 256

Take = Callable[[str, Sequence[object], int], None]
"""Service, observations, how many its client lost."""


class Heard(Enum):
    """What became of a message."""

    TAKEN = "taken"
    STRANGER = "stranger"
    """Whoever sent it carries no service here."""
    MALFORMED = "malformed"
    TOO_MANY = "too-many"


class ObserveKeeper:
    """Any thread may ask; messages are taken one after the other."""

    def __init__(self, clock: Clock, service_of: Callable[[str], str | None], take: Take) -> None:
        """``service_of``: what a tenant carries."""
        self._clock, self._service_of, self._take = clock, service_of, take
        self._spent: dict[str, tuple[int, int]] = {}
        self._lock = threading.Lock()

    def heard(
        self, tenants: Sequence[str], count: int, rows: Callable[[], Sequence[object]], lost: int
    ) -> Heard:
        """One message of ``count`` observations of a process that is of these tenants. ``rows`` is asked once it may
        speak."""
        service = next(filter(None, map(self._service_of, tenants)), None)
        if service is None:
            return Heard.STRANGER
        if not 0 <= lost < LOST_MAX:
            return Heard.MALFORMED
        with self._lock:
            if not self._may(service, count):
                return Heard.TOO_MANY
            try:
                self._take(service, rows(), lost)
            except Exception as error:  # noqa: BLE001  the boundary: whatever it was, it is this message's
                get_log().error("observations_failed", service=service, reason=repr(error)[:400])
                return Heard.MALFORMED
        return Heard.TAKEN

    def _may(self, service: str, count: int) -> bool:
        second = int(self._clock.now())
        when, spent = self._spent.get(service, (second, 0))
        spent = spent if when == second else 0
        if spent and spent + count > OBSERVATIONS_A_SECOND:
            return False
        if service not in self._spent and len(self._spent) >= SERVICES_MAX:
            self._spent.clear()
        self._spent[service] = (second, spent + count)
        return True


def tenants_of_pid(pid: int, proc: str = "/proc") -> list[str]:
    """Whose a process is, as tenants are named: its container, pod, job or unit, and its process group."""
    owner = owner_of_pid(pid, proc)
    if owner is None:
        return []
    tenant = tenant_of_owner(owner)
    if tenant is not None:
        return [tenant]
    try:
        stats = parse_stat(Path(f"{proc}/{pid}/stat").read_bytes())
        leader = (
            None if stats is None else parse_stat(Path(f"{proc}/{stats.pgrp}/stat").read_bytes())
        )
    except OSError:
        return []
    if stats is None or leader is None:
        return []
    return [f"pgrp:{stats.pgrp}@{leader.start}"]
