"""What a node tells of its tenants and its policy, and what the centre makes of that."""

from __future__ import annotations

from dataclasses import replace

from gpuwarden.model.ids import TenantId
from gpuwarden.model.policy import PolicyRefusal, PolicyReport
from gpuwarden.model.tenant import TenantClass
from gpuwarden.wire import convert_fleet
from gpuwarden.wire.convert_fleet_node import WHO_BYTES, to_sample
from gpuwarden.wire.convert_policy import from_policy_report, to_policy_report
from gpuwarden.wire.convert_policy_query import holding_of
from gpuwarden.wire.v1 import fleet_pb2 as pb
from gpuwarden.wire.v1 import node_pb2 as node
from tests.sample_view import view


def test_a_report_is_read_back() -> None:
    refusal = PolicyRefusal(version=8, why="not valid here", wall=1.7e9)
    report = PolicyReport(
        version=7, digest="ab", not_after_wall=1.8e9, is_expired=True, refusals=(refusal,)
    )
    assert from_policy_report(to_policy_report(report)) == report


def test_more_refusals_than_fit_are_the_newest() -> None:
    many = tuple(PolicyRefusal(version=n, why="x" * 999, wall=0.0) for n in range(20))
    said = from_policy_report(to_policy_report(PolicyReport(refusals=many)))
    assert [each.version for each in said.refusals] == list(range(12, 20))


def test_tenants_are_told_with_what_a_policy_may_match() -> None:
    picture = view()
    sample = to_sample(picture, 1, 0)
    convert_fleet.check_shown(sample)
    assert sample.withheld_actions == len(picture.withheld)
    (holding,) = [holding_of("n1", "g", sample.mode, sample)]
    used = {use.tenant for use in picture.snapshot.uses}
    by_id = {tenant.id: tenant for tenant in picture.snapshot.tenants if tenant.id in used}
    assert {held.tenant for held in holding.held} == set(by_id)
    for held in holding.held:
        tenant = by_id[TenantId(held.tenant)]
        facts = dict(held.facts)
        assert (held.tenant_class, held.hard_bytes) == (tenant.cls, tenant.hard_bytes)
        assert (facts["name"], facts["runtime"]) == (tenant.name, tenant.runtime)
        assert facts.get("image") == dict(tenant.identity).get("image")


def test_who_many_tenants_are_takes_only_its_share_of_a_message() -> None:
    picture = view()
    base, use = picture.snapshot.tenants[0], picture.snapshot.uses[0]
    long = tuple((name, "x" * 200) for name in ("image", "user", "account", "unit", "command"))
    tenants = tuple(replace(base, id=TenantId(f"t{n}"), identity=long) for n in range(64))
    uses = tuple(replace(use, tenant=tenant.id) for tenant in tenants)
    snapshot = replace(picture.snapshot, tenants=tenants, uses=uses)
    sample = to_sample(replace(picture, snapshot=snapshot), 1, 0)
    told = [each for each in sample.tenants if each.image]
    assert 0 < len(told) < len(sample.tenants) == 64
    assert sum(len(t.image + t.user + t.account + t.unit + t.command) for t in told) < WHO_BYTES


def test_a_tenant_whose_class_is_not_known_is_left_out() -> None:
    sample = pb.Sample(devices=[pb.DeviceSample(index=0)], tenants=[pb.TenantSample(tenant="t")])
    assert holding_of("n1", "g", "observe", sample).held == ()
    sample.tenants[0].tenant_class = node.TENANT_CLASS_HIGH
    assert holding_of("n1", "g", "observe", sample).held[0].tenant_class is TenantClass.HIGH
