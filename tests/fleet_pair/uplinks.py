"""Nodes that speak to either aggregator, want leave all the time, act on it, and obey orders."""

from __future__ import annotations

import itertools
import random
import threading
from typing import Any

from gpuwarden.adapters.pki.authority import Authority
from gpuwarden.clock import SystemClock
from gpuwarden.errors import Refused
from gpuwarden.wire.convert_fleet_node import accepted_epoch
from gpuwarden.wire.v1 import fleet_pb2 as pb
from gpuwarden.wire.v1 import node_pb2 as node
from tests.aggregator.centre import event
from tests.fleet_kills.run import Sender
from tests.fleet_pair.history import History, Seen

PATIENCE_S = 2.0
"""After which a stream on which nothing comes back is left for the other aggregator."""
ASK_EVERY_S = 0.3
REST_S = (0.0, 6.0)
"""After it has acted: so that others come into the budget."""


class Node(Sender):
    """A sender that also asks, acts and obeys; everything it sees goes into the history."""

    def __init__(
        self, name: str, domain: str, history: History, authority: Authority, *addresses: str
    ) -> None:
        super().__init__(name, authority, *addresses)
        self._clock = SystemClock()
        self._history = history
        self._domain = domain
        self._epoch = 0
        self._wishes = itertools.count(1)
        self._wish = ""
        self._asked_at = 0.0
        self._rests_until = 0.0
        self._chance = random.Random(name)
        self._obeyed: set[str] = set()
        self._special: dict[int, pb.FleetEvent] = {}
        self._to_tell: list[dict[str, Any]] = []
        self._told = threading.Lock()
        self._heard_at = self._clock.now()
        self._call: Any = None
        history.domains[name] = domain

    def _note(self, what: str, **more: Any) -> None:
        self._history.note(Seen(at=self._clock.now(), who=self.name, what=what, **more))

    def begun(self, address: str, call: Any) -> None:
        self._call, self._heard_at = call, self._clock.now()
        self._note("stream", text=address)

    def look(self) -> None:
        """Now and then, from outside: a stream on which nothing comes is left."""
        call = self._call
        if call is not None and self._clock.now() - self._heard_at > PATIENCE_S:
            call.cancel()

    def hello(self) -> pb.Hello:
        hello = super().hello()
        hello.epoch = self._epoch
        hello.domains.append(node.NamedText(name="rack", text=self._domain))
        return hello

    def event(self, number: int) -> pb.FleetEvent:
        with self._told:
            if number not in self._special and number > self.sent and self._to_tell:
                self._special[number] = event(number, **self._to_tell.pop(0))
            special = self._special.get(number)
        return special or super().event(number)

    def is_change(self, number: int) -> bool:
        return number not in self._special

    def asks(self) -> list[pb.PermitAsk]:
        now = self._clock.now()
        if now - self._asked_at < ASK_EVERY_S or now < self._rests_until:
            return []
        self._asked_at = now
        if not self._wish:
            self._wish = f"{self.name}-w{next(self._wishes)}"
        return [pb.PermitAsk(id=self._wish, kind="cordon", subject="GPU-0", age_s=1)]

    def heard(self, response: pb.AttendResponse) -> None:
        self._heard_at = self._clock.now()
        if response.HasField("ack"):
            self._note("ack", number=response.ack.events_upto)
        if not response.HasField("directive"):
            return
        directive = response.directive
        try:
            self._epoch = accepted_epoch(directive.epoch, self._epoch)
        except Refused:
            self._note("stale", number=directive.epoch)
            return
        self._note("epoch", number=self._epoch)
        for permit in directive.permits:
            self._note("permit", name=permit.id, text=permit.ask)
            if permit.ask == self._wish and permit.ttl_s > 0:
                self._wish = ""
                self._rests_until = self._clock.now() + self._chance.uniform(*REST_S)
                self._note("action", name=permit.id, text=permit.ask)
                with self._told:
                    self._to_tell.append({"note": f"acted {permit.ask} {permit.id}"})
        for order in directive.orders:
            if order.id in self._obeyed or order.ttl_s <= 0:
                continue
            self._obeyed.add(order.id)
            self._note("order", name=order.id)
            result = pb.OrderResult(order=order.id, is_done=True, text="done")
            with self._told:
                self._to_tell.append({"order": result})
