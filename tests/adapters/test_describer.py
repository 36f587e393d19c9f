"""Descriptions in the background: bounded, asked again, never taken back."""

import threading
from collections.abc import Mapping
from dataclasses import replace

import pytest

from gpuwarden.adapters import describer as describer_module
from gpuwarden.adapters.cgroup_owner import owner_of
from gpuwarden.adapters.describer import QUEUE, Describer
from gpuwarden.adapters.tenancy import tenant_of_owner
from gpuwarden.errors import Refused, Unavailable, Unsupported
from gpuwarden.model.action import Target
from gpuwarden.model.ids import CgroupId, DeviceId, TenantId
from gpuwarden.model.owner import CgroupOwner, RuntimeFacts
from tests.adapters.trees import soon

A = "3ccfa00432798ff38f85839de1e396f771b4acbe9f4ddea0a761c39b9790a782"


def named(path: str) -> tuple[CgroupOwner, TenantId]:
    owner = owner_of(f"0::{path}\n")
    return owner, tenant_of_owner(owner) or TenantId("pgrp:4711@1")


class Slow:
    """A runtime whose answers wait for leave."""

    def __init__(self) -> None:
        self.leave = threading.Semaphore(0)
        self.asked: list[str | None] = []
        self.answer: RuntimeFacts | Exception = Unavailable("not yet")

    def describe(self, owner: CgroupOwner) -> RuntimeFacts:
        self.asked.append(owner.container_id)
        assert self.leave.acquire(timeout=30)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def restart_off(self, target: Target) -> Mapping[str, str]:
        raise Unsupported("slow")

    def restart_back(self, target: Target, old: Mapping[str, str]) -> None:
        raise Unsupported("slow")

    def stop(self, target: Target, grace_s: float) -> None:
        raise Unsupported("slow")

    def restart(self, target: Target, grace_s: float) -> None:
        raise AssertionError("nobody restarts here")

    def relocate(self, target: Target, device: DeviceId, index: int) -> str:
        raise Unsupported("slow")


class SteppedClock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.at = 0.0

    def now(self) -> float:
        return self.at

    def wall(self) -> float:
        return self.at

    def sleep(self, seconds: float) -> None:
        self.at += seconds


def test_questions_beyond_the_queue_are_dropped_counted_and_asked_again() -> None:
    slow = Slow()
    clock = SteppedClock()
    describer = Describer("slow", slow, clock, lambda: None, 60.0)
    owner, _ = named(f"/docker/{A}")
    tenants = [TenantId(f"docker:{number}") for number in range(QUEUE + 10)]
    describer.facts(owner, tenants[0])
    assert soon(lambda: len(slow.asked) == 1)
    for tenant in tenants:
        describer.facts(owner, tenant)
    assert describer.dropped == 9
    for _ in range(2 * len(tenants)):
        slow.leave.release()
    assert soon(lambda: len(slow.asked) == QUEUE + 1)
    clock.at += 100.0
    for tenant in tenants[-9:]:
        describer.facts(owner, tenant)
    assert soon(lambda: len(slow.asked) == QUEUE + 10)
    describer.close(10.0)


@pytest.mark.parametrize(
    ("answer", "cannot_act", "errors"),
    [
        (Unavailable("away"), None, 0),
        (Refused("not mine"), "not mine", 0),
        (Unsupported("no tool"), "no tool", 0),
        (ZeroDivisionError("bug"), None, 1),
    ],
)
def test_answers_that_are_none(answer: Exception, cannot_act: str | None, errors: int) -> None:
    slow = Slow()
    slow.answer = answer
    clock = SteppedClock()
    describer = Describer("slow", slow, clock, lambda: None, 60.0)
    owner, tenant = named(f"/docker/{A}")
    describer.facts(owner, tenant)
    slow.leave.release()
    assert soon(lambda: not describer._entries[tenant].is_asked)
    facts = describer.facts(owner, tenant)
    assert (facts.described, facts.cannot_act, describer.errors) == (False, cannot_act, errors)
    assert len(slow.asked) == 1, "not asked again at once"
    slow.answer = RuntimeFacts(tenant=TenantId("other"), described=True, name="x")
    clock.at += 1.0
    describer.facts(owner, tenant)
    slow.leave.release()
    assert soon(lambda: describer.facts(owner, tenant).described)
    assert describer.facts(owner, tenant).tenant == tenant
    describer.close(10.0)


