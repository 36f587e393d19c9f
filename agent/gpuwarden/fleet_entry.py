"""A node's way into a fleet. A node alone does not even load what one in a fleet needs."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from gpuwarden.adapters.command_queue import CommandQueue
from gpuwarden.clock import Clock
from gpuwarden.config import Config
from gpuwarden.config_files import Loaded
from gpuwarden.node.status import Board

if TYPE_CHECKING:
    from gpuwarden.adapters.policy_keeper import PolicyKeeper
    from gpuwarden.fleet_wiring import FleetParts


def under_policy(
    cfg: Config, load: Callable[..., Loaded[Config]], clock: Clock
) -> "tuple[Config, PolicyKeeper | None]":
    """The configuration under the fleet's policy, and who keeps that; as it was where there is no fleet."""
    if not cfg.fleet.aggregator:
        return cfg, None
    from gpuwarden import fleet_wiring

    return fleet_wiring.under_policy(cfg, load, clock)


def fleet_parts(
    cfg: Config,
    board: Board,
    commands: CommandQueue,
    clock: Clock,
    policy: "PolicyKeeper | None",
) -> "FleetParts | None":
    """A node's part in a fleet; None where it is alone."""
    if policy is None:
        return None
    from gpuwarden import fleet_wiring

    return fleet_wiring.build_fleet(
        cfg.fleet, board, commands, clock, policy, cfg.agent.metrics_listen
    )
