"""Whether a step of a repair may be taken: mode, the operator's leave, budgets, the fleet, one at a time."""

from collections.abc import Sequence

from gpuwarden.config import Config
from gpuwarden.model.repair import NODE, Phase, Repair, Step
from gpuwarden.policy import guard
from gpuwarden.policy.desk import Desk
from gpuwarden.policy.guard import Refusal

DAY_S = 86_400.0
ON_THE_NODE = frozenset({Step.RESTART_SERVICES, Step.RELOAD_DRIVER, Step.REBOOT})
"""Steps that touch every device: never while another step is under way."""


def permit(desk: Desk, repair: Repair) -> Refusal | None:
    """``None``: the step may begin."""
    cfg, step = desk.cfg, repair.step
    if not guard.is_enforcing(cfg, "repair"):
        return Refusal(budget="observe", detail="rule repair is in observe mode")
    if step not in cfg.repair.allow:
        return Refusal(budget="operator", detail=f"repair.allow does not name {step}")
    if not desk.scene.snap.can_record:
        return Refusal(budget="journal", detail="the intent cannot be written down")
    if not desk.scene.snap.has_leave(step.value, repair.device or NODE):
        return Refusal(budget="permit", detail="no permit")
    return _over_budget(cfg, desk.memory.spent, repair, desk.scene.snap.wall)


def _over_budget(
    cfg: Config, spent: Sequence[tuple[str, str, float]], repair: Repair, wall: float
) -> Refusal | None:
    """Budgets a day: resets by device, everything else by node."""
    most, of_whom = {
        Step.RESET_GPU: (cfg.repair.resets_per_device_day, repair.subject),
        Step.RESTART_SERVICES: (cfg.repair.service_restarts_per_day, None),
        Step.RELOAD_DRIVER: (cfg.repair.reloads_per_day, None),
        Step.REBOOT: (cfg.repair.reboots_per_day, None),
    }[repair.step]
    count = sum(
        1
        for subject, step, at in spent
        if step == repair.step and of_whom in (None, subject) and abs(wall - at) < DAY_S
    )
    if count < most:
        return None
    whose = "this device" if of_whom is not None else "this node"
    return Refusal(
        budget="per-day", detail=f"{count} of {most} {repair.step} of {whose} a day are spent"
    )


def must_wait(repairs: Sequence[Repair], repair: Repair) -> bool:
    """Whether another repair is in the middle of a step that this one's would get in the way of."""
    for other in repairs:
        if other.subject == repair.subject or other.phase not in (Phase.ACTING, Phase.VERIFYING):
            continue
        if other.step in ON_THE_NODE or repair.step in ON_THE_NODE:
            return True
        # A reset ends the agent's own look at every device: one at a time.
        if other.phase is Phase.ACTING:
            return True
    return False


def is_of_node(repair: Repair) -> bool:
    """Whether its step needs every device empty, not only its own."""
    return repair.subject == NODE or repair.step in (Step.RELOAD_DRIVER, Step.REBOOT)
