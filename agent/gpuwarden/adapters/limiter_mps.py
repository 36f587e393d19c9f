"""Limiter back end ``mps-pinned``: the device memory limit that an MPS server gives its new clients.

It is a limit per process, for processes that start later, and it belongs to the server: it is set
only where every client of that server is of one tenant. Everything else is ``Unsupported``, said
plainly.
"""

import re

from gpuwarden.adapters.mps_control import CONTROL, TIMEOUT_S, MpsControl
from gpuwarden.errors import Refused, Unavailable, Unsupported
from gpuwarden.model.action import Target
from gpuwarden.model.ids import DeviceId
from gpuwarden.model.snapshot import LimitReading

NAME = "mps-pinned"
_MIB = 2**20
# 900M, 10G
_SIZE = re.compile(r"\s*([0-9]{1,9})\s*([MG])B?\s*\Z")
_UNITS = {"M": _MIB, "G": 2**30}


class MpsPinned:
    """Limits through the control daemon. Blocks up to a few deadlines: for workers."""

    name = NAME

    def __init__(self, control: str = CONTROL, timeout_s: float = TIMEOUT_S) -> None:
        """``control``: the program, by name or path."""
        self._control = MpsControl(control, timeout_s)
        self._before: dict[tuple[int, DeviceId], int | None] = {}
        """Limit of (server, device) before the first set, for ``clear``."""

    def check(self) -> None:
        """Returns when a control daemon answers; ``Unsupported`` without the program or daemon."""
        self._control.servers()

    def set(self, target: Target, device: DeviceId, soft_bytes: int, hard_bytes: int) -> None:
        """Limit the tenant's later processes on this device, each; whole MiB, rounded down."""
        server = self._server_of(target)
        size_mib = hard_bytes // _MIB
        if size_mib < 1:
            raise Refused(f"{hard_bytes} bytes: an MPS limit is at least 1 MiB")
        key = (server, device)
        if key not in self._before:
            self._before[key] = self._limit(server, device)
        self._control.command(f"set_device_pinned_mem_limit {server} {device} {size_mib}M")
        shown = self._limit(server, device)
        if shown != size_mib * _MIB:
            raise Unavailable(f"MPS server {server} took {size_mib} MiB and shows {shown} bytes")

    def clear(self, target: Target, device: DeviceId) -> None:
        """Give the server its former limit back. Without one there is no command that lifts it."""
        server = self._server_of(target)
        before = self._before.get((server, device))
        if before is None:
            raise Unsupported(
                f"MPS server {server} had no limit before, and MPS cannot lift one: it ends with "
                "the server"
            )
        self._control.command(f"set_device_pinned_mem_limit {server} {device} {before // _MIB}M")
        del self._before[server, device]

    def read(self, target: Target, device: DeviceId) -> LimitReading:
        """The server's limit for each of the tenant's processes; what they use it does not tell."""
        server = self._server_of(target)
        return LimitReading(
            tenant=target.tenant,
            device=device,
            hard_bytes=self._limit(server, device),
            used_bytes=None,
            backend=self.name,
        )

    def _server_of(self, target: Target) -> int:
        """The one server that serves this tenant and nobody else."""
        pids = {pid.pid for pid in target.pids}
        for server in self._control.servers():
            clients = set(self._control.clients(server))
            if not clients & pids:
                continue
            if others := clients - pids:
                raise Unsupported(
                    f"MPS server {server} also serves {len(others)} processes of others: its limit "
                    "is the server's, not the tenant's"
                )
            return server
        raise Unsupported("no process of the tenant is a client of an MPS server")

    def _limit(self, server: int, device: DeviceId) -> int | None:
        reply = self._control.command(f"get_device_pinned_mem_limit {server} {device}")
        match = _SIZE.match(reply)
        return int(match[1]) * _UNITS[match[2]] if match else None
