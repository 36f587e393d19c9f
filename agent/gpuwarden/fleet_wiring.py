"""A node's part in a fleet, put together: made only where the configuration names an aggregator."""

from collections.abc import Mapping
from dataclasses import dataclass

import gpuwarden
from gpuwarden.adapters.command_queue import CommandQueue
from gpuwarden.adapters.fleet_door import FleetDoor
from gpuwarden.adapters.pki.files import OwnCertificate
from gpuwarden.adapters.uplink import Uplink
from gpuwarden.adapters.uplink_spool import DiskSpool
from gpuwarden.adapters.view_source import ViewSource
from gpuwarden.clock import Clock
from gpuwarden.config_fleet import FleetConfig
from gpuwarden.errors import Refused
from gpuwarden.model.fleet import Identity, Role
from gpuwarden.node.fleet_desk import NodeFleetDesk
from gpuwarden.policy.fleet.rights import AT_A_NODE, may


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetParts:
    """What has to be started and let go of."""

    desk: NodeFleetDesk
    spool: DiskSpool
    certificate: OwnCertificate
    uplink: Uplink
    door: FleetDoor | None
    clock: Clock

    def start(self) -> None:
        self.desk.start()
        self.uplink.start()
        if self.door is not None:
            self.door.start()

    def close(self) -> None:
        if self.door is not None:
            self.door.stop()
        self.uplink.close()
        self.desk.close()
        self.spool.close()

    def complaints(self) -> list[str]:
        """What does not work of it, in words."""
        found = [*self.desk.complaints(), *self.certificate.complaints(self.clock.wall())]
        if self.spool.fault:
            found.append(f"events for the aggregator cannot be kept on disk: {self.spool.fault}")
        return found

    def counters(self) -> Mapping[tuple[str, str], int]:
        denied = 0 if self.door is None else self.door.denied
        return {
            **self.uplink.counters(),
            ("fleet", "permits"): self.desk.permits_received,
            ("fleet", "orders_refused"): self.desk.orders_refused,
            ("fleet", "calls_denied"): denied,
            ("fleet", "renewals"): self.certificate.renewals,
        }


def build_fleet(
    cfg: FleetConfig, source: ViewSource, commands: CommandQueue, clock: Clock, metrics_listen: str
) -> FleetParts | None:
    """Nothing where no aggregator is named; ``Unavailable`` where the node has no identity yet.
    ``metrics_listen``: where this node serves its metrics page."""
    if not cfg.aggregator:
        return None
    certificate = OwnCertificate(cfg.identity_dir, cfg.aggregator)
    if certificate.read().identity.role is not Role.NODE:
        raise Refused(f"{cfg.identity_dir}: this is no node's certificate")
    spool = DiskSpool(cfg.identity_dir / "spool.sqlite", cfg.spool_max_bytes)
    desk = NodeFleetDesk(
        cfg,
        clock,
        certificate.name,
        gpuwarden.__version__,
        commands.ask,
        cfg.metrics_address(metrics_listen),
    )
    uplink = Uplink(cfg, source, desk, spool, certificate, clock)

    def allowed(method: str, who: Identity | None) -> bool:
        return may(AT_A_NODE, method, who)

    door = (
        None
        if cfg.listen is None
        else FleetDoor(cfg.listen, source, certificate, clock, allowed, commands)
    )
    return FleetParts(
        desk=desk, spool=spool, certificate=certificate, uplink=uplink, door=door, clock=clock
    )
