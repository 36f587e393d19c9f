"""The node's side of the fleet: what it has leave for, what it wants, and operators' orders from afar."""

import os
import queue
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress

from gpuwarden.clock import Clock
from gpuwarden.config_fleet import FleetConfig
from gpuwarden.errors import GpuwardenError
from gpuwarden.log import get_log
from gpuwarden.model.command import Answer, Verb
from gpuwarden.model.fleet import Ask, Denial, Greeting, Leave, Order, Permit
from gpuwarden.model.status import View
from gpuwarden.policy import leave

ORDERS_MAX = 32
ORDER_S = 10.0
GIVEN_MAX = 1000

Command = Callable[[Verb, str, str, int, float], Answer]
"""Asks the loop: verb, subject, reason, uid, seconds."""


class NodeFleetDesk:
    """Implements ``ports_fleet.FleetDesk`` and, for the loop, ``Ports.leave``."""

    def __init__(
        self,
        cfg: FleetConfig,
        clock: Clock,
        node: str,
        version: str,
        command: Command,
        metrics_address: str = "",
    ) -> None:
        self._cfg = cfg
        self._clock = clock
        self._node = node
        self._version = version
        self._metrics_address = metrics_address
        self._command = command
        self._lock = threading.Lock()
        self._boot_id = ""
        self._asks: tuple[Ask, ...] = ()
        self._permits: list[Permit] = []
        self._given: list[Permit] = []
        """What this node gave itself leave for."""
        self._denials: dict[str, Denial] = {}
        self._is_required = cfg.require_permit
        self._down_since: float | None = clock.now()
        self._orders: queue.Queue[Order | None] = queue.Queue(ORDERS_MAX)
        self._answered: list[tuple[str, bool, str, str]] = []
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._thread = threading.Thread(target=self._obey, name="gpuwarden-orders", daemon=True)
        self.orders_refused = 0
        self.permits_received = 0

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        with suppress(queue.Full):
            self._orders.put_nowait(None)

    def greeting(self, log_id: str, epoch: int) -> Greeting:
        with self._lock:
            return Greeting(
                node=self._node,
                boot_id=self._boot_id or "unknown",
                log_id=log_id,
                agent_version=self._version,
                api_address=self._cfg.advertise or self._cfg.listen or "",
                group=self._cfg.group,
                domains=tuple(sorted(self._cfg.domains.items())),
                epoch=epoch,
                wall=self._clock.wall(),
                metrics_address=self._metrics_address,
            )

    def leave(self, now: float) -> Leave:
        """For the loop: what may be done now."""
        with suppress(BlockingIOError):
            os.eventfd_read(self._wake)
        with self._lock:
            if not (self._is_required and self._cfg.require_permit):
                return Leave()
            self._permits = [p for p in self._permits if now < p.expires_at]
            away_s = 0.0 if self._down_since is None else now - self._down_since
            fresh = leave.local(self._cfg, self._asks, self._given, self._boot_id, away_s, now)
            self._given = [*self._given, *fresh][-GIVEN_MAX:]
            for permit in fresh:
                get_log().warning(
                    "local_permit", kind=permit.kind, subject=permit.subject, away_s=round(away_s)
                )
            return leave.held((*self._permits, *self._given), self._boot_id, now)

    def filenos(self) -> Sequence[int]:
        """Readable when leave has come: the loop need not wait for its next beat."""
        return (self._wake,)

    def look(self, view: View) -> None:
        wanted = tuple(leave.asks(view.withheld, view.incidents, view.at))
        with self._lock:
            self._boot_id = view.snapshot.boot_id
            self._asks = wanted
            names = {ask.id for ask in wanted}
            self._denials = {n: d for n, d in self._denials.items() if n in names}

    def asks(self) -> Sequence[Ask]:
        """What is wanted and not in hand."""
        now = self._clock.now()
        with self._lock:
            held = {p.ask for p in self._permits if now < p.expires_at}
            return [ask for ask in self._asks if ask.id not in held]

    def complaints(self) -> list[str]:
        """Why what is wanted is not given, in words."""
        with self._lock:
            lines = [f"the fleet withholds leave: {d.detail}" for d in self._denials.values()]
            if self._down_since is not None:
                lines.append("the aggregator is not reached")
            return list(dict.fromkeys(lines))

    def linked(self, is_up: bool) -> None:
        with self._lock:
            if is_up:
                self._down_since = None
            elif self._down_since is None:
                self._down_since = self._clock.now()

    def receive(
        self, permits: Sequence[Permit], denials: Sequence[Denial], *, is_required: bool
    ) -> None:
        with self._lock:
            self._is_required = is_required
            known = {p.id for p in permits}
            self._permits = [p for p in self._permits if p.id not in known] + list(permits)
            self._permits = self._permits[-GIVEN_MAX:]
            self.permits_received += len(permits)
            answered = {p.ask for p in permits}
            self._denials = {n: d for n, d in self._denials.items() if n not in answered}
            self._denials.update((d.ask, d) for d in denials[-ORDERS_MAX:])
        if permits:
            with suppress(BlockingIOError):
                os.eventfd_write(self._wake, 1)

    def order(self, order: Order) -> None:
        why = self._why_not(order)
        if why:
            self._answer(order, False, why, "")
            return
        try:
            self._orders.put_nowait(order)
        except queue.Full:
            self._answer(order, False, "too many orders are waiting already", "")

    def _why_not(self, order: Order) -> str:
        """Why an order is not for us, or not for now; empty: it is."""
        if order.node != self._node:
            return f"it is for {order.node}"
        with self._lock:
            boot_id = self._boot_id
        if order.boot_id != boot_id:
            return "it is for another boot of this node"
        if self._clock.now() >= order.expires_at:
            return "it has expired"
        if order.verb not in {verb.value for verb in Verb}:
            return f"no such command: {order.verb}"
        return ""

    def _obey(self) -> None:
        while True:
            order = self._orders.get()
            if order is None:
                return
            self._carry_out(order)

    def _carry_out(self, order: Order) -> None:
        if why := self._why_not(order):
            self._answer(order, False, why, "")
            return
        reason = f"{order.reason} (by {order.by}, order {order.id})"
        try:
            answer = self._command(Verb(order.verb), order.subject, reason, 0, ORDER_S)
            self._answer(order, answer.is_done, answer.text, answer.incident or "")
        except GpuwardenError as error:
            self._answer(order, False, str(error), "")

    def _answer(self, order: Order, is_done: bool, text: str, incident: str) -> None:
        get_log().info("order", order=order.id, by=order.by, is_done=is_done, text=text)
        with self._lock:
            self.orders_refused += not is_done
            self._answered = [*self._answered, (order.id, is_done, text, incident)][
                -ORDERS_MAX * 2 :
            ]

    def answered(self) -> Sequence[tuple[str, bool, str, str]]:
        with self._lock:
            found, self._answered = self._answered, []
            return found
