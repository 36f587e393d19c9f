"""Rule dstate: a task that holds a GPU is stuck in the kernel.

It cannot be ended, and its device not be reset, until the call it is in returns. The kernel's hung-task watch
waits for 120 s; a task counts here when it has had no CPU time since it was first seen so.
"""

from collections.abc import Iterator

from gpuwarden.model.finding import Scope, Severity
from gpuwarden.policy.health.rule import Claim, HostJudge, HostLook, claim


def _ask(look: HostLook) -> Iterator[Claim]:
    around = look.surroundings
    if around is None:
        return
    for task in around.stuck:
        owner = next((t for t in look.scene.snap.tenants if task.pid in t.pids), None)
        whose = f" of {owner.name}" if owner is not None else ""
        yield claim(
            look.cfg.health.dstate,
            "task-stuck",
            Severity.ERROR,
            f"process {task.pid.pid} ({task.comm}){whose} is stuck in the kernel and holds a GPU",
            scope=Scope.NODE,
            subject=f"{task.pid.pid}@{task.pid.start}",
            tenant=owner.id if owner is not None else None,
            evidence=(("pid", str(task.pid.pid)), ("command", task.comm), ("holds", task.holds)),
        )


JUDGES = (HostJudge("dstate", _ask, {"task-stuck": ("surroundings",)}),)
