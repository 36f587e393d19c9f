"""Rule recovery: the driver says what has to be done to a device to heal it.

Source: NVML field 230, which is Xid 154 by polling. Its word rules over every catalogue (DESIGN 4.9). That
the device does no work meanwhile is what rule ``locked`` says, and pages.
"""

from collections.abc import Iterator

from gpuwarden.model.finding import Scope, Severity
from gpuwarden.policy.health.rule import Claim, Judge, Look, claim

ACTIONS = {
    1: ("recovery-reset", "a reset", Scope.GPU),
    2: ("recovery-reboot", "a reboot of the node", Scope.NODE),
    3: ("recovery-drain-p2p", "its peer-to-peer traffic drained", Scope.LINK),
    4: ("recovery-drain-reset", "to be drained and reset", Scope.GPU),
    5: ("recovery-imex", "its IMEX domain recovered", Scope.NODE),
    6: ("recovery-reset", "a reset of its bus", Scope.GPU),
    7: ("recovery-reboot", "a reboot of the whole system", Scope.NODE),
}
"""Fault, words and scope of each number."""
OTHER = "recovery-other"


def _vitals(look: Look) -> Iterator[Claim]:
    action = look.vitals.recovery_action if look.vitals is not None else None
    if not action:
        return
    fault, words, scope = ACTIONS.get(action, (OTHER, f"recovery action {action}", Scope.GPU))
    yield claim(
        look.cfg.health.recovery,
        fault,
        Severity.ERROR,
        f"needs {words}, its driver says",
        scope=scope,
        evidence=(("recovery action", str(action)),),
    )


JUDGES = (
    Judge(
        "recovery",
        "vitals",
        _vitals,
        dict.fromkeys(
            (*(fault for fault, _, _ in ACTIONS.values()), OTHER), ("vitals.recovery_action",)
        ),
    ),
)
