"""The aggregator's on-call, put together: a part of wiring."""

import os
from collections.abc import Callable
from dataclasses import dataclass

from gpuwarden.adapters.secrets import Secrets
from gpuwarden.adapters.sinks.make import make_heartbeat, make_sinks
from gpuwarden.aggregator.committer import Committer
from gpuwarden.aggregator.lead import Lead
from gpuwarden.aggregator.oncall import FleetOncall
from gpuwarden.aggregator.reign import Reign
from gpuwarden.aggregator.store import Store
from gpuwarden.aggregator.store_log import StoreLog
from gpuwarden.clock import Clock
from gpuwarden.config_aggregator import AggregatorConfig
from gpuwarden.node.notifier import Outfit
from gpuwarden.ports_oncall import BookLog


@dataclass(frozen=True, slots=True, kw_only=True)
class Paging:
    """Nobody is told anything before an epoch of ours begins."""

    reign: Reign
    oncall: FleetOncall


def outfit_of(cfg: AggregatorConfig, clock: Clock) -> Outfit:
    """The sinks of a configuration."""
    # One name for the whole fleet: whichever aggregator speaks, receivers see one sender and one key.
    secrets, host = Secrets(os.environ), cfg.aggregator.trust_domain
    return Outfit(
        cfg=cfg.oncall,
        sinks=make_sinks(cfg.oncall, secrets, clock, host),
        heartbeat=make_heartbeat(cfg.oncall, secrets, clock, host),
    )


def make_paging(
    cfg: AggregatorConfig,
    clock: Clock,
    store: Store,
    committer: Committer,
    lead: Callable[[], Lead],
) -> Paging:
    def open_log(epoch: int) -> BookLog:
        def is_ours() -> bool:
            known = lead()
            return known.is_ours and known.epoch == epoch

        return StoreLog(store, committer, epoch, is_ours)

    reign = Reign(outfit_of(cfg, clock), open_log, clock, cfg.aggregator.trust_domain)
    return Paging(reign=reign, oncall=FleetOncall(reign, reign))
