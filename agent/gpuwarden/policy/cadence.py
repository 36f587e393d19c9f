"""How closely to look, from headroom and growth (DESIGN 4.3; the idea is earlyoom's)."""

from collections.abc import Iterable

from gpuwarden.config import Config
from gpuwarden.model.decision import ProbePlan
from gpuwarden.model.device import Sight
from gpuwarden.model.finding import Finding
from gpuwarden.model.ids import DeviceId
from gpuwarden.model.memory import IN_FLIGHT, Memory
from gpuwarden.policy.scene import Scene

URGENT_RULES = frozenset({"quota", "reserve"})


def plan(
    cfg: Config,
    memory: Memory,
    scene: Scene,
    findings: Iterable[Finding],
    stale: Iterable[DeviceId] = (),
) -> ProbePlan:
    """The probe's next plan: fast-loop period, list triggers, and devices to list at once.

    A device is urgent while something on it waits for a list: a claim to be confirmed, an eviction
    under way, growth about to cross a quota, or a ``stale`` size that withheld an action. A breach
    that is merely known is not: listing holds a driver lock.
    """
    urgent: set[DeviceId] = {*stale, *scene.pressing}
    for finding in findings:
        if finding.rule in URGENT_RULES and finding.device and not finding.is_confirmed:
            urgent.add(finding.device)
    for case in memory.cases.values():
        if case.rung in IN_FLIGHT:
            urgent.update(case.devices or (case.device,))
    seen = {d.id for d in scene.snap.devices if d.sight is Sight.OK}
    trigger = cfg.sampling.list_trigger_bytes
    period = cfg.sampling.fast_min_s if urgent & seen else cfg.sampling.fast_base_s
    return ProbePlan(
        period_s=min(max(period, cfg.sampling.fast_min_s), cfg.sampling.fast_max_s),
        list_trigger_bytes=tuple(
            (d, max(1, min(trigger, scene.headroom.get(d, 2 * trigger) // 2))) for d in sorted(seen)
        ),
        list_now=tuple(sorted(urgent & seen)),
        list_every_s=cfg.sampling.list_every_s,
        list_gap_s=cfg.sampling.list_gap_s,
        slow_every_s=cfg.sampling.slow_every_s,
    )
