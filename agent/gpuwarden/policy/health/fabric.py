"""Rule fabric: a device is not (fully) part of its NVLink fabric.

Source: nvml.h (nvmlGpuFabricInfo_v3_t). A state of 0, or no answer, is a device without a fabric: no fault.
"""

from collections.abc import Iterator

from gpuwarden.model.finding import Scope, Severity
from gpuwarden.policy.health.rule import Claim, Judge, Look, claim

_STATES = {1: "not started", 2: "in progress"}
_COMPLETED = 3
_CONDITIONS = (
    (0, "degraded bandwidth", Severity.WARNING),
    (2, "a route recovery in progress", Severity.WARNING),
    (4, "an unhealthy route", Severity.ERROR),
    (6, "an access time-out recovery in progress", Severity.WARNING),
)
"""First bit of each pair, in words; 1 is true."""
_CONFIGURATION_BIT = 8
_CONFIGURED_WELL = 1
"""0 not supported, 1 none wrong; what is above names a mistake."""


def _setup(look: Look) -> Iterator[Claim]:
    setup, cfg = look.setup, look.cfg.health.fabric
    if setup is None or not setup.fabric_state:
        return
    state, mask = setup.fabric_state, setup.fabric_health_mask or 0
    if state != _COMPLETED:
        yield claim(
            cfg,
            "fabric-incomplete",
            Severity.ERROR,
            f"is not in its NVLink fabric: registration {_STATES.get(state, f'in state {state}')}",
            scope=Scope.NODE,
            evidence=(("fabric state", str(state)),),
        )
        return
    if setup.fabric_status:
        yield claim(
            cfg,
            "fabric-failed",
            Severity.ERROR,
            f"could not be registered in its NVLink fabric (NVML code {setup.fabric_status})",
            scope=Scope.NODE,
            evidence=(("fabric status", str(setup.fabric_status)),),
        )
    wrong = [(words, severity) for bit, words, severity in _CONDITIONS if mask >> bit & 3 == 1]
    configured = mask >> _CONFIGURATION_BIT & 0xF
    if configured > _CONFIGURED_WELL:
        wrong.append((f"an incorrect configuration ({configured})", Severity.ERROR))
    if wrong:
        yield claim(
            cfg,
            "fabric-unhealthy",
            max(severity for _, severity in wrong),
            f"has {', '.join(words for words, _ in wrong)} in its NVLink fabric",
            scope=Scope.LINK,
            evidence=(("fabric health mask", f"{mask:#x}"),),
        )


JUDGES = (
    Judge(
        "fabric",
        "setup",
        _setup,
        {
            "fabric-incomplete": ("setup.fabric_state",),
            "fabric-failed": ("setup.fabric_status",),
            "fabric-unhealthy": ("setup.fabric_health_mask",),
        },
    ),
)
