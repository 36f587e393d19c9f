"""Rollbacks over the nodes that carry a service: orders to a batch of them, and what became of each.

On disk before any node hears of it. Whoever leads goes on where the last one stopped: an order has the same id
whoever gives it, and what became of it is in the store.
"""

import asyncio
import secrets
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol

from gpuwarden.aggregator.store import KeptIncident, KeptOrder
from gpuwarden.clock import Clock
from gpuwarden.config_ramp import RampConfig
from gpuwarden.errors import GpuwardenError, Refused, Unavailable
from gpuwarden.log import get_log
from gpuwarden.model.fleet import FleetView, Identity, NodeStanding, Role
from gpuwarden.model.ramp import Campaign, CampaignState, NodeTurn, Turn
from gpuwarden.policy.fleet import campaign
from gpuwarden.policy.fleet.campaign import Answer, Seen
from gpuwarden.policy.rollback import How, spelled
from gpuwarden.ports_evaluation import Documents
from gpuwarden.wire.convert_rollout import from_body, to_body
from gpuwarden.wire.v1 import fleet_pb2 as pb
from gpuwarden.wire.v1 import node_pb2 as node

KIND = "rollback"
RULE = "rollback"
NEWEST = (1e12, "\U0010ffff", "\U0010ffff")
INCIDENTS = 20
GIVE_S = 60.0
"""Beyond so long an order that nobody answered is given again."""

Carriers = Callable[[str], Sequence[str]]
Give = Callable[[pb.OrderRequest, NodeStanding, Identity], Coroutine[Any, Any, KeptOrder]]


class Kept(Protocol):
    """What of the store is asked here."""

    def order(self, order_id: str) -> KeptOrder | None: ...

    def incidents(
        self, *, is_open_only: bool, node: str, rule: str, limit: int, after: tuple[float, str, str]
    ) -> list[KeptIncident]: ...


