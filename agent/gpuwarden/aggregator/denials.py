"""Nodes that are kept out whatever certificate they show: one that was taken over, or lost its key.

A certificate lives for a day; this is for the time until then. Of several aggregators each looks in the store
every few seconds.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from gpuwarden.aggregator.committer import Committer
from gpuwarden.aggregator.store import Store
from gpuwarden.clock import Clock
from gpuwarden.errors import GpuwardenError, Refused, Unavailable
from gpuwarden.log import get_log
from gpuwarden.wire import fleet_check as check

LOOK_EVERY_S = 5.0
COMMIT_S = 10.0
REASON_MAX_CHARS = 400


class Denials:
    """``why`` is for any thread."""

    def __init__(self, store: Store, committer: Committer, clock: Clock) -> None:
        """Reads what stands: nobody is let in before that is known. ``Unavailable`` when it cannot be read."""
        self._store = store
        self._committer = committer
        self._clock = clock
        self._known: Mapping[str, str] = store.denials()
        self.end: Callable[[str, str], object] = lambda node, why: None
        """Ends the stream of a node, for a reason."""

    def why(self, node: str) -> str | None:
        """Why this node is kept out; ``None``: it is not."""
        return self._known.get(node)

    def every(self) -> Mapping[str, str]:
        return self._known

    async def deny(self, node: str, reason: str, by: str) -> None:
        """From now on, and on record. ``Unavailable`` when that cannot be kept."""
        check.node_name(node)
        reason = check.text("reason", reason, REASON_MAX_CHARS)
        if not reason:
            raise Refused("reason: missing")
        wall = self._clock.wall()

        def deed(store: Store) -> None:
            store.deny(node, wall, by, reason)
            store.audit(wall, by, "deny", f"{node}: {reason}")

        await self._kept(deed)
        await self.look()

    async def allow(self, node: str, by: str) -> None:
        """``Refused`` when it is not kept out."""
        check.node_name(node)
        wall = self._clock.wall()

        def deed(store: Store) -> bool:
            was_denied = store.allow(node)
            if was_denied:
                store.audit(wall, by, "allow", node)
            return was_denied

        if not await self._kept(deed):
            raise Refused(f"{node} is not denied")
        await self.look()

    async def look(self) -> None:
        """Read them anew; whoever has become one of them is sent away."""
        before, self._known = self._known, await asyncio.to_thread(self._store.denials)
        for node in self._known.keys() - before.keys():
            get_log().warning("node_denied", node=node, reason=self._known[node])
            self.end(node, self._known[node])

    async def keep(self) -> None:
        """For ever: what others have denied counts here too."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            try:
                await self.look()
            except GpuwardenError as error:
                get_log().error("denials_unread", reason=str(error))

    async def _kept(self, deed: Callable[[Store], Any]) -> Any:
        try:
            return await asyncio.wait_for(asyncio.wrap_future(self._committer.do(deed)), COMMIT_S)
        except TimeoutError as error:
            raise Unavailable("the store is slow") from error
