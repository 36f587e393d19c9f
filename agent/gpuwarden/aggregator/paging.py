"""The aggregator's on-call, put together: a part of wiring."""

import os
import socket
from dataclasses import dataclass

from gpuwarden.adapters.secrets import Secrets
from gpuwarden.adapters.sinks.make import make_heartbeat, make_sinks
from gpuwarden.aggregator.oncall import FleetOncall, remembered
from gpuwarden.clock import Clock
from gpuwarden.config_aggregator import AggregatorConfig
from gpuwarden.model.fleet import FleetIncident
from gpuwarden.node.notifier import Notifier, Outfit
from gpuwarden.node.sent_log import SentLog


@dataclass(frozen=True, slots=True, kw_only=True)
class Paging:
    """``standing``: what was open and told when the last aggregator ended."""

    notifier: Notifier
    oncall: FleetOncall
    standing: tuple[FleetIncident, ...]


def make_paging(cfg: AggregatorConfig, clock: Clock) -> Paging:
    """Nothing is sent before the notifier is started."""
    secrets, host = Secrets(os.environ), socket.gethostname()
    outfit = Outfit(
        cfg=cfg.oncall,
        sinks=make_sinks(cfg.oncall, secrets, clock, host),
        heartbeat=make_heartbeat(cfg.oncall, secrets, clock, host),
    )
    notifier = Notifier(outfit, SentLog(cfg.aggregator.state_dir / "oncall"), clock, host)
    standing = remembered(notifier.book, clock.now())
    oncall = FleetOncall(notifier)
    oncall.begin(standing, clock.wall())
    return Paging(notifier=notifier, oncall=oncall, standing=standing)
