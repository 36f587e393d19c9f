"""What is old is let go of, once an hour."""

import asyncio
from collections.abc import Callable

from gpuwarden.aggregator.committer import Committer
from gpuwarden.clock import Clock
from gpuwarden.config_aggregator import AggregatorConfig

EVERY_S = 3600.0


async def keep(committer: Committer, clock: Clock, cfg: Callable[[], AggregatorConfig]) -> None:
    """For ever; of ``cfg`` the newest counts each time."""
    while True:
        before = clock.wall() - cfg().ingest.keep_events_s
        committer.do(lambda store, before=before: store.prune(before))  # type: ignore[misc]
        await asyncio.sleep(EVERY_S)
