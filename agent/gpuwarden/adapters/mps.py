"""MPS as a runtime: ``stop`` takes a tenant's processes off the server they share with others.

A client that dies by a signal can take its server along, and with it everybody else's work; one that the
server itself has terminated does not (enforcement research, scenario 15).
"""

from collections.abc import Mapping

from gpuwarden.adapters.mps_control import MpsControl
from gpuwarden.clock import Clock
from gpuwarden.errors import Refused, Unavailable, Unsupported
from gpuwarden.model.action import Target
from gpuwarden.model.ids import DeviceId
from gpuwarden.model.owner import CgroupOwner, RuntimeFacts

GONE_WITHIN_S = 2.0
_POLL_S = 0.05


class MpsServers:
    """Implements ``ports.Runtime``, as far as a server is one; any thread may call."""

    def __init__(self, control: MpsControl, clock: Clock) -> None:
        self._control = control
        self._clock = clock

    def describe(self, owner: CgroupOwner) -> RuntimeFacts:
        raise Refused("an MPS server does not tell whose its clients are")

    def restart_off(self, target: Target) -> Mapping[str, str]:
        """A server starts nobody."""
        return {}

    def restart_back(self, target: Target, old: Mapping[str, str]) -> None:
        return

    def stop(self, target: Target, grace_s: float) -> None:
        """Every client of the tenant is let go by its server; returns once they are.

        ``Unavailable`` when one is not, or when its server does not work on afterwards.
        """
        pids = {pid.pid for pid in target.pids}
        found = [
            (server, pids.intersection(self._control.clients(server))) for server in self._servers()
        ]
        touched = [(server, clients) for server, clients in found if clients]
        if not touched:
            raise Unsupported("no process of it is a client of an MPS server (any more)")
        for server, clients in touched:
            for client in sorted(clients):
                self._control.command(f"terminate_client {server} {client}")
        for server, clients in touched:
            self._until_gone(server, clients)
            # ACTIVE
            status = self._control.command(f"get_server_status {server}").strip()
            if status and status.upper() != "ACTIVE":
                raise Unavailable(
                    f"MPS server {server} is {status[:40]}: all of its clients suffer"
                )

    def restart(self, target: Target, grace_s: float) -> None:
        raise Unsupported("a client of MPS is not started by its server")

    def relocate(self, target: Target, device: DeviceId, index: int) -> str:
        raise Unsupported("a client of MPS is not moved by its server")

    def _servers(self) -> list[int]:
        return self._control.servers()

    def _until_gone(self, server: int, clients: set[int]) -> None:
        end = self._clock.now() + GONE_WITHIN_S
        while left := clients.intersection(self._control.clients(server)):
            if self._clock.now() >= end:
                raise Unavailable(f"MPS server {server} still serves {len(left)} of its processes")
            self._clock.sleep(_POLL_S)
