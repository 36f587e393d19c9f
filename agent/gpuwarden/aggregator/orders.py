"""Operators' orders on their way to a node, and what became of them on the way back."""

import asyncio
import secrets
from dataclasses import replace

from gpuwarden.aggregator.committer import Committer
from gpuwarden.aggregator.ingest import Ingest
from gpuwarden.aggregator.store import KeptOrder, Store
from gpuwarden.clock import Clock
from gpuwarden.config_aggregator import AskConfig
from gpuwarden.errors import Refused, Unavailable
from gpuwarden.model.fleet import Identity, NodeStanding
from gpuwarden.wire import fleet_check as check
from gpuwarden.wire.v1 import fleet_pb2 as pb

VERBS = frozenset({"cordon", "uncordon", "drain", "set-healthy", "rollback"})
COMMIT_S = 10.0
LOOK_EVERY_S = 0.5


class Orders:
    """The event loop's thread only. An order is on record before it is sent."""

    def __init__(self, cfg: AskConfig, committer: Committer, store: Store, clock: Clock) -> None:
        self.cfg = cfg
        self._store = store
        self._committer = committer
        self._clock = clock
        self._waiting: dict[tuple[str, str], asyncio.Future[KeptOrder]] = {}
        """By node and order: what another node says of it does not count."""
        self.ingest: Ingest | None = None
        """Who has the streams; set before the first order."""

    async def give(
        self, request: pb.OrderRequest, standing: NodeStanding, who: Identity
    ) -> KeptOrder:
        """What the node did. ``Unavailable`` when it did not say so in time: then it may still do it, until
        the order expires."""
        order = replace(
            _order(request, f"{who.name} ({who.role})"),
            reason=request.reason,
            boot_id=standing.greeting.boot_id,
            ttl_s=self.cfg.order_s,
        )
        wall = self._clock.wall()

        def deed(store: Store) -> KeptOrder:
            kept = store.add_order(order, wall)
            if kept is order:
                detail = f"{order.id} {order.node} {order.subject}: {request.reason}"
                store.audit(wall, order.by, order.verb, detail)
            return kept

        kept = await asyncio.wait_for(asyncio.wrap_future(self._committer.do(deed)), COMMIT_S)
        if (kept.node, kept.verb, kept.subject) != (order.node, order.verb, order.subject):
            raise Refused(f"order {order.id} was given before, and was another")
        if kept.is_done is not None:
            return kept
        future = self._waiting.setdefault(
            (order.node, order.id), asyncio.get_running_loop().create_future()
        )
        try:
            directive = pb.Directive(orders=[order_message(order)])
            is_here = self.ingest is not None and self.ingest.direct(order.node, directive)
            if not is_here and not standing.is_connected:
                raise Unavailable(f"{order.node} is not connected: ask its agent there")
            # Wherever its stream is by then: the answer is in the store first.
            async with asyncio.timeout(self.cfg.order_s):
                return await self._answered(order, future)
        except TimeoutError as error:
            text = f"{order.node} has not answered within {self.cfg.order_s:g} s (order {order.id})"
            raise Unavailable(text) from error
        finally:
            self._waiting.pop((order.node, order.id), None)

    async def _answered(self, order: KeptOrder, future: "asyncio.Future[KeptOrder]") -> KeptOrder:
        while True:
            done, _ = await asyncio.wait([future], timeout=LOOK_EVERY_S)
            if done:
                return future.result()
            kept = await asyncio.to_thread(self._store.order, order.id)
            if kept is not None and kept.is_done is not None:
                return kept

    def done(self, node: str, order_id: str, is_done: bool, text: str) -> None:
        """A node has said what became of one."""
        future = self._waiting.get((node, order_id))
        if future is not None and not future.done():
            future.set_result(
                KeptOrder(
                    id=order_id, node=node, by="", verb="", subject="", is_done=is_done, text=text
                )
            )


def order_message(order: KeptOrder) -> pb.Order:
    """As it is sent to whoever is to obey it."""
    return pb.Order(
        id=order.id,
        node=order.node,
        boot_id=order.boot_id,
        verb=order.verb,
        subject=order.subject,
        reason=order.reason,
        by=order.by,
        ttl_s=order.ttl_s,
    )


def _order(request: pb.OrderRequest, by: str) -> KeptOrder:
    if request.verb not in VERBS:
        raise Refused(f"no such order: {request.verb[:40]}")
    check.text("reason", request.reason, 1000)
    return KeptOrder(
        id=check.identifier("id", request.id) if request.id else secrets.token_hex(8),
        node=check.node_name(request.node),
        by=by,
        verb=request.verb,
        subject=check.text("subject", request.subject, 256),
    )