class Campaigns:
    """The event loop's thread; what blocks runs beside it."""

    def __init__(
        self,
        cfg: RampConfig,
        documents: Documents,
        store: Kept,
        clock: Clock,
        view: Callable[[], FleetView],
        carriers: Carriers,
        give: Give,
    ) -> None:
        """``carriers``: the nodes that run a service, by their newest samples."""
        self._cfg = cfg
        self._documents = documents
        self._store = store
        self._clock = clock
        self._view = view
        self._carriers = carriers
        self._give = give
        self._giving: dict[str, asyncio.Task[None]] = {}
        self._refusals: dict[str, str] = {}
        """By order, what kept it from being given."""
        self.orders_given = 0

    def every(self) -> list[Campaign]:
        return [from_body(Campaign, each.body) for each in self._documents.every(KIND)]

    def of(self, service: str) -> Campaign | None:
        """The newest of a service."""
        document = self._documents.get(KIND, service)
        return None if document is None else from_body(Campaign, document.body)

    def begin(
        self, service: str, version: str, how: How, by: str, reason: str, ident: str = ""
    ) -> Campaign:
        """On disk when this returns. ``Refused`` while one of the service runs, or where nobody carries it. Blocks."""
        document = self._documents.get(KIND, service)
        known = None if document is None else from_body(Campaign, document.body)
        if known is not None and ident and known.id == ident:
            return known
        if known is not None and known.state is CampaignState.RUNNING:
            raise Refused(f"{service} is being rolled back already ({known.id})")
        nodes = self._carriers(service)
        if not nodes:
            raise Refused(f"no node is known to carry {service}")
        fresh = Campaign(
            id=ident or secrets.token_hex(6),
            service=service,
            version=version,
            how=how.value,
            by=by,
            reason=reason,
            since_wall=self._clock.wall(),
        )
        fresh = campaign.begun(fresh, nodes)
        after = 0 if document is None else document.revision
        wall = self._clock.wall()
        self._documents.put(KIND, service, to_body(fresh), who=by, wall=wall, after=after)
        get_log().info("rollback", service=service, campaign=fresh.id, nodes=len(nodes), by=by)
        return fresh

    async def look(self, *, leads: bool) -> None:
        """One pass over those that run. Who does not lead gives no orders."""
        if not leads:
            return
        for document in await asyncio.to_thread(self._documents.every, KIND):
            before = from_body(Campaign, document.body)
            if before.state is not CampaignState.RUNNING:
                continue
            seen = await asyncio.to_thread(self._seen, before)
            after = campaign.step(self._cfg, before, seen, self._clock.wall())
            if after != before:
                # On disk before anybody is ordered anything: who is killed here orders nobody twice.
                await asyncio.to_thread(
                    self._documents.put,
                    KIND,
                    after.service,
                    to_body(after),
                    who="gpuwarden",
                    wall=self._clock.wall(),
                    after=document.revision,
                )
                if after.state is not before.state:
                    get_log().info(
                        "rollback_over",
                        service=after.service,
                        state=after.state.value,
                        why=after.why,
                    )
            self._order(after, seen)

    def _seen(self, running: Campaign) -> Seen:
        view = self._view()
        heard = frozenset(each.greeting.node for each in view.nodes if each.is_connected)
        answers = {
            turn.node: self._answer(turn) for turn in running.nodes if turn.turn is Turn.ORDERED
        }
        return Seen(answers=answers, heard=heard, frozen=view.frozen)

    def _answer(self, turn: NodeTurn) -> Answer:
        """By the incident that the order made on its node; where it made none, by the node's answer to the order."""
        incident = self._incident(turn)
        if incident is not None:
            message = node.Incident.FromString(incident.payload)
            if not message.HasField("closed_at"):
                return Answer(incident=incident.id)
            is_done = message.outcome == "service rolled back"
            steps = [step.text for step in message.steps if step.kind == "roll-back"]
            detail = "" if is_done else (steps[-1] if steps else message.outcome)
            return Answer(is_done=is_done, incident=incident.id, detail=detail[:300])
        kept = self._store.order(turn.order)
        if kept is None or kept.is_done is None:
            return Answer()
        if not kept.is_done:
            return Answer(is_done=False, detail=kept.text[:300])
        # Obeyed, and no incident: it runs that version already. One that is begun has its incident within moments.
        return Answer(is_done=True) if kept.text.endswith("already") else Answer()

    def _incident(self, turn: NodeTurn) -> KeptIncident | None:
        found = self._store.incidents(
            is_open_only=False, node=turn.node, rule=RULE, limit=INCIDENTS, after=NEWEST
        )
        return next((each for each in found if turn.order.encode() in each.payload), None)

    def _order(self, running: Campaign, seen: Seen) -> None:
        """Have every node whose turn it is, and of which nothing is known, told."""
        nodes = {each.greeting.node: each for each in self._view().nodes}
        for turn in running.nodes:
            answer = seen.answers.get(turn.node)
            is_known = answer is not None and (answer.is_done is not None or answer.incident)
            standing = nodes.get(turn.node)
            if turn.turn is not Turn.ORDERED or is_known or turn.order in self._giving:
                continue
            if standing is not None and standing.is_connected:
                self._giving[turn.order] = asyncio.get_running_loop().create_task(
                    self._told(running, turn, standing)
                )

    async def _told(self, running: Campaign, turn: NodeTurn, standing: NodeStanding) -> None:
        request = pb.OrderRequest(
            id=turn.order,
            node=turn.node,
            verb="rollback",
            subject=spelled(running.service, running.version, How(running.how)),
            reason=f"{running.reason or 'no reason given'} (rollback {running.id} of {running.by})",
        )
        try:
            self.orders_given += 1
            await self._give(request, standing, Identity(role=Role.AGGREGATOR, name="rollback"))
        except (Unavailable, Refused, TimeoutError) as error:
            self._refusals[turn.order] = str(error)
            get_log().warning("rollback_not_told", node=turn.node, reason=str(error))
        except GpuwardenError as error:
            get_log().error("rollback_not_told", node=turn.node, reason=str(error))
        finally:
            self._giving.pop(turn.order, None)
