"""What follows from drift, put together: a part of wiring."""

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass

from gpuwarden.adapters.retrain_hook import Hook, make_hook
from gpuwarden.adapters.secrets import Secrets
from gpuwarden.aggregator.closer_look import CloserLook
from gpuwarden.aggregator.committer import Committer
from gpuwarden.aggregator.company import Company
from gpuwarden.aggregator.documents import StoreDocuments
from gpuwarden.aggregator.ingest import Ingest
from gpuwarden.aggregator.retrain_facts import ServiceFacts
from gpuwarden.aggregator.retrains import Retrains
from gpuwarden.aggregator.rollouts import Rollouts
from gpuwarden.aggregator.services_wiring import Evaluation
from gpuwarden.aggregator.store import Store
from gpuwarden.clock import Clock
from gpuwarden.config_aggregator import AggregatorConfig
from gpuwarden.config_retrain import RetrainConfig
from gpuwarden.log import get_log
from gpuwarden.model.drift import DriftView
from gpuwarden.model.ramp import OVER
from gpuwarden.policy.fleet import calm

AGAIN_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftFollow:
    """What has to be kept alive."""

    closer: CloserLook
    retrains: Retrains
    facts: ServiceFacts

    async def keep(self) -> None:
        """For ever."""
        await asyncio.gather(self.closer.keep(), self._retrains())

    async def _retrains(self) -> None:
        while True:
            try:
                await self.retrains.keep()
            except Exception as error:  # noqa: BLE001  the boundary: the next pass sees the same again
                get_log().error("retrains_failed", reason=repr(error))
            await asyncio.sleep(AGAIN_S)

    def adopt(self, cfg: AggregatorConfig) -> None:
        self.closer.cfg = cfg.evaluation
        self.retrains.configs = cfg.retrain

    def counters(self) -> dict[str, int]:
        return {**self.retrains.counters(), "reviews_raised": self.closer.raised}


def make_follow(
    cfg: AggregatorConfig,
    store: Store,
    committer: Committer,
    clock: Clock,
    company: Company,
    ingest: Ingest,
    evaluation: Evaluation,
    rollouts: Rollouts,
    drift: Callable[[], DriftView],
) -> DriftFollow:
    def epoch() -> int | None:
        lead = company.lead()
        return lead.epoch if lead.is_ours else None

    def held(service: str) -> str:
        """A freeze by the environment is of shares: drift itself may have brought it, and training moves nobody's."""
        freezes = rollouts.desk.freezes()
        by_people = {key: f for key, f in freezes.items() if f.by != calm.ENVIRONMENT}
        if why := calm.holds(by_people, service):
            return why
        ramps = [each for each in rollouts.ramps(service) if each.stage not in OVER]
        return f"version {ramps[0].version} is on its way" if ramps else ""

    secrets = Secrets(os.environ)

    def hook_of(said: RetrainConfig) -> Hook | None:
        return make_hook(said, secrets, clock)

    facts = ServiceFacts(evaluation.services, drift, held)
    retrains = Retrains(
        cfg.retrain,
        StoreDocuments(store, committer, epoch),
        facts,
        hook_of,
        clock,
        lambda: company.lead().is_ours,
    )
    evaluation.notes.append(retrains.notes)
    closer = CloserLook(cfg.evaluation, drift, facts, clock, ingest.direct)
    return DriftFollow(closer=closer, retrains=retrains, facts=facts)
