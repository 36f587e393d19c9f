"""Nodes that were scrapped or given away: an operator's word that they are none of the fleet's any more.

Until then a node counts in its group for ever, silent. Of several aggregators each looks in the store every few
seconds which nodes there still are.
"""

import asyncio
from collections.abc import Container

from gpuwarden.aggregator.committer import Committer
from gpuwarden.aggregator.loop import Fleet
from gpuwarden.aggregator.store import Store
from gpuwarden.clock import Clock
from gpuwarden.errors import GpuwardenError, Refused, Unavailable
from gpuwarden.log import get_log
from gpuwarden.policy.fleet.fold import Forgotten
from gpuwarden.wire import fleet_check as check

LOOK_EVERY_S = 5.0
COMMIT_S = 10.0
REASON_MAX_CHARS = 400


class Forgetting:
    """On the event loop."""

    def __init__(
        self,
        fleet: Fleet,
        store: Store,
        committer: Committer,
        clock: Clock,
        here: Container[str],
    ) -> None:
        """``here``: nodes whose streams are held here."""
        self._fleet = fleet
        self._store = store
        self._committer = committer
        self._clock = clock
        self._here = here

    async def forget(self, node: str, reason: str, by: str) -> None:
        """``Refused`` for a node that is connected, or not known; ``Unavailable`` when it cannot be put on record."""
        check.node_name(node)
        reason = check.text("reason", reason, REASON_MAX_CHARS)
        if not reason:
            raise Refused("reason: missing")
        standing = next((e for e in self._fleet.view.nodes if e.greeting.node == node), None)
        if node in self._here or (standing is not None and standing.is_connected):
            raise Refused(f"{node} is connected: stop its agent, or gpuwarden fleet deny {node}")
        wall = self._clock.wall()

        def deed(store: Store) -> bool:
            was_known = store.forget(node, wall)
            if was_known:
                store.audit(wall, by, "forget", f"{node}: {reason}")
            return was_known

        try:
            was_known = await asyncio.wait_for(
                asyncio.wrap_future(self._committer.do(deed)), COMMIT_S
            )
        except TimeoutError as error:
            raise Unavailable("the store is slow") from error
        if not was_known and standing is None:
            raise Refused(f"no node {node}")
        get_log().warning("node_forgotten", node=node, by=by, reason=reason)
        self._fleet.hear(Forgotten(at=self._clock.now(), node=node))

    async def keep(self) -> None:
        """For ever: what was forgotten elsewhere is forgotten here."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            try:
                await self.look()
            except GpuwardenError as error:
                get_log().error("nodes_unread", reason=str(error))

    async def look(self) -> None:
        """A node is in the store before the fleet hears of it: one that is not there is there no more."""
        before = self._fleet.view.nodes
        known = await asyncio.to_thread(self._store.node_names)
        for each in before:
            name = each.greeting.node
            if name not in known and not each.is_connected and name not in self._here:
                self._fleet.hear(Forgotten(at=self._clock.now(), node=name))
