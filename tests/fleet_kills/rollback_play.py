"""The aggregator is killed again and again while a service goes back to an earlier version over its nodes.

The aggregator is a process of its own and dies by SIGKILL; nodes are streams as the uplink's: what was not acknowledged
they send again, and an order whose id they know they do not carry out a second time.
"""

from __future__ import annotations

import signal
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from gpuwarden.adapters.pki.authority import Authority
from gpuwarden.adapters.pki.names import AGGREGATOR_NAME
from gpuwarden.clock import SystemClock
from gpuwarden.model.fleet import Identity, Role
from gpuwarden.sim.incident.daemon import free_port
from gpuwarden.wire.v1 import fleet_pb2 as pb
from gpuwarden.wire.v1 import node_pb2 as node
from gpuwarden.wire.v1 import rollout_pb2 as ro
from gpuwarden.wire.v1.fleet_pb2_grpc import FleetQueryServiceStub
from gpuwarden.wire.v1.rollout_pb2_grpc import RolloutServiceStub
from tests.aggregator.centre import event, sample
from tests.fleet_kills.run import READY_S, Sender, started

PACE_S = 0.05
WITHIN_S = 90.0
CLOCK = SystemClock()


class Carrier(Sender):
    """A node that runs v2 of the service; its old image is there, or is broken."""

    def __init__(self, name: str, authority: Authority, address: str, *, is_broken: bool) -> None:
        super().__init__(name, authority, address)
        self.is_broken = is_broken
        self.runs = ["v2"]
        """What it has run, in order."""
        self.orders: dict[str, int] = {}
        """By order, the number of the event that told of its begin."""
        self.again = 0
        """Orders that came once more although what they made had been acknowledged before this stream began."""
        self.life_upto = 0
        self._events: list[pb.FleetEvent] = []
        self._due: list[tuple[float, str, pb.Order]] = []
        self._book = threading.Lock()

    def begun(self, address: str, call: Any) -> None:
        self.life_upto = self.upto

    def heard(self, response: pb.AttendResponse) -> None:
        for order in response.directive.orders:
            with self._book:
                told = self.orders.get(order.id)
                if told is not None:
                    self.again += told <= self.life_upto
                    continue
                self._tell(order=pb.OrderResult(order=order.id, is_done=True, text="begun"))
                self._tell(incident=_incident(order))
                self.orders[order.id] = len(self._events)
                self._due.append((CLOCK.now() + 0.4, order.id, order))

    def _tell(self, **body: Any) -> None:
        self._events.append(event(len(self._events) + 1, **body))

    def _work(self) -> None:
        """End what is due: the old version runs, or cannot be started and the present one runs on."""
        now = CLOCK.now()
        for place in [d for d in self._due if d[0] <= now]:
            self._due.remove(place)
            order = place[2]
            if not self.is_broken:
                self.runs.append("v1")
            self._tell(incident=_incident(order, is_done=not self.is_broken))

    def _requests(self, over: threading.Event) -> Any:
        yield pb.AttendRequest(hello=self.hello())
        number, samples = self.upto, 0
        tenant = pb.TenantSample(tenant="docker:x", name="risk", service="risk", device=0)
        while not over.is_set():
            with self._book:
                self._work()
                new = self._events[number : number + 20]
            number += len(new)
            samples += 1
            batch = pb.Batch(events=new, samples=[sample(samples, tenants=[tenant])])
            yield pb.AttendRequest(batch=batch)
            over.wait(PACE_S)


@dataclass(slots=True)
class Outcome:
    """What became of it."""

    kills: int = 0
    killed_half_way: int = 0
    """Kills while some nodes were done and others were not."""
    state: str = ""
    turns: dict[str, str] = field(default_factory=dict)
    carriers: list[Carrier] = field(default_factory=list)


def _incident(order: pb.Order, *, is_done: bool | None = None) -> node.Incident:
    facts: dict[str, Any] = {
        "id": f"inc-{order.id}",
        "rule": "rollback",
        "opened_wall": 1.7e9,
        "summary": f"root rolls risk back: {order.reason} (order {order.id})",
    }
    if is_done is not None:
        outcome = "service rolled back" if is_done else "not rolled back: what ran before runs on"
        step = node.IncidentStep(kind="roll-back", text="risk: v2 back to v1 [no such image]")
        facts |= {"closed_at": 2.0, "closed_wall": 1.7e9, "outcome": outcome, "steps": [step]}
    return node.Incident(**facts)


