"""The uplink against a real aggregator: what happened on the node is known there, through every break."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from gpuwarden.adapters.command_queue import CommandQueue
from gpuwarden.adapters.fleet_door import FleetDoor
from gpuwarden.adapters.pki.files import OwnCertificate
from gpuwarden.adapters.pki.names import write_credentials
from gpuwarden.adapters.uplink import Uplink
from gpuwarden.adapters.uplink_news import EVENT_MAX_BYTES, News, fitted
from gpuwarden.adapters.uplink_spool import DiskSpool
from gpuwarden.clock import SystemClock
from gpuwarden.config_fleet import FleetConfig
from gpuwarden.errors import Unavailable
from gpuwarden.model.action import Kind, Withheld
from gpuwarden.model.audit import Audited
from gpuwarden.model.command import Answer, Verb
from gpuwarden.model.decision import IncidentStep
from gpuwarden.model.fleet import Role
from gpuwarden.model.ids import DeviceId, IncidentId
from gpuwarden.model.status import View
from gpuwarden.node.fleet_desk import NodeFleetDesk
from gpuwarden.policy.fleet.rights import AT_A_NODE, may
from gpuwarden.wire.v1 import fleet_pb2 as pb
from tests.adapters.view_board import Board
from tests.aggregator.centre import Centre
from tests.sample_view import incident, open_incident, view

WAIT_S = 20.0


def eventually(is_so: Callable[[], object], what: str) -> None:
    """Wait for something that has to come."""
    waited = threading.Event()
    for _ in range(int(WAIT_S / 0.05)):
        if is_so():
            return
        waited.wait(0.05)
    raise AssertionError(f"not within {WAIT_S:g} s: {what}")


class NoAudit:
    """Nothing is asked at the node's own door here."""

    def audit(self, entry: Audited) -> None:
        raise AssertionError(entry)


class Node:
    """A node's part in a fleet over a board that the test fills."""

    def __init__(
        self,
        centre: Centre,
        folder: Path,
        name: str = "n1",
        others: tuple[str, ...] = (),
        *,
        via: str = "",
        **settings: object,
    ) -> None:
        """``via``: an address that leads to the aggregator, instead of its own."""
        addresses = (via or centre.address, *others)
        write_credentials(folder, centre.credentials(Role.NODE, name, names=(name,)))
        clock = SystemClock()
        self.certificate = OwnCertificate(folder, addresses, ("/bin/false",))
        self.board = Board()
        self.obeyed: list[tuple[Verb, str]] = []
        cfg = FleetConfig.model_validate(
            {"aggregator": addresses, "sample_every_s": 0.2, "batch_s": 0.2, **settings}
        )
        self.door = FleetDoor(
            "127.0.0.1:0",
            self.board,
            self.certificate,
            clock,
            lambda method, who: may(AT_A_NODE, method, who),
            CommandQueue(NoAudit(), clock),
        )
        cfg = cfg.model_copy(update={"listen": f"127.0.0.1:{self.door.port}"})
        self.spool = DiskSpool(folder / "spool.sqlite", cfg.spool_max_bytes)
        self.desk = NodeFleetDesk(cfg, clock, name, "1.0", self._obey)
        self.uplink = Uplink(cfg, self.board, self.desk, self.spool, self.certificate, clock)
        self._serial = 0

    def _obey(self, verb: Verb, subject: str, reason: str, uid: int, timeout_s: float) -> Answer:
        self.obeyed.append((verb, subject))
        return Answer(command=1, is_done=True, text=f"{subject} is {verb}ed")

    def show(self, picture: View) -> None:
        self._serial += 1
        self.board.publish(replace(picture, serial=self._serial))

    def start(self) -> None:
        self.desk.start()
        self.door.start()
        self.uplink.start()

    def close(self) -> None:
        self.door.stop(0.1)
        self.uplink.close()
        self.desk.close()
        self.spool.close()


@contextmanager
def running(centre: Centre, folder: Path, picture: View | None = None) -> Iterator[Node]:
    node = Node(centre, folder)
    try:
        node.start()
        node.show(picture or view())
        yield node
    finally:
        node.close()


