"""Rule services: a service of NVIDIA's that this hardware needs does not run.

The fabric manager: where there are NVSwitches, or a device says that it belongs to a fabric and the service is
installed. IMEX: where there are channel devices, or the devices belong to a domain of several hosts. The
persistence daemon: where it is set to start with the host. What is not needed here is no fault.
"""

from collections.abc import Callable, Iterator

from gpuwarden.model.finding import Scope, Severity
from gpuwarden.model.health import Setup, Surroundings, SystemService
from gpuwarden.policy.health.rule import Claim, HostJudge, HostLook, claim

Need = Callable[[HostLook, Surroundings, SystemService], str]
"""Why a service is needed, in words; empty: it is not."""


def _ask(look: HostLook) -> Iterator[Claim]:
    around = look.surroundings
    if around is None:
        return
    for service in around.services:
        need = NEEDS.get(service.name)
        if need is None or service.is_running is not False:
            continue
        why = need[0](look, around, service)
        if why:
            state = "is not running" if service.is_installed else "is not installed"
            yield claim(
                look.cfg.health.services,
                f"{service.name}-down",
                need[1],
                f"{service.name} {state}, {why}",
                scope=Scope.NODE,
                evidence=(
                    ("service", service.name),
                    ("installed", "yes" if service.is_installed else "no"),
                    ("starts with the host", "yes" if service.is_enabled else "no"),
                ),
            )


def _fabric_manager(look: HostLook, around: Surroundings, service: SystemService) -> str:
    if around.nvswitches:
        return f"and there are {around.nvswitches} NVSwitches"
    states = [setup.fabric_state for setup in _setups(look)]
    if any(state in (1, 2) for state in states):
        return "and GPUs wait to be brought into their NVLink fabric"
    if service.is_enabled and any(states):
        return "and the GPUs belong to an NVLink fabric"
    return ""


def _imex(look: HostLook, around: Surroundings, service: SystemService) -> str:
    if around.imex_channels:
        return f"and there are {around.imex_channels} IMEX channels"
    if service.is_enabled and any(setup.fabric_has_cluster for setup in _setups(look)):
        return "and the GPUs belong to an NVLink domain of several hosts"
    return ""


def _persistenced(look: HostLook, around: Surroundings, service: SystemService) -> str:
    return "although it is to start with the host" if service.is_enabled else ""


def _setups(look: HostLook) -> Iterator[Setup]:
    for device in look.scene.snap.devices:
        if device.health is not None and device.health.setup is not None:
            yield device.health.setup


NEEDS: dict[str, tuple[Need, Severity]] = {
    "nvidia-fabricmanager": (_fabric_manager, Severity.ERROR),
    "nvidia-imex": (_imex, Severity.ERROR),
    "nvidia-persistenced": (_persistenced, Severity.WARNING),
}

JUDGES = (
    HostJudge("services", _ask, {f"{name}-down": ("surroundings.services",) for name in NEEDS}),
)
