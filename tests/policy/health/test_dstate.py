"""Rule dstate: one finding a stuck task, with whose it is."""

from __future__ import annotations

from gpuwarden.model.finding import Scope
from gpuwarden.model.health import GpuTask, Surroundings
from gpuwarden.model.ids import Pid
from gpuwarden.policy.health import dstate
from tests.policy.builders import NOW, tenant
from tests.policy.health.ward import TICK_S, Ward, ask_host

STUCK = GpuTask(pid=Pid(pid=4711, start=9), comm="python3", since=NOW - 15, holds="/dev/nvidia0")


def test_a_stuck_task_and_whose_it_is() -> None:
    owner = tenant("train", pids=(STUCK.pid,))
    (claim,) = ask_host(dstate.JUDGES, Surroundings(at=NOW, stuck=(STUCK,)), tenants=[owner])
    assert claim.tenant == owner.id
    assert claim.scope is Scope.NODE
    assert "4711 (python3) of train" in claim.summary
    assert ("holds", "/dev/nvidia0") in claim.evidence


def test_one_that_is_nobodys_and_one_whose_pid_is_anothers_now() -> None:
    other = tenant("later", pids=(Pid(pid=4711, start=10),))
    (claim,) = ask_host(dstate.JUDGES, Surroundings(at=NOW, stuck=(STUCK,)), tenants=[other])
    assert claim.tenant is None


def test_nothing_stuck_or_nothing_known() -> None:
    assert ask_host(dstate.JUDGES, Surroundings(at=NOW)) == []
    assert ask_host(dstate.JUDGES, None) == []


def test_it_enters_and_leaves_slowly_and_another_task_is_another_fault() -> None:
    ward = Ward()

    def see(after_s: float, *stuck: GpuTask) -> list[str]:
        around = Surroundings(at=NOW + after_s // 15 * 15, stuck=stuck)
        return list(ward.see(NOW + after_s, around=around))

    key = "task-stuck 4711@9"
    ill = [see(s, STUCK) for s in (0, 15, 30, 45, 60 - TICK_S, 60)]
    assert ill == [[]] * 5 + [[key]]
    reused = GpuTask(pid=Pid(pid=4711, start=77), comm="sh", since=NOW)
    assert see(75, reused) == [key]
    well = [see(s) for s in (90, 105 - TICK_S, 105)]
    assert well == [[key], [key], []]
