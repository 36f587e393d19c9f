"""Growth of a process against its own readings: what is one, and all that is none."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from gpuwarden.model.device import Device, Listing, ProcessUse, Sight
from gpuwarden.model.growth import CoreShare, Growth
from gpuwarden.model.ids import DeviceId, Pid, TenantId
from gpuwarden.model.owner import CgroupOwner, ProcessFacts
from gpuwarden.model.snapshot import Gap, GapKind, Health, ServiceState
from gpuwarden.model.views import ProbeView
from gpuwarden.node.attribution import Attribution
from gpuwarden.node.neighbours import Lowest, Neighbours, core_shares

GPU = DeviceId("GPU-1")
MIB = 2**20
A, B = TenantId("docker:/a"), TenantId("docker:/b")
WINDOW_S = 10.0


@dataclass
class Node:
    """An attribution and what follows it, fed list by list."""

    owner: dict[int, str] = field(default_factory=lambda: {10: "/a", 11: "/b", 12: "/a"})
    start: dict[int, int] = field(default_factory=dict)
    epoch: int = 0
    looked_at: float = 0.0

    def __post_init__(self) -> None:
        self.attribution = Attribution(
            processes=self,  # type: ignore[arg-type]
            tenant_of=lambda facts: TenantId(f"docker:{facts.owner.cgroup_path}"),
            growth_window_s=WINDOW_S,
        )
        self.neighbours = Neighbours(WINDOW_S, 2.0)

    def facts(self, pid: int) -> ProcessFacts | None:
        return ProcessFacts(
            pid=Pid(pid=pid, start=self.start.get(pid, 1)),
            ppid=1,
            pgrp=pid,
            session=pid,
            state="S",
            comm="job",
            uid=0,
            owner=CgroupOwner(runtime="docker", cgroup_path=self.owner[pid], leaf_path=None),
            cgroup=None,
        )

    def is_alive(self, pid: Pid) -> bool:
        return True

    def see(
        self,
        at: float,
        *,
        nobodys_mib: int = 0,
        sight: Sight = Sight.OK,
        gap: bool = False,
        **sizes_mib: int | None,
    ) -> dict[TenantId | None, Growth]:
        """One list: ``p10=500`` is process 10 with 500 MiB."""
        rows = tuple(
            ProcessUse(
                pid=None,
                raw_pid=int(name[1:]),
                device=GPU,
                used_bytes=None if size is None else size * MIB,
            )
            for name, size in sizes_mib.items()
        )
        used = sum(size or 0 for size in sizes_mib.values()) + nobodys_mib
        listing = Listing(device=GPU, at=at, used_bytes=used * MIB, rows=rows)
        device = Device(id=GPU, index=0, name="A100", total_bytes=2**36, sight=sight)
        why = Gap(source="nvml", subject=GPU, kind=GapKind.UNAVAILABLE, detail="cannot be listed")
        view = ProbeView(
            devices=(device,), listings=(listing,), gaps=(why,) * gap, epoch=self.epoch
        )
        self.attribution.take(listing)
        self.neighbours.take(view, self.attribution, max(at, self.looked_at))
        return {growth.tenant: growth for growth in self.neighbours.growths()}


@pytest.fixture
def node() -> Node:
    return Node()


def test_growth_is_against_the_own_earlier_reading(node: Node) -> None:
    assert node.see(0.0, p10=1_000, p11=1_000) == {}
    assert node.see(2.0, p10=1_200, p11=1_000)[A].rose_at is None, "200 MiB are no rise"
    grown = node.see(3.0, p10=1_300, p11=1_010)
    assert set(grown) == {A}
    assert (grown[A].own_bytes, grown[A].rose_at) == (300 * MIB, 3.0)
    assert (grown[A].watched_since, grown[A].stirred_at) == (0.0, 3.0)
    later = node.see(5.0, p10=1_900, p11=1_010)[A]
    assert (later.own_bytes, later.rose_at, later.stirred_at) == (900 * MIB, 3.0, 5.0)


def test_a_start_is_no_growth_and_stirs(node: Node) -> None:
    node.see(0.0, p11=1_000)
    started = node.see(1.0, p10=4_000, p11=1_000)[A]
    assert (started.own_bytes, started.rose_at, started.stirred_at) == (0, None, 1.0)


def test_a_process_more_is_no_growth_of_the_one_before(node: Node) -> None:
    node.see(0.0, p10=1_000)
    assert node.see(1.0, p10=1_000, p12=4_000)[A].rose_at is None
    assert node.see(2.0, p10=1_000, p12=4_500)[A].rose_at == 2.0, (
        "it has a reading of its own by now"
    )


def test_what_another_of_the_tenant_gave_back_is_taken_off(node: Node) -> None:
    node.see(0.0, p10=1_000, p12=2_000)
    assert A not in node.see(1.0, p10=2_900, p12=100), "it holds no more than before"
    assert node.see(2.0, p10=3_300, p12=100)[A].own_bytes == 400 * MIB


def test_a_pid_that_is_another_process_now_has_no_past(node: Node) -> None:
    node.see(0.0, p10=1_000)
    node.start[10] = 2
    node.attribution.recheck()
    found = node.see(1.0, p10=5_000)
    assert all(growth.rose_at is None for growth in found.values())


@pytest.mark.parametrize("how", ["late", "blind", "unlisted", "reloaded", "agent"])
def test_after_a_break_nothing_is_known(node: Node, how: str) -> None:
    node.see(0.0, p10=1_000)
    node.see(2.0, p10=1_000)
    at = 4.0
    if how == "late":
        at = 5.6
    elif how == "blind":
        node.see(2.5, sight=Sight.BLIND, p10=1_000)
    elif how == "unlisted":
        node.see(2.5, gap=True, p10=1_000)
    elif how == "reloaded":
        node.epoch += 1
    else:
        node = Node()
    assert node.see(at, p10=9_000) == {}, "a first listing again"
    grown = node.see(at + 1, p10=9_600)[A]
    assert (grown.watched_since, grown.own_bytes, grown.rose_at) == (at, 600 * MIB, at + 1)


def test_a_list_from_before_an_agent_began_is_a_reading_and_no_watch() -> None:
    node = Node(looked_at=1.5)
    node.see(0.0, p10=1_000)
    grown = node.see(2.0, p10=1_500)[A]
    assert (grown.watched_since, grown.own_bytes) == (1.5, 500 * MIB)


def test_a_regular_list_is_no_break(node: Node) -> None:
    node.see(0.0, p10=1_000)
    assert node.see(3.5, p10=2_000)[A].watched_since == 0.0


def test_growth_ends_with_the_window(node: Node) -> None:
    node.see(0.0, p10=1_000)
    node.see(1.0, p10=2_000)
    for at in range(2, 11):
        assert node.see(float(at), p10=2_000)[A].rose_at == 1.0
    assert node.see(11.5, p10=2_000)[A].rose_at is None
    for at in range(13, 21, 2):
        assert node.see(float(at), p10=2_000)[A].stirred_at == 1.0, "known for two windows"
    assert node.see(22.0, p10=2_000) == {}


def test_nobodys_bytes_stir_and_so_does_who_is_withheld(node: Node) -> None:
    node.see(0.0, p10=1_000)
    assert set(node.see(1.0, p10=1_000, nobodys_mib=500)) == {None}
    found = node.see(2.0, p10=1_000, p11=None, nobodys_mib=500)
    assert {None, B} <= set(found), "neither can be said not to have grown"


def test_who_has_gone_is_remembered_as_having_stirred(node: Node) -> None:
    node.see(0.0, p10=1_000, p11=1_000)
    node.see(1.0, p10=1_000, p11=2_000)
    node.see(2.0, p10=1_000)
    node.see(2.1, p10=1_000)
    gone = node.see(2.2, p10=1_000)[B]
    assert (gone.stirred_at, gone.rose_at, gone.own_bytes) == (1.0, None, 0)


def test_the_lowest_of_a_window_is_kept_whatever_the_path() -> None:
    lowest = Lowest(50)
    assert lowest.rise(1.0, 20, 10.0) == 0
    assert lowest.rise(2.0, 70, 10.0) == 50
    assert lowest.rise(3.0, 60, 10.0) == 40
    assert lowest.rise(12.5, 90, 10.0) == 30, "at the window's start it stood at 60"
    for n in range(1_000):
        assert lowest.rise(13.0 + n / 1_000, 90 + n, 1e9) == 90 + n - 60
    assert len(lowest._points) <= 130


def shares(
    utilization: dict[DeviceId, tuple[float, dict[int, float]]], health: Health = Health.RED
) -> tuple[tuple[CoreShare, ...], tuple[Gap, ...]]:
    node = Node()
    node.see(0.0, p10=1_000, p11=1_000, p12=10)
    state = ServiceState(service="risk", tenant=B, health=health, since=0.0)
    view = ProbeView(devices=(), listings=(), utilization=utilization)
    return core_shares(view, node.attribution, (state,), 20.0)


def test_the_cores_of_a_red_service_by_tenant() -> None:
    found, gaps = shares({GPU: (18.0, {10: 0.5, 12: 0.25})})
    assert [(s.tenant, s.sm_ratio, s.at) for s in found] == [(A, 0.75, 18.0)]
    assert gaps == ()


def test_what_the_driver_does_not_tell_is_a_gap_and_never_nothing() -> None:
    for told in ({}, {GPU: (1.0, {10: 0.5})}):
        found, (gap,) = shares(told)
        assert found == ()
        assert (gap.source, gap.subject, gap.kind) == ("core-share", GPU, GapKind.UNSUPPORTED)


def test_of_services_that_are_well_nothing_is_asked() -> None:
    assert shares({}, Health.GREEN) == ((), ())
