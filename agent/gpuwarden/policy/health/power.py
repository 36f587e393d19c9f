"""Rule power: a board draws more than its limit, or is kept below the limit that was set.

Source: nvml.h: the enforced limit is what is left after every limiter; below the one that was set, something
other than the operator (the baseboard controller, a missing power cable) holds it down.
"""

from collections.abc import Iterator

from gpuwarden.model.finding import Severity
from gpuwarden.policy.health.rule import Claim, Judge, Look, claim


def _vitals(look: Look) -> Iterator[Claim]:
    vitals, setup, cfg = look.vitals, look.setup, look.cfg.health.power
    if vitals is None or setup is None:
        return
    drawn, limit = vitals.power_w, setup.power_limit_w
    if drawn is not None and limit and drawn > cfg.over_ratio * limit:
        yield claim(
            cfg,
            "power-over",
            Severity.WARNING,
            f"draws {drawn:.0f} W, its limit is {limit:.0f} W",
            evidence=(("power", f"{drawn:.0f} W"), ("limit", f"{limit:.0f} W")),
        )


def _setup(look: Look) -> Iterator[Claim]:
    setup, cfg = look.setup, look.cfg.health.power
    if setup is None:
        return
    limit, told = setup.power_limit_w, setup.power_limit_set_w
    if limit is not None and told and limit < cfg.held_ratio * told:
        yield claim(
            cfg,
            "power-held",
            Severity.WARNING,
            f"is held to {limit:.0f} W although {told:.0f} W are set: not by its driver",
            evidence=(("limit in force", f"{limit:.0f} W"), ("limit set", f"{told:.0f} W")),
        )


JUDGES = (
    Judge("power", "vitals", _vitals, {"power-over": ("vitals.power_w", "setup.power_limit_w")}),
    Judge(
        "power",
        "setup",
        _setup,
        {"power-held": ("setup.power_limit_w", "setup.power_limit_set_w")},
    ),
)
