"""Rows become uses of tenants; equal rows are folded once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuwarden.model.device import Listing, ProcessUse
from gpuwarden.model.ids import DeviceId, Pid, TenantId
from gpuwarden.model.owner import CgroupOwner, ProcessFacts
from gpuwarden.node.attribution import Attribution

GPU = DeviceId("GPU-1")


class Table:
    """Processes in memory; ``asked`` counts the looks at them."""

    def __init__(self, *pids: int) -> None:
        self.alive = {pid: 1 for pid in pids}
        self.owner = {pid: f"/docker/{pid}" for pid in pids}
        self.asked = 0

    def facts(self, pid: int) -> ProcessFacts | None:
        self.asked += 1
        if pid not in self.alive:
            return None
        return ProcessFacts(
            pid=Pid(pid=pid, start=self.alive[pid]),
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
        return self.alive.get(pid.pid) == pid.start


def rows(**sizes: int | None) -> tuple[ProcessUse, ...]:
    return tuple(
        ProcessUse(pid=None, raw_pid=int(name[1:]), device=GPU, used_bytes=size)
        for name, size in sizes.items()
    )


def listing(at: float, told: tuple[ProcessUse, ...], used: int = 100) -> Listing:
    return Listing(device=GPU, at=at, used_bytes=used, rows=told)


@pytest.fixture
def table() -> Table:
    return Table(10, 11)


@pytest.fixture
def attribution(table: Table) -> Attribution:
    def tenant_of(facts: ProcessFacts) -> TenantId:
        return TenantId(f"docker:{facts.owner.cgroup_path}")

    return Attribution(processes=table, tenant_of=tenant_of, growth_window_s=10.0)  # type: ignore[arg-type]


def held(attribution: Attribution) -> Sequence[tuple[str, int, float]]:
    return [(u.tenant, u.used_bytes, u.listed_at) for u in attribution.uses()]


def test_the_same_rows_again_cost_no_look_and_are_as_fresh(
    attribution: Attribution, table: Table
) -> None:
    told = rows(p10=40, p11=50)
    assert attribution.take(listing(1.0, told))
    asked = table.asked
    assert not attribution.take(listing(3.0, told, used=120))
    assert table.asked == asked
    assert held(attribution) == [("docker:/docker/10", 40, 3.0), ("docker:/docker/11", 50, 3.0)]
    assert attribution.unattributed[GPU] == 30
    assert attribution.listed_at[GPU] == 3.0


def test_equal_rows_of_another_list_are_looked_at(attribution: Attribution, table: Table) -> None:
    attribution.take(listing(1.0, rows(p10=40)))
    asked = table.asked
    assert attribution.take(listing(2.0, rows(p10=40)))
    assert table.asked > asked


def test_bytes_that_stay_under_a_pid_that_is_anothers_now_stay_with_whom_they_were(
    attribution: Attribution, table: Table
) -> None:
    told = rows(p10=40)
    attribution.take(listing(1.0, told))
    table.alive[10], table.owner[10] = 2, "/docker/other"  # the pid is another process now
    attribution.recheck()
    for at in (2.0, 3.0):
        attribution.take(listing(at, told))
        assert held(attribution) == [("docker:/docker/10", 40, at)]


def test_and_are_nobodys_when_the_size_has_changed_too(
    attribution: Attribution, table: Table
) -> None:
    attribution.take(listing(1.0, rows(p10=40)))
    table.alive[10], table.owner[10] = 2, "/docker/other"
    attribution.recheck()
    for at in (2.0, 3.0):
        attribution.take(listing(at, rows(p10=55)))
        assert held(attribution) == []
        assert attribution.unattributed[GPU] > 0


def test_a_pid_that_was_off_the_list_in_between_is_whose_it_is(
    attribution: Attribution, table: Table
) -> None:
    attribution.take(listing(1.0, rows(p10=40)))
    del table.alive[10]
    attribution.recheck()
    attribution.take(listing(2.0, ()))
    table.alive[10], table.owner[10] = 2, "/docker/other"
    attribution.take(listing(3.0, rows(p10=40)))
    assert held(attribution) == [("docker:/docker/other", 40, 3.0)]


def test_bytes_under_a_dead_pid_nobody_knew_are_nobodys(
    attribution: Attribution, table: Table
) -> None:
    del table.alive[10]
    attribution.take(listing(1.0, rows(p10=40)))
    assert held(attribution) == []
    assert attribution.unattributed[GPU] >= 40


def test_bytes_under_a_dead_pid_an_earlier_agent_acted_on_are_its_tenants(
    attribution: Attribution, table: Table
) -> None:
    del table.alive[10]
    attribution.dead[10] = (Pid(pid=10, start=1), TenantId("docker:/docker/10"))
    attribution.take(listing(1.0, rows(p10=40)))
    assert held(attribution) == [("docker:/docker/10", 40, 1.0)]


def test_and_nobodys_when_the_pid_is_somebody_elses_by_now(attribution: Attribution) -> None:
    attribution.dead[10] = (Pid(pid=10, start=99), TenantId("docker:/docker/10"))
    for at in (1.0, 2.0):
        attribution.take(listing(at, rows(p10=40)))
        assert held(attribution) == []


def test_who_is_left_out_is_as_old_as_the_list_that_had_it(attribution: Attribution) -> None:
    attribution.take(listing(1.0, rows(p10=40, p11=50)))
    attribution.take(listing(2.0, rows(p10=40)))
    assert held(attribution) == [("docker:/docker/10", 40, 2.0), ("docker:/docker/11", 50, 1.0)]


def test_a_newcomer_has_grown_from_nothing_but_not_at_the_first_list_of_all(
    attribution: Attribution,
) -> None:
    attribution.take(listing(1.0, rows(p10=40)))
    attribution.take(listing(2.0, rows(p10=40, p11=50)))
    assert [u.grown_bytes for u in attribution.uses()] == [0, 50]


def test_a_live_process_that_is_left_out_once_is_kept_once(attribution: Attribution) -> None:
    attribution.take(listing(1.0, rows(p10=40, p11=50)))
    less = rows(p10=40)
    attribution.take(listing(2.0, less))
    assert [used for _, used, _ in held(attribution)] == [40, 50]
    attribution.take(listing(3.0, less))
    assert [used for _, used, _ in held(attribution)] == [40]


def test_who_is_left_out_is_gone_when_the_device_does_not_hold_so_much_any_more(
    attribution: Attribution,
) -> None:
    """Its size by the list before is contradicted: nobody is judged by it. Found by a generated world."""
    attribution.take(listing(1.0, rows(p10=40, p11=50)))
    attribution.take(listing(2.0, rows(p10=40), used=89))
    assert [used for _, used, _ in held(attribution)] == [40]


def test_a_plateau_is_its_two_ends_and_growth_is_still_growth(attribution: Attribution) -> None:
    told = rows(p10=40)
    for at in range(1, 30):
        attribution.take(listing(float(at), told))
    (points,) = attribution.traces.values()
    assert len(points) <= 3
    attribution.take(listing(30.0, rows(p10=90)))
    (use,) = attribution.uses()
    assert use.grown_bytes == 50
    assert use.growth_bytes_s == pytest.approx(50.0)


@given(
    st.lists(
        st.tuples(
            st.sampled_from([0.1, 1.0, 7.0]),
            st.dictionaries(st.sampled_from(["p10", "p11"]), st.sampled_from([40, 50, None])),
        ),
        max_size=14,
    )
)
def test_rows_that_are_known_again_say_what_they_would_say_read_anew(
    lists: list[tuple[float, dict[str, int | None]]],
) -> None:
    """What is spared while nothing changes spares work and nothing else."""
    quick, slow = (
        Attribution(
            processes=Table(10, 11),  # type: ignore[arg-type]
            tenant_of=lambda facts: TenantId(f"docker:{facts.owner.cgroup_path}"),
            growth_window_s=10.0,
        )
        for _ in range(2)
    )
    at, before = 0.0, rows()
    for wait, sizes in lists:
        at += wait
        told = rows(**sizes)
        before = before if before == told else told
        quick.take(listing(at, before))
        slow._still.clear()
        slow.recheck()
        slow.take(listing(at, told))
        assert quick.uses() == slow.uses()


def test_a_size_that_is_withheld_leaves_nothing_unattributed(attribution: Attribution) -> None:
    attribution.take(listing(1.0, rows(p10=None, p11=50)))
    assert GPU not in attribution.unattributed
    assert [replace(u, growth_bytes_s=0.0).unknown_rows for u in attribution.uses()] == [1, 0]
