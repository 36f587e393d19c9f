"""Case 43: a node that was taken over is kept out at once, by name, whatever certificate it shows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from gpuwarden.adapters.pki import joining
from gpuwarden.adapters.pki.names import read_credentials
from gpuwarden.aggregator.join import parts_of
from gpuwarden.aggregator.store import Store
from gpuwarden.aggregator.store_postgres import PostgresStore
from gpuwarden.aggregator.store_sqlite import SqliteStore
from gpuwarden.errors import Refused
from gpuwarden.model.fleet import Role
from gpuwarden.wire.v1 import fleet_pb2 as pb
from tests.adapters.test_uplink import eventually
from tests.aggregator.centre import Centre, event, sample
from tests.aggregator.databases import database

DENIED = grpc.StatusCode.PERMISSION_DENIED


@pytest.fixture
def centre(tmp_path: Path) -> Iterator[Centre]:
    with Centre(tmp_path / "centre") as serving:
        yield serving


def deny(centre: Centre, name: str = "n1", reason: str = "its key was stolen") -> None:
    centre.query().Deny(pb.DenyRequest(node=name, reason=reason), timeout=20)


def refused(call: Any, request: object) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as caught:
        call(request, timeout=20)
    return caught.value


def test_case_43_its_stream_ends_and_it_gets_no_other(centre: Centre) -> None:
    bad, other = centre.line("n1"), centre.line("n2")
    for each in (bad, other):
        each.batch(samples=[sample()], events=[event(1)])
        each.until_acked(1)
    deny(centre)
    assert bad.ended() is DENIED
    assert centre.line("n1").ended() is DENIED, "nor with a new certificate of that name"
    other.batch(samples=[sample(2)], events=[event(2)])
    other.until_acked(2)
    other.close()


def test_case_43_it_can_neither_renew_nor_be_invited_nor_join(
    centre: Centre, tmp_path: Path
) -> None:
    join: str = centre.query().Invite(pb.InviteRequest(node="n1", ttl_s=60.0)).join
    token, root = parts_of(join)
    joining.enrol(centre.door, token, root, "n1", tmp_path / "n1", 10.0)
    second, _ = parts_of(centre.query().Invite(pb.InviteRequest(node="n1", ttl_s=60.0)).join)
    deny(centre)
    with pytest.raises(Refused, match="n1 is denied: its key was stolen"):
        joining.renew(centre.address, tmp_path / "n1", 10.0)
    error = refused(centre.query().Invite, pb.InviteRequest(node="n1", ttl_s=60.0))
    assert "gpuwarden fleet allow n1 comes first" in (error.details() or "")
    with pytest.raises(Refused):
        joining.enrol(centre.door, second, root, "n1", tmp_path / "again", 10.0)
    centre.query().Allow(pb.AllowRequest(node="n1"), timeout=20)
    joining.enrol(centre.door, second, root, "n1", tmp_path / "again", 10.0)
    assert read_credentials(tmp_path / "again").identity.name == "n1"


def test_it_is_on_record_and_outlives_a_restart(tmp_path: Path) -> None:
    with Centre(tmp_path / "centre") as first:
        deny(first)
        said = [(a.what, a.detail) for a in first.parts.store.audit_lines(0, 100)]
        assert ("deny", "n1: its key was stolen") in said
    with Centre(tmp_path / "centre") as second:
        assert second.line("n1").ended() is DENIED
        second.query().Allow(pb.AllowRequest(node="n1"), timeout=20)
        line = second.line("n1")
        line.batch(samples=[sample()], events=[event(1)])
        line.until_acked(1)
        line.close()
        error = refused(second.query().Allow, pb.AllowRequest(node="n1"))
        assert "n1 is not denied" in (error.details() or "")


@pytest.mark.parametrize(
    "request_", [pb.DenyRequest(node="n1"), pb.DenyRequest(node="../x", reason="r")]
)
def test_who_and_why_have_to_be_said(centre: Centre, request_: pb.DenyRequest) -> None:
    assert refused(centre.query().Deny, request_).code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("role", [Role.VIEWER, Role.OPERATOR, Role.NODE])
def test_nobody_but_an_administrator_may(centre: Centre, role: Role) -> None:
    query = centre.query(role)
    assert refused(query.Deny, pb.DenyRequest(node="n1", reason="r")).code() is DENIED
    assert refused(query.Allow, pb.AllowRequest(node="n1")).code() is DENIED


def test_what_another_aggregator_has_denied_counts_here(centre: Centre) -> None:
    line = centre.line("n1")
    line.next()
    centre.parts.committer.do(lambda store: store.deny("n1", 1.0, "bob", "seen twice")).result(10)
    assert line.ended() is DENIED
    eventually(lambda: centre.parts.denials.why("n1") == "seen twice", "the reason")


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Store]]:
    """Opens the same store each time it is called."""
    if request.param == "sqlite":
        yield lambda: SqliteStore(tmp_path / "x.sqlite")
        return
    with database() as url:
        yield lambda: PostgresStore(url)


def test_in_every_store_the_newest_reason_stands(reopen: Callable[[], Store]) -> None:
    store = reopen()
    with store.transaction():
        store.deny("n1", 1.0, "bob", "a")
        store.deny("n1", 2.0, "bob", "b")
        store.deny("n2", 2.0, "bob", "c")
        assert store.allow("n2")
        assert not store.allow("n3")
    store.close()
    again = reopen()
    assert again.denials() == {"n1": "b"}
    again.close()
