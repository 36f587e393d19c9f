"""A freeze at a running aggregator: shown, lifted by an operator's word alone, on record; and who is out after a restart."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from gpuwarden.aggregator.store import Entry, Store
from gpuwarden.aggregator.store_postgres import PostgresStore
from gpuwarden.aggregator.store_sqlite import SqliteStore
from gpuwarden.model.fleet import Greeting, Role
from gpuwarden.wire.v1 import fleet_pb2 as pb
from gpuwarden.wire.v1 import node_pb2 as node
from tests.adapters.test_uplink import eventually
from tests.aggregator.centre import Centre, Line, sample
from tests.aggregator.databases import database
from tests.policy.fleet_builders import report

ILL = node.SEVERITY_CRITICAL


def ill(sequence: int = 1) -> pb.Sample:
    finding = pb.FindingSample(rule="fault", key="f", severity=ILL, summary="Xid 79")
    return sample(sequence, findings=[finding])


@contextmanager
def frozen(folder: Path) -> Iterator[tuple[Centre, list[Line]]]:
    with Centre(folder) as centre:
        lines = [centre.line(f"n{number}") for number in range(4)]
        for line in lines:
            line.batch(samples=[ill()])
        eventually(lambda: bool(status(centre).permits_frozen), "frozen")
        yield centre, lines
        for line in lines:
            line.close()


def status(centre: Centre) -> pb.StatusResponse:
    said: pb.StatusResponse = centre.query().Status(pb.StatusRequest(), timeout=20)
    return said


def refused(call: Any, request: object) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as caught:
        call(request, timeout=20)
    return caught.value


def test_it_is_shown_and_an_operators_word_lifts_it_and_is_on_record(tmp_path: Path) -> None:
    with frozen(tmp_path / "centre") as (centre, _):
        eventually(lambda: "4 of 4 sick" in "".join(status(centre).freezes), "all four")
        wish = pb.ThawRequest(group="default", reason="a bad kernel message", for_s=120)
        operator = centre.query(Role.OPERATOR)
        assert operator.Thaw(wish, timeout=20).for_s == 120
        eventually(lambda: not status(centre).permits_frozen, "lifted")
        (line,) = status(centre).freezes
        assert "a bad kernel message" in line
        audit = centre.parts.store.audit_lines(0, 100)
        assert [each.detail for each in audit if each.what == "thaw"] == [
            "group default for 120 s: a bad kernel message"
        ]


@pytest.mark.parametrize(
    ("wish", "why"),
    [
        (pb.ThawRequest(group="default"), "reason: missing"),
        (pb.ThawRequest(group="other", reason="x"), "group other is not frozen"),
        (pb.ThawRequest(group="default", reason="x", for_s=float("nan")), "for_s"),
        (pb.ThawRequest(group="x" * 65, reason="x"), "group"),
    ],
)
def test_security_what_is_no_word_lifts_nothing(
    tmp_path: Path, wish: pb.ThawRequest, why: str
) -> None:
    with frozen(tmp_path / "centre") as (centre, _):
        error = refused(centre.query().Thaw, wish)
        assert why in (error.details() or "")
        assert status(centre).permits_frozen
        error = refused(centre.query(Role.VIEWER).Thaw, pb.ThawRequest(group="default", reason="x"))
        assert error.code() is grpc.StatusCode.PERMISSION_DENIED


def test_after_a_restart_a_cordoned_node_that_is_not_heard_is_still_out(tmp_path: Path) -> None:
    with Centre(tmp_path / "centre") as centre:
        line = centre.line("n0")
        line.batch(samples=[sample(is_cordoned=True)])
        store = centre.parts.store
        eventually(lambda: store.out_of_use() == {"n0"}, "kept")
        line.close()
    with Centre(tmp_path / "centre") as centre:
        memory = centre.parts.fleet._memory
        assert memory.nodes["n0"].is_out


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "sqlite":
        store: Store = SqliteStore(tmp_path / "fleet.sqlite")
        yield store
        store.close()
        return
    with database() as url:
        store = PostgresStore(url, "a", tmp_path)
        yield store
        store.close()


def test_who_is_out_of_use_is_kept_with_the_state(opened: Store) -> None:
    words: dict[str, Callable[[], object]] = {
        "whole": lambda: report(is_cordoned=True),
        "all": lambda: report(cordoned=8),
        "some": lambda: report(cordoned=7),
        "blind": lambda: report(is_cordoned=True, devices=0),
        "none": report,
        "nothing": lambda: report(devices=0),
    }
    with opened.transaction():
        for name, make in words.items():
            opened.greet(Greeting(node=name, boot_id="b", log_id="l"), 1.0)
            told: Any = make()
            opened.put([Entry(node=name, log_id="l", wall=1.0, report=told, stream=1)])
    assert opened.out_of_use() == {"whole", "all", "blind"}
