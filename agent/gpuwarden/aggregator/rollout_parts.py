"""Puts rollouts, rollbacks and shares together. A part of wiring."""

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gpuwarden.adapters.secrets import Secrets
from gpuwarden.adapters.share_pages import SharePages
from gpuwarden.aggregator.aliases import Aliases
from gpuwarden.aggregator.campaigns import Campaigns
from gpuwarden.aggregator.committer import Committer
from gpuwarden.aggregator.company import Company
from gpuwarden.aggregator.documents import StoreDocuments
from gpuwarden.aggregator.ingest import Ingest
from gpuwarden.aggregator.judges import Judges
from gpuwarden.aggregator.loop import Fleet
from gpuwarden.aggregator.numbers import NoNumbers, Numbers
from gpuwarden.aggregator.orders import Orders
from gpuwarden.aggregator.rollouts import Rollouts
from gpuwarden.aggregator.share_desk import ShareDesk
from gpuwarden.aggregator.store import Store
from gpuwarden.clock import Clock
from gpuwarden.config_aggregator import AggregatorConfig
from gpuwarden.log import get_log

REFRESH_S = 5.0


@dataclass(slots=True)
class RolloutParts:
    """What has to be kept alive."""

    rollouts: Rollouts
    pages: SharePages
    aliases: Aliases | None = None

    async def keep(self) -> None:
        """For ever."""
        await asyncio.gather(self.rollouts.keep(), self._files())

    async def _files(self) -> None:
        """Files that another aggregator, or nobody, has written."""
        while True:
            try:
                await asyncio.to_thread(self.pages.refresh)
                if self.aliases is not None and self.rollouts.is_leading:
                    await asyncio.to_thread(self.aliases.look)
            except Exception as error:  # noqa: BLE001  the boundary: tried again
                get_log().error("shares_not_written", reason=repr(error))
            await asyncio.sleep(REFRESH_S)

    def counters(self) -> dict[str, int]:
        return {
            "rollout_failures": self.rollouts.failures,
            "rollout_conflicts": self.rollouts.conflicts,
            "rollback_orders": self.rollouts.campaigns.orders_given,
            "share_files_failed": self.pages.failures,
        }


def make_rollouts(
    cfg: AggregatorConfig,
    store: Store,
    committer: Committer,
    clock: Clock,
    company: Company,
    fleet: Fleet,
    ingest: Ingest,
    orders: Orders,
    numbers: Numbers | None = None,
    judges: Judges | None = None,
) -> RolloutParts:
    documents = StoreDocuments(store, committer)
    # The folder is written by whoever tells; HTTP and gRPC read the store.
    late: dict[str, Any] = {}
    desk = ShareDesk(documents, clock, lambda told: late["pages"].told(told))
    pages = late["pages"] = SharePages(desk.every, cfg.rollout.shares_dir)
    campaigns = Campaigns(
        cfg.rollout,
        documents,
        store,
        clock,
        lambda: fleet.view,
        lambda service: carriers(fleet, ingest, service),
        orders.give,
    )
    rollouts = Rollouts(
        cfg.rollout,
        documents,
        desk,
        campaigns,
        numbers or NoNumbers(),
        judges or Judges(),
        clock,
        lambda: company.lead().is_ours,
    )
    aliases = _aliases(cfg, documents, clock, rollouts)
    return RolloutParts(rollouts=rollouts, pages=pages, aliases=aliases)


def _aliases(
    cfg: AggregatorConfig, documents: StoreDocuments, clock: Clock, rollouts: Rollouts
) -> Aliases | None:
    """Nothing where no registry is named; what speaks to one is imported only then."""
    said = cfg.rollout.mlflow
    if said is None:
        return None
    from gpuwarden.adapters.mlflow import Mlflow

    secrets = Secrets(os.environ)
    token = (lambda: secrets.read(said.token)) if said.token else str
    return Aliases(
        documents=documents,
        registry=Mlflow(url=said.url, token=token),
        clock=clock,
        ramps=rollouts.ramps,
        models=said.models,
        alias=said.alias,
    )


def carriers(fleet: Fleet, ingest: Ingest, service: str) -> Sequence[str]:
    """Nodes on which somebody holds device memory under a service's name, by their newest samples."""
    found = []
    for each in fleet.view.nodes:
        sample = ingest.shown(each.greeting.node)
        if sample is not None and any(tenant.service == service for tenant in sample.tenants):
            found.append(each.greeting.node)
    return found
