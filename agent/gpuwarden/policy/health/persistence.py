"""Rule persistence: persistence mode is off.

Source: azurehpc-health-checks and gpud check it. Without it the driver takes its state down with the last
client: limits are forgotten, volatile counters begin anew, the next job waits for the device to start.
"""

from collections.abc import Iterator

from gpuwarden.model.finding import Severity
from gpuwarden.policy.health.rule import Claim, Judge, Look, claim


def _setup(look: Look) -> Iterator[Claim]:
    if look.setup is not None and look.setup.persistence_enabled is False:
        yield claim(
            look.cfg.health.persistence,
            "persistence-off",
            Severity.WARNING,
            "has persistence mode off",
            evidence=(("persistence mode", "off"),),
        )


JUDGES = (
    Judge("persistence", "setup", _setup, {"persistence-off": ("setup.persistence_enabled",)}),
)