def test_what_happens_while_it_is_asked_makes_the_answer_old() -> None:
    slow = Slow()
    clock = SteppedClock()
    describer = Describer("slow", slow, clock, lambda: None, 60.0)
    owner, tenant = named(f"/docker/{A}")
    slow.answer = RuntimeFacts(tenant=tenant, described=True, name="old")
    describer.facts(owner, tenant)
    assert soon(lambda: len(slow.asked) == 1)
    describer.touch(A)
    slow.leave.release()
    assert soon(lambda: describer.facts(owner, tenant).name == "old")
    slow.answer = RuntimeFacts(tenant=tenant, described=True, name="new")
    slow.leave.release()
    assert soon(lambda: describer.facts(owner, tenant).name == "new")
    assert len(slow.asked) == 2
    slow.leave.release()
    describer.close(10.0)


def test_nothing_is_known_of_another_run_under_the_same_name() -> None:
    """A manager that tells of no events has started it again, or somebody uses the name again."""
    slow = Slow()
    describer = Describer("slow", slow, SteppedClock(), lambda: None, 300.0)
    owner, tenant = named("/default/redis")
    first = CgroupId(path="/default/redis", inode=7)
    slow.answer = RuntimeFacts(tenant=tenant, described=True, name="first", started_wall=1.0)
    describer.facts(owner, tenant, first)
    slow.leave.release()
    assert soon(lambda: describer.facts(owner, tenant, first).described)
    elsewhere = replace(first, hierarchy="freezer", inode=9)
    for same in (first, None, elsewhere, elsewhere, first):
        assert describer.facts(owner, tenant, same).name == "first"
    assert len(slow.asked) == 1
    second = replace(first, inode=8)
    assert not describer.facts(owner, tenant, second).described
    assert soon(lambda: len(slow.asked) == 2)
    third = replace(first, inode=9)
    assert not describer.facts(owner, tenant, third).described
    slow.answer = RuntimeFacts(tenant=tenant, described=True, name="third", started_wall=9.0)
    slow.leave.release()  # the second answer is about a run that is over: it is asked again
    assert soon(lambda: bool(describer.facts(owner, tenant, third)) and len(slow.asked) == 3)
    assert not describer.facts(owner, tenant, third).described
    slow.leave.release()
    assert soon(lambda: describer.facts(owner, tenant, third).started_wall == 9.0)
    describer.close(10.0)


def test_what_its_runtime_has_removed_is_still_what_it_was() -> None:
    """Its bytes are listed for a moment longer: it must not be judged by the default quota then."""
    slow = Slow()
    clock = SteppedClock()
    describer = Describer("slow", slow, clock, lambda: None, 60.0)
    owner, tenant = named(f"/docker/{A}")
    slow.answer = RuntimeFacts(tenant=tenant, described=True, name="risk")
    describer.facts(owner, tenant)
    slow.leave.release()
    assert soon(lambda: describer.facts(owner, tenant).described)
    describer.touch(A, is_gone=True)
    clock.at += 1000.0
    assert describer.facts(owner, tenant).name == "risk"
    assert len(slow.asked) == 1, "nobody knows it any more"
    describer.close(10.0)


def test_a_runtime_that_knows_it_no_more_takes_nothing_back() -> None:
    slow = Slow()
    clock = SteppedClock()
    describer = Describer("slow", slow, clock, lambda: None, 60.0)
    owner, tenant = named(f"/docker/{A}")
    slow.answer = RuntimeFacts(tenant=tenant, described=True, name="risk")
    describer.facts(owner, tenant)
    slow.leave.release()
    assert soon(lambda: describer.facts(owner, tenant).described)
    slow.answer = Refused("Docker does not know it")
    clock.at += 61.0
    describer.facts(owner, tenant)
    slow.leave.release()
    assert soon(lambda: bool(describer.facts(owner, tenant).cannot_act))
    facts = describer.facts(owner, tenant)
    assert (facts.described, facts.name) == (True, "risk")
    describer.close(10.0)


def test_a_flood_of_removed_ones_pushes_out_nobody_who_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(describer_module, "MAX_TENANTS", 8)
    slow = Slow()
    describer = Describer("slow", slow, SteppedClock(), lambda: None, 60.0)
    owner, _ = named(f"/docker/{A}")
    describer.facts(owner, TenantId("docker:here"))
    for number in range(50):
        describer.facts(owner, TenantId(f"docker:flash-{number}"))
        describer.touch(f"flash-{number}", is_gone=True)
    assert TenantId("docker:here") in describer._entries
    assert len(describer._entries) <= 8
    slow.leave.release()
    describer.close(10.0)
