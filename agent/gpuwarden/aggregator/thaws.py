"""An operator's word that a frozen group may have permits again: on record before it counts."""

import asyncio

from gpuwarden.aggregator.committer import Committer
from gpuwarden.aggregator.loop import Fleet
from gpuwarden.aggregator.store import Store
from gpuwarden.clock import Clock
from gpuwarden.errors import Refused, Unavailable
from gpuwarden.log import get_log
from gpuwarden.model.fleet import FleetView
from gpuwarden.wire import fleet_check as check
from gpuwarden.wire.v1 import fleet_pb2 as pb

COMMIT_S = 10.0
USUAL_S = 600.0
REASON_MAX_CHARS = 400


class Thaws:
    """It is the leader's alone, and lost with it: then the group is frozen again."""

    def __init__(self, fleet: Fleet, committer: Committer, clock: Clock) -> None:
        self._fleet = fleet
        self._committer = committer
        self._clock = clock

    async def give(self, request: pb.ThawRequest, by: str, view: FleetView) -> float:
        """For how long it holds. ``Refused`` where nothing is frozen, or another aggregator leads;
        ``Unavailable`` when it cannot be put on record."""
        group = check.text("group", request.group, 64)
        reason = check.text("reason", request.reason, REASON_MAX_CHARS)
        if not reason:
            raise Refused("reason: missing")
        if not 0 <= request.for_s < float("inf"):
            raise Refused("for_s: expected seconds >= 0")
        if not view.is_leader:
            raise Refused(f"another aggregator leads: ask {view.leader or 'that one'}")
        if not self._fleet.is_frozen(group):
            raise Refused(f"group {group} is not frozen")
        wall, for_s = self._clock.wall(), request.for_s or USUAL_S

        def deed(store: Store) -> None:
            store.audit(wall, by, "thaw", f"group {group} for {for_s:g} s: {reason}")

        try:
            await asyncio.wait_for(asyncio.wrap_future(self._committer.do(deed)), COMMIT_S)
        except TimeoutError as error:
            raise Unavailable("the store is slow") from error
        get_log().warning("fleet_thawed", group=group, by=by, reason=reason)
        return self._fleet.thaw(group, for_s, by, reason)
