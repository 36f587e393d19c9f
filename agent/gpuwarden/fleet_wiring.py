"""A node's part in a fleet, put together: made only where the configuration names an aggregator."""

import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import gpuwarden
from gpuwarden.adapters.command_queue import CommandQueue
from gpuwarden.adapters.fleet_door import FleetDoor
from gpuwarden.adapters.pki.files import OwnCertificate
from gpuwarden.adapters.pki.names import read_credentials
from gpuwarden.adapters.policy_keeper import PolicyKeeper, lost
from gpuwarden.adapters.uplink import Uplink
from gpuwarden.adapters.uplink_spool import DiskSpool
from gpuwarden.adapters.view_source import ViewSource
from gpuwarden.clock import Clock
from gpuwarden.config import Config
from gpuwarden.config_files import Loaded
from gpuwarden.config_fleet import FleetConfig
from gpuwarden.errors import ConfigError, Refused
from gpuwarden.log import get_log
from gpuwarden.model.fleet import Identity, Role
from gpuwarden.model.policy import PolicyLayer
from gpuwarden.node.fleet_desk import NodeFleetDesk
from gpuwarden.node.page_desk import PageDesk
from gpuwarden.policy.fleet.rights import AT_A_NODE, may

Load = Callable[..., Loaded[Config]]
"""The configuration of this host, with a ``policy`` in it; ``ConfigError`` when it is not valid."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetParts:
    """What has to be started and let go of."""

    desk: NodeFleetDesk
    spool: DiskSpool
    certificate: OwnCertificate
    uplink: Uplink
    policy: PolicyKeeper
    pages: PageDesk
    door: FleetDoor | None
    clock: Clock

    def start(self) -> None:
        self.desk.start()
        self.policy.start()
        self.uplink.start()
        if self.door is not None:
            self.door.start()

    def close(self) -> None:
        if self.door is not None:
            self.door.stop()
        self.uplink.close()
        self.policy.close()
        self.desk.close()
        self.spool.close()

    def complaints(self) -> list[str]:
        """What does not work of it, in words."""
        found = [*self.desk.complaints(), *self.certificate.complaints(self.clock.wall())]
        found += self.policy.complaints()
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
            ("fleet", "pages_handed_over"): self.pages.handed_over,
            ("fleet", "pages_alone"): self.pages.alone,
            ("fleet", "renewals"): self.certificate.renewals,
            ("fleet", "policies_offered"): self.policy.offered,
            ("fleet", "policies_refused"): self.policy.refused,
        }


def under_policy(cfg: Config, load: Load, clock: Clock) -> tuple[Config, PolicyKeeper]:
    """The configuration under the fleet's policy, and its keeper. A policy that no longer fits the files of this
    host does not keep the agent from its watch: it only observes."""

    def check(layer: PolicyLayer) -> None:
        load(policy=layer)

    keeper = PolicyKeeper(
        cfg.fleet,
        read_credentials(cfg.fleet.identity_dir).domain,
        clock,
        check,
        lambda: os.kill(os.getpid(), signal.SIGHUP),
    )
    layer = keeper.layer()
    if layer is None:
        return cfg, keeper
    try:
        fresh = load(policy=layer).config
    except ConfigError as error:
        get_log().error("policy_not_in_force", version=layer.version, faults=error.faults)
        keeper.rejected(layer, error.faults[0])
        layer = lost(layer.version)
        fresh = load(policy=layer).config
    keeper.adopted(layer)
    return fresh, keeper


def build_fleet(
    cfg: FleetConfig,
    source: ViewSource,
    commands: CommandQueue,
    clock: Clock,
    policy: PolicyKeeper,
    metrics_listen: str,
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
    pages = PageDesk(cfg, clock, certificate.name)
    uplink = Uplink(cfg, source, desk, spool, certificate, clock, policy, pages)
    pages.offer = uplink.hand_over

    def allowed(method: str, who: Identity | None) -> bool:
        return may(AT_A_NODE, method, who)

    door = (
        None
        if cfg.listen is None
        else FleetDoor(cfg.listen, source, certificate, clock, allowed, commands)
    )
    return FleetParts(
        desk=desk,
        spool=spool,
        certificate=certificate,
        uplink=uplink,
        policy=policy,
        pages=pages,
        door=door,
        clock=clock,
    )
