"""The table of health rules: one file each, asked about one class of samples or about the host."""

from collections.abc import Callable, Mapping

from gpuwarden.config import Config
from gpuwarden.policy.health import (
    count,
    dstate,
    ecc,
    fabric,
    inforom,
    mismatch,
    nvlink,
    pcie,
    persistence,
    power,
    recovery,
    remap,
    retired,
    services,
    thermal,
    throttle,
    wallclock,
    zombie,
)
from gpuwarden.policy.health.rule import Claim, HostJudge, Judge

RULES: tuple[Judge, ...] = (
    *ecc.JUDGES,
    *remap.JUDGES,
    *retired.JUDGES,
    *nvlink.JUDGES,
    *pcie.JUDGES,
    *throttle.JUDGES,
    *thermal.JUDGES,
    *power.JUDGES,
    *persistence.JUDGES,
    *fabric.JUDGES,
    *recovery.JUDGES,
    *inforom.JUDGES,
)
HOST_RULES: tuple[HostJudge, ...] = (
    *count.JUDGES,
    *mismatch.JUDGES,
    *dstate.JUDGES,
    *zombie.JUDGES,
    *services.JUDGES,
    *wallclock.JUDGES,
)
PARTS = ("vitals", "errors", "setup", "deep")
BY_PART: Mapping[str, tuple[Judge, ...]] = {
    part: tuple(judge for judge in RULES if judge.part == part) for part in PARTS
}
ON_EVENT: Mapping[str, tuple[str, Callable[[Config], Claim]]] = {
    "ecc-storm": ("ecc", ecc.on_storm),
    "retirement-failed": ("remap", remap.failed),
}
"""What the driver says by itself, between two samples: the rule and its claim."""
NAMES = tuple(dict.fromkeys((*(j.rule for j in RULES), *(j.rule for j in HOST_RULES))))
