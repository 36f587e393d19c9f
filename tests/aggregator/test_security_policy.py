"""Policies at a real aggregator: whose signature counts, what may be published, who is given it and who is not."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from gpuwarden.model.fleet import Role
from gpuwarden.wire.v1 import fleet_pb2 as pb
from gpuwarden.wire.v1 import node_pb2 as node
from gpuwarden.wire.v1 import policy_pb2 as policy
from gpuwarden.wire.v1.policy_pb2_grpc import PolicyServiceStub
from tests.aggregator.centre import WAIT_S, Centre, Line, sample
from tests.aggregator.pairs import pair
from tests.policy_bundles import DAY_S, SETTINGS, Signer

GOOD, EVIL = Signer(), Signer()
Code = grpc.StatusCode
GIB = 2**30


def valid(version: int = 1, settings: str = SETTINGS, **more: object) -> bytes:
    now = float(int(time.time()))
    times: dict[str, object] = {"issued_wall": now, "not_after_wall": now + DAY_S}
    return GOOD.bundle(version, settings, **{**times, **more})


@pytest.fixture
def centre(tmp_path: Path) -> Iterator[Centre]:
    keys = {"keys": [GOOD.public], "soak_s": 3600.0}
    with Centre(tmp_path, policy=keys) as serving:
        yield serving


def desk(centre: Centre, role: Role = Role.ADMIN) -> Any:
    return PolicyServiceStub(centre.channel(centre.credentials(role, "somebody")))


def publish(centre: Centre, bundle: bytes, **more: Any) -> int:
    request = policy.PublishPolicyRequest(bundle=bundle, **more)
    version: int = desk(centre).PublishPolicy(request, timeout=WAIT_S).version
    return version


def refused(call: Callable[..., Any], request: object) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call(request, timeout=WAIT_S)
    return caught.value.code(), caught.value.details() or ""


def policies(centre: Centre) -> policy.PoliciesResponse:
    said: policy.PoliciesResponse = desk(centre, Role.VIEWER).Policies(
        policy.PoliciesRequest(), timeout=WAIT_S
    )
    return said


def eventually(is_so: Callable[[], object], what: str) -> Any:
    waited = threading.Event()
    for _ in range(int(WAIT_S / 0.05)):
        if answer := is_so():
            return answer
        waited.wait(0.05)
    raise AssertionError(f"not within {WAIT_S:g} s: {what}")


def given(line: Line) -> pb.Directive:
    """The next policy that this node is sent."""
    while True:
        directive = line.next().directive
        if directive.policy:
            return directive


def test_what_was_signed_reaches_the_node_and_its_answer_is_seen(centre: Centre) -> None:
    line = centre.line("n1")
    bundle = valid(3)
    assert publish(centre, bundle) == 3
    directive = given(line)
    assert (directive.policy_version, directive.policy) == (3, bundle)
    assert policies(centre).drifted[0].state == "behind"
    line.batch(policy=pb.PolicyReport(version=3))
    eventually(lambda: policies(centre).policies[0].applied == 1, "the acknowledgement")
    assert not policies(centre).drifted
    (audited,) = centre.parts.store.audit_lines(0, 10)
    assert (audited.who, audited.what) == ("somebody (admin)", "policy publish")
    line.close()


BAD: dict[str, tuple[Callable[[], bytes], str]] = {
    "forged": (lambda: EVIL.bundle(9), "not pinned"),
    "changed": (lambda: valid(9).replace(b"8GiB", b"9GiB"), "the signature is not"),
    "truncated": (lambda: valid(9)[:-1], "the signature is not"),
    "oversized": (lambda: valid(9) + b"#" * 140_000, "at most"),
    "nothing": (lambda: b"", "not a signed policy"),
    "replayed": (lambda: valid(5, note="other"), "not after 5"),
    "older": (lambda: valid(4), "not after 5"),
    "of another fleet": (lambda: valid(9, fleet="elsewhere"), "the fleet elsewhere"),
    "run out": (lambda: GOOD.bundle(9), "run out already"),
    "not valid": (lambda: valid(9, "[quota]\nx = 1"), "unknown key"),
    "beyond its rights": (lambda: valid(9, '[agent]\nrun_dir = "/tmp"'), "not for a fleet"),
}


@pytest.mark.parametrize("name", BAD)
def test_case_33_what_may_not_be_published(centre: Centre, name: str) -> None:
    publish(centre, valid(5))
    bundle, why = BAD[name]
    request = policy.PublishPolicyRequest(bundle=bundle(), is_confirmed=True)
    code, said = refused(desk(centre).PublishPolicy, request)
    assert code is Code.INVALID_ARGUMENT
    assert why in said
    assert [each.version for each in policies(centre).policies] == [5]


def test_without_keys_nothing_can_be_published(tmp_path: Path) -> None:
    with Centre(tmp_path) as centre:
        request = policy.PublishPolicyRequest(bundle=valid(1))
        assert "no public key" in refused(desk(centre).PublishPolicy, request)[1]


def test_a_store_that_was_written_to_makes_no_policy(tmp_path: Path) -> None:
    keys = {"keys": [GOOD.public]}
    with Centre(tmp_path, policy=keys) as centre:
        publish(centre, valid(1))
    import sqlite3

    with sqlite3.connect(tmp_path / "fleet.sqlite") as db:
        rollout = db.execute("SELECT rollout FROM policy").fetchone()[0].replace(": 1,", ": 2,", 1)
        db.execute("INSERT INTO policy VALUES (2, 0, 'x', ?, 0, ?)", (rollout, EVIL.bundle(2)))
    with Centre(tmp_path, policy=keys) as centre:
        line = centre.line("n1")
        assert given(line).policy_version == 1
        assert [each.version for each in policies(centre).policies] == [1]
        line.close()


def test_a_node_of_another_group_is_not_sent_it(centre: Centre) -> None:
    batch, real = centre.line("n1", group="batch-1"), centre.line("n2", group="realtime")
    publish(centre, valid(1, groups=("batch-*",)))
    publish(centre, valid(2, groups=("realtime",)))
    assert given(batch).policy_version == 1
    assert given(real).policy_version == 2
    batch.close()
    real.close()


def test_a_node_that_was_away_is_given_it_when_it_comes(centre: Centre) -> None:
    publish(centre, valid(1))
    line = centre.line("n1", policy=pb.PolicyReport(version=0))
    assert given(line).policy_version == 1
    line.close()
    up_to_date = centre.line("n2", policy=pb.PolicyReport(version=1))
    eventually(lambda: policies(centre).policies[0].applied == 1, "n2 has it")
    assert not any(d.policy for d in up_to_date.directives)
    up_to_date.close()


def test_what_a_node_refuses_is_listed_and_halts_the_roll_out(centre: Centre) -> None:
    line = centre.line("n1")
    publish(centre, valid(1))
    given(line)
    refusal = pb.PolicyRefusal(version=1, why="not valid here", wall=1.7e9)
    line.batch(policy=pb.PolicyReport(refusals=[refusal]))
    eventually(lambda: policies(centre).policies[0].state == "halted", "the halt")
    eventually(lambda: policies(centre).drifted[0].state == "refused", "what the node said of it")
    said = policies(centre)
    assert "not valid here" in said.policies[0].why
    assert (said.drifted[0].state, said.drifted[0].why) == ("refused", "not valid here")
    status = centre.query().Status(pb.StatusRequest(), timeout=WAIT_S)
    assert "policy halted" in eventually(
        lambda: [f.key for f in centre.query().Status(pb.StatusRequest()).findings], str(status)
    )
    line.close()


@pytest.mark.parametrize(
    "report",
    [
        pb.PolicyReport(version=2**60),
        pb.PolicyReport(digest="x" * 65),
        pb.PolicyReport(not_after_wall=float("nan")),
        pb.PolicyReport(refusals=[pb.PolicyRefusal()] * 9),
        pb.PolicyReport(refusals=[pb.PolicyRefusal(why="x" * 500)]),
    ],
)
def test_what_no_node_would_say_of_its_policy_is_refused(
    centre: Centre, report: pb.PolicyReport
) -> None:
    assert centre.line("n1", policy=report).ended() is Code.INVALID_ARGUMENT
    line = centre.line("n2")
    for _ in range(3):
        line.batch(policy=report)
    assert line.ended() is Code.INVALID_ARGUMENT


def told(
    centre: Centre, name: str, cls: node.TenantClass.ValueType, used: int, **more: Any
) -> Line:
    """A node with one tenant that its aggregator has heard of."""
    line = centre.line(name)
    tenant = pb.TenantSample(
        tenant="t1", name="risk", tenant_class=cls, used_bytes=used, image="risk:1", **more
    )
    line.batch(samples=[sample(tenants=[tenant])])
    eventually(lambda: centre.parts.ingest.shown(name), "the sample")
    eventually(
        lambda: any(n.greeting.node == name for n in centre.parts.fleet.view.nodes), "the node"
    )
    return line


def test_case_31_who_touches_protected_tenants_has_to_say_so_twice(centre: Centre) -> None:
    line = told(centre, "n1", node.TENANT_CLASS_PROTECTED, 6 * GIB, hard_bytes=8 * GIB)
    bundle = valid(1, '[[tenant]]\nmatch = {image = "risk*"}\nclass = "low"\nmemory = "4GiB"\n')
    seen = desk(centre, Role.OPERATOR).PreviewPolicy(policy.PreviewPolicyRequest(bundle=bundle))
    (touch,) = seen.touches
    assert (touch.node, touch.name, touch.is_protected, touch.is_evictable) == (
        *("n1", "risk"),
        *(True, True),
    )
    assert "quota 8.0 GiB -> 4.0 GiB" in touch.reasons
    code, why = refused(desk(centre).PublishPolicy, policy.PublishPolicyRequest(bundle=bundle))
    assert (code, "protected tenants: risk on n1" in why) == (Code.FAILED_PRECONDITION, True)
    assert not policies(centre).policies
    assert publish(centre, bundle, is_confirmed=True) == 1
    line.close()


def test_a_file_that_is_not_signed_yet_can_be_tried_out(centre: Centre) -> None:
    line = told(centre, "n1", node.TENANT_CLASS_LOW, GIB)
    request = policy.PreviewPolicyRequest(settings=SETTINGS.encode())
    seen = desk(centre).PreviewPolicy(request)
    assert [(each.path, each.after) for each in seen.changes] == [("default.memory", '"8GiB"')]
    assert (len(seen.touches), seen.nodes, seen.must_confirm) == (1, 1, "")
    line.close()


def test_going_back_says_what_was_said_before_and_nothing_else(centre: Centre) -> None:
    publish(centre, valid(1))
    publish(centre, valid(2, SETTINGS.replace("8", "9")))
    going_back = desk(centre, Role.OPERATOR).RollBackPolicy
    for bundle, why in (
        (valid(3, SETTINGS.replace("8", "9"), restores=1), "does not say what policy 1 said"),
        (valid(3, groups=("x",), restores=1), "does not say what policy 1 said"),
        (valid(3), "policy 0, which is not known"),
    ):
        assert why in refused(going_back, policy.RollBackPolicyRequest(bundle=bundle))[1]
    back = policy.RollBackPolicyRequest(bundle=valid(3, restores=1))
    assert going_back(back, timeout=WAIT_S).version == 3
    line = centre.line("n1", policy=pb.PolicyReport(version=2))
    assert given(line).policy_version == 3
    line.close()


def test_halted_by_hand_and_resumed_and_both_are_on_record(centre: Centre) -> None:
    publish(centre, valid(1), stages=[policy.RolloutStage(groups=["first"], percent=100)])
    first, second = centre.line("n1", group="first"), centre.line("n2")
    assert given(first).policy_version == 1
    steer = desk(centre, Role.OPERATOR).SteerRollout
    halt = policy.SteerRolloutRequest(is_halt=True, reason="look first")
    assert steer(halt, timeout=WAIT_S).state == "halted"
    assert policies(centre).policies[0].why == "look first"
    assert "is halted" in refused(steer, halt)[1]
    assert steer(policy.SteerRolloutRequest(version=1), timeout=WAIT_S).state == "running"
    assert "no policy 9" in refused(steer, policy.SteerRolloutRequest(version=9))[1]
    whats = [line.what for line in centre.parts.store.audit_lines(0, 10)]
    assert whats == ["policy publish", "rollout halted", "rollout running"]
    assert not any(d.policy for d in second.directives)
    first.close()
    second.close()


def test_stages_come_one_after_the_other_and_a_newer_policy_ends_them(tmp_path: Path) -> None:
    keys = {"keys": [GOOD.public]}
    with Centre(tmp_path, policy=keys) as centre:
        first, second = centre.line("n1", group="first"), centre.line("n2", group="second")
        stages = [policy.RolloutStage(groups=["first"], percent=100)]
        publish(centre, valid(1), stages=stages, soak_s=0.1)
        given(first)
        assert policies(centre).policies[0].stages == 2
        first.batch(policy=pb.PolicyReport(version=1))
        assert given(second).policy_version == 1
        publish(centre, valid(2))
        assert [each.state for each in policies(centre).policies] == ["running", "superseded"]
        assert given(second).policy_version == 2
        first.close()
        second.close()


@pytest.mark.parametrize(
    ("stages", "why"),
    [
        ([policy.RolloutStage(percent=0)], "percent"),
        ([policy.RolloutStage(percent=101)], "percent"),
        ([policy.RolloutStage(percent=1)] * 21, "stages"),
        ([policy.RolloutStage(percent=1, groups=["x"] * 65)], "groups"),
    ],
)
def test_stages_are_checked(centre: Centre, stages: list[Any], why: str) -> None:
    request = policy.PublishPolicyRequest(bundle=valid(1), stages=stages)
    code, said = refused(desk(centre).PublishPolicy, request)
    assert (code, why in said) == (Code.INVALID_ARGUMENT, True)


@pytest.mark.postgres
def test_two_aggregators_on_one_database_each_give_it_to_their_own_nodes(tmp_path: Path) -> None:
    keys = {"keys": [GOOD.public], "soak_s": 3600.0}
    with pair(tmp_path, policy=keys) as (a, b, _):
        here, there = a.line("n1"), b.line("n2")
        publish(a, valid(1))
        assert given(here).policy_version == 1
        assert given(there).policy_version == 1
        halt = policy.SteerRolloutRequest(is_halt=True, reason="by the other")
        assert desk(b).SteerRollout(halt, timeout=WAIT_S).state == "halted"
        assert policies(a).policies[0].why == "by the other"
        assert (
            "not after 1"
            in refused(
                desk(b).PublishPolicy, policy.PublishPolicyRequest(bundle=valid(1, note="x"))
            )[1]
        )
        here.close()
        there.close()


def test_a_roll_out_goes_on_after_a_restart(tmp_path: Path) -> None:
    keys = {"keys": [GOOD.public], "soak_s": 3600.0}
    with Centre(tmp_path, policy=keys) as centre:
        stages = [policy.RolloutStage(groups=["first"], percent=100)]
        publish(centre, valid(1), stages=stages)
    with Centre(tmp_path, policy=keys) as centre:
        (kept,) = policies(centre).policies
        assert (kept.stage, kept.stages, kept.state) == (1, 2, "running")
        text = desk(centre).PolicyText(policy.PolicyTextRequest(), timeout=WAIT_S)
        assert text.bundle.startswith(b"gpuwarden-policy-1\n")
        code, _ = refused(desk(centre).PolicyText, policy.PolicyTextRequest(version=9))
        assert code is Code.NOT_FOUND


def test_a_look_that_fails_is_counted_and_the_next_one_works(
    centre: Centre, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(centre, valid(1))

    def broken(limit: int) -> list[Any]:
        raise RuntimeError("defect")

    with monkeypatch.context() as bad:
        bad.setattr(centre.parts.store, "policies", broken)
        centre.parts.policies._refreshed_at = float("-inf")
        eventually(lambda: centre.parts.policies.failures, "the failure")
    line = centre.line("n1")
    assert given(line).policy_version == 1
    line.close()