@pytest.fixture
def centre(tmp_path: Path) -> Iterator[Centre]:
    with Centre(tmp_path / "centre") as serving:
        yield serving


def ids(centre: Centre) -> set[str]:
    return {each.id for each in centre.parts.store.incidents_named("n1", "", 100)}


def test_incidents_and_state_arrive(centre: Centre, tmp_path: Path) -> None:
    picture = view()
    with running(centre, tmp_path / "n1", picture) as node:
        eventually(lambda: ids(centre) == {i.id for i in picture.incidents}, "the incidents")
        eventually(lambda: node.spool.waiting == 0, "all acknowledged")
        (standing,) = _nodes(centre, with_sample=True)
        assert len(standing.sample.devices) == len(picture.snapshot.devices)
        assert standing.boot_id == picture.snapshot.boot_id


def _nodes(centre: Centre, *, with_sample: bool = False) -> list[pb.FleetNode]:
    query = centre.query()

    def said() -> list[pb.FleetNode]:
        return [n for n in query.Nodes(pb.NodesRequest(with_sample=with_sample)).nodes if n.devices]

    eventually(said, "a node that has reported")
    return said()


def test_what_happened_while_the_aggregator_was_away_is_told_later(tmp_path: Path) -> None:
    with Centre(tmp_path / "centre") as first:
        port = first.address
        with running(first, tmp_path / "n1") as node:
            eventually(lambda: node.spool.waiting == 0 and node.uplink.connects, "first contact")
            first.stop()
            eventually(lambda: node.uplink.fault, "the break to be seen")
            late = replace(incident(), id=IncidentId("inc-late"))
            node.show(replace(view(), incidents=(late, *view().incidents)))
            eventually(lambda: node.spool.waiting, "the event on disk")
            with Centre(tmp_path / "centre", aggregator={"listen": port}) as second:
                eventually(lambda: "inc-late" in ids(second), "the late incident")
                eventually(lambda: node.spool.waiting == 0, "all acknowledged")