class Desk:
    """Somebody at the aggregator's door, whoever answers there now."""

    def __init__(self, authority: Authority, address: str) -> None:
        own = authority.credentials(
            Identity(role=Role.OPERATOR, name="ops"), ttl_s=86_400, wall=CLOCK.wall()
        )
        credentials = grpc.ssl_channel_credentials(
            own.authorities_pem, own.key_pem, own.certificate_pem
        )
        options = (
            ("grpc.ssl_target_name_override", AGGREGATOR_NAME),
            ("grpc.max_reconnect_backoff_ms", 100),
            ("grpc.initial_reconnect_backoff_ms", 50),
        )
        self.channel = grpc.secure_channel(address, credentials, options)
        self.stub: Any = RolloutServiceStub(self.channel)

    def begin(self) -> None:
        """Until it has been taken: asked again under the same id, it is one rollback."""
        request = ro.RollBackRequest(service="risk", version="v1", reason="p99", id="one")
        self._asked(lambda: self.stub.RollBack(request, timeout=5))

    def campaign(self) -> ro.Campaign | None:
        try:
            request = ro.RolloutsRequest(service="risk")
            found = list(self.stub.Rollouts(request, timeout=5).campaigns)
        except grpc.RpcError:
            return None
        assert len(found) <= 1
        return found[0] if found else None

    def _asked(self, ask: Any) -> None:
        end = CLOCK.now() + WITHIN_S
        while True:
            try:
                ask()
            except grpc.RpcError:
                if CLOCK.now() > end:
                    raise
                CLOCK.sleep(0.1)
            else:
                return


def play(folder: Path, *, nodes: int, at: tuple[int, ...], broken: frozenset[int]) -> Outcome:
    """The aggregator dies by SIGKILL as soon as so many nodes are done, one life after the other; a last one ends it."""
    found = Outcome()
    address = f"127.0.0.1:{free_port()}"
    config = folder / "aggregator.toml"
    config.write_text(
        f'[aggregator]\nlisten = "{address}"\nmetrics_listen = "none"\n'
        f'enrol_listen = "127.0.0.1:{free_port()}"\nstate_dir = "{folder / "state"}"\n'
        '[ingest]\ncommit_s = "20ms"\nmessages_per_s = 5000\nmessages_burst = 5000\n'
        f"[rollout]\nbatch_ratio = 0.34\nfailed_most = {len(broken)}\n"
    )
    authority = Authority.open(folder / "state" / "pki", "gpuwarden", CLOCK.wall())
    found.carriers = [
        Carrier(f"n{n}", authority, address, is_broken=n in broken) for n in range(nodes)
    ]
    desk = Desk(authority, address)
    process = started(config, folder / "aggregator.log")
    try:
        for each in found.carriers:
            each.start()
        _until(lambda: len(_known(desk)) == nodes, "every node is known to carry it")
        desk.begin()
        for so_many in at:
            _until(lambda: _done(found) >= so_many, f"{so_many} are done")  # noqa: B023
            process.send_signal(signal.SIGKILL)
            process.wait(READY_S)
            found.kills += 1
            found.killed_half_way += 0 < _done(found) < nodes - len(broken)
            process = started(config, folder / "aggregator.log")
            _until(lambda: desk.campaign() is not None, "the next one answers")
        _until(lambda: _state(desk) not in ("", "running"), "it is over")
        last = desk.campaign()
        assert last is not None
        found.state = last.state
        found.turns = {turn.node: turn.turn for turn in last.nodes}
    finally:
        process.kill()
        process.wait(READY_S)
        for each in found.carriers:
            each.stop()
        desk.channel.close()
    return found


def _done(found: Outcome) -> int:
    """Nodes that run the old version."""
    return sum(each.runs[-1] == "v1" for each in found.carriers)


def _known(desk: Desk) -> set[str]:
    """Who has told something and is heard now."""
    try:
        said = FleetQueryServiceStub(desk.channel).Nodes(pb.NodesRequest(), timeout=5)
    except grpc.RpcError:
        return set()
    return {each.node for each in said.nodes if each.is_connected}


def _state(desk: Desk) -> str:
    known = desk.campaign()
    return "" if known is None else known.state


def _until(is_so: Any, what: str) -> None:
    end = CLOCK.now() + WITHIN_S
    while not is_so():
        if CLOCK.now() > end:
            raise AssertionError(f"never came true: {what}")
        CLOCK.sleep(0.05)