def test_where_one_aggregator_does_not_answer_the_next_is_tried(
    centre: Centre, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        dead = f"127.0.0.1:{held.getsockname()[1]}"
    for folder, name in (("a", "n1"), ("b", "n2"), ("c", "n3")):  # whichever they begin with
        node = Node(centre, tmp_path / folder, name, others=(dead,))
        try:
            node.start()
            node.show(view())
            eventually(lambda n=node: n.uplink.connects == 1, "connected")  # type: ignore[misc]
            assert node.uplink.fault == ""
        finally:
            node.close()


def test_leave_that_is_wanted_comes(centre: Centre, tmp_path: Path) -> None:
    held = Withheld(
        kind=Kind.CORDON,
        incident=open_incident().id,
        tenant=None,
        device=DeviceId("GPU-0"),
        budget="permit",
        detail="no permit",
    )
    fresh = replace(open_incident(), opened_at=view().at, noticed_at=view().at)
    picture = replace(view(), withheld=(held,), incidents=(fresh,))
    with running(centre, tmp_path / "n1", picture) as node:
        clock = SystemClock()
        eventually(lambda: node.desk.leave(clock.now()).permits, "the permit")
        assert node.desk.leave(clock.now()).permits == (("cordon", "GPU-0"),)


def test_an_order_goes_out_and_its_answer_comes_back(centre: Centre, tmp_path: Path) -> None:
    with running(centre, tmp_path / "n1") as node:
        _nodes(centre)
        query = centre.query(Role.OPERATOR)
        order = pb.OrderRequest(node="n1", verb="cordon", subject="0", reason="why", id="one")
        assert query.Order(order, timeout=WAIT_S).text == "0 is cordoned"
        assert query.Order(order, timeout=WAIT_S).text == "0 is cordoned"  # the same order
        assert node.obeyed == [(Verb.CORDON, "0")]
        lines = centre.parts.store.audit_lines(0, 10)
        assert [(line.who, line.what) for line in lines] == [("somebody (operator)", "cordon")]


def test_the_aggregator_asks_the_node_itself(centre: Centre, tmp_path: Path) -> None:
    with running(centre, tmp_path / "n1"):
        _nodes(centre)
        query = centre.query(Role.VIEWER)
        request = pb.QueryRequest(question=pb.QUESTION_SNAPSHOT, nodes=["n1", "n9"])
        said = query.Query(request, timeout=WAIT_S)
        assert [(a.node, bool(a.view.snapshot.devices)) for a in said.answers] == [
            ("n1", True),
            ("n9", False),
        ]
        assert list(said.unanswered) == ["n9"]
        wanted = view().incidents[0].id
        eventually(lambda: wanted in ids(centre), "the incident")
        explained = query.FleetExplain(pb.FleetExplainRequest(incident=wanted), timeout=WAIT_S)
        assert (explained.node, explained.not_fresh) == ("n1", "")
        assert explained.explained.incident.id == wanted


def test_a_node_that_is_gone_is_explained_from_what_it_told(centre: Centre, tmp_path: Path) -> None:
    wanted = view().incidents[0].id
    with running(centre, tmp_path / "n1"):
        _nodes(centre)
        eventually(lambda: wanted in ids(centre), "the incident")
    explained = centre.query().FleetExplain(
        pb.FleetExplainRequest(incident="last", node="n1", deadline_s=1), timeout=WAIT_S
    )
    assert explained.not_fresh
    assert explained.explained.incident.id in {i.id for i in view().incidents}


def test_only_the_aggregator_may_ask_a_node(centre: Centre, tmp_path: Path) -> None:
    import grpc

    with running(centre, tmp_path / "n1") as node:
        for role in set(Role) - {Role.AGGREGATOR}:
            own = centre.credentials(role, "somebody")
            credentials = grpc.ssl_channel_credentials(
                own.authorities_pem, own.key_pem, own.certificate_pem
            )
            address = f"127.0.0.1:{node.door.port}"
            options = (("grpc.ssl_target_name_override", "n1"),)
            with grpc.secure_channel(address, credentials, options) as channel:
                call = channel.unary_unary("/gpuwarden.wire.v1.NodeService/Snapshot", bytes, bytes)
                with pytest.raises(grpc.RpcError) as caught:
                    call(b"", timeout=10)
                assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


def test_without_an_identity_it_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="gpuwarden enroll"):
        OwnCertificate(tmp_path, ["127.0.0.1:1"])


def test_news_are_told_once_and_growth_now_and_then() -> None:
    news, now = News(), open_incident()
    first = replace(view(), incidents=(now,), outcomes=())
    assert [e.incident.id for e in news.of(first)] == [now.id]
    assert list(news.of(replace(first, at=first.at + 1))) == []
    grown = replace(now, points=(*now.points, (first.at + 1, 5)))
    assert list(news.of(replace(first, at=first.at + 1, incidents=(grown,)))) == []
    assert len(list(news.of(replace(first, at=first.at + 6, incidents=(grown,))))) == 1
    step = IncidentStep(at=first.at, wall=0.0, kind="rung", text="on")
    more = replace(grown, steps=(*grown.steps, step))
    assert len(list(news.of(replace(first, at=first.at + 6.1, incidents=(more,))))) == 1


def test_outcomes_are_told_once() -> None:
    news, picture = News(), view()
    kinds = [e.WhichOneof("body") for e in news.of(picture)]
    assert kinds.count("outcome") == len(picture.outcomes) > 0
    assert list(news.of(replace(picture, at=picture.at + 1))) == []


def test_a_long_incident_is_cut_to_fit() -> None:
    step = IncidentStep(at=1.0, wall=0.0, kind="rung", text="x" * 400)
    long = replace(incident(), steps=(step,) * 2000, points=((1.0, 2),) * 3000)
    (event,) = (e for e in News().of(replace(view(), incidents=(long,), outcomes=())))
    assert event.ByteSize() <= EVENT_MAX_BYTES
    assert event.incident.id == incident().id
    assert fitted(pb.FleetEvent(note="x")).note == "x"
