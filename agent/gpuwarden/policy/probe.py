"""Rule probe: a service does not answer its health probe, so many times in a row. What is done is ``restart``."""

from collections.abc import Mapping
from dataclasses import replace

from gpuwarden.config import Config
from gpuwarden.config_services import ProbeConfig
from gpuwarden.model.finding import Finding, Severity
from gpuwarden.model.ids import TenantId
from gpuwarden.model.memory import Memory
from gpuwarden.model.service import Care, CarePhase, ProbeReading
from gpuwarden.policy.desk import target_of
from gpuwarden.policy.scene import Scene

RULE = "probe"


def find(cfg: Config, memory: Memory, scene: Scene) -> list[Finding]:
    """One finding a service whose probe has failed ``failures`` times in a row."""
    findings = []
    for reading in scene.snap.probes:
        if not reading.is_failing or settings_of(cfg, reading.service) is None:
            continue
        care = memory.cares.get(reading.service)
        findings.append(
            Finding(
                rule=RULE,
                key=key_of(reading.service),
                severity=Severity.ERROR,
                summary=(
                    f"service {reading.service} does not answer its probe "
                    f"({reading.kind.value}): {reading.detail or 'no answer'}"
                ),
                tenant=reading.tenant or _last_tenant(care),
                service=reading.service,
                evidence=(("failed in a row", str(reading.failures)),),
            )
        )
    return findings


def key_of(service: str) -> str:
    """The key of the claim about a service."""
    return f"{RULE} {service}"


def settings_of(cfg: Config, service: str) -> ProbeConfig | None:
    """How a service is probed."""
    return next((s.probe for s in cfg.service if s.name == service), None)


def _last_tenant(care: Care | None) -> TenantId | None:
    return None if care is None or care.target is None else care.target.tenant


def fold(cfg: Config, memory: Memory, scene: Scene) -> Memory:
    """Memory with who carries each probed service now; the same object where nothing is new. Whom a
    restart is under way for is remembered as he was: his identity tells whether it has happened. A service
    of which nothing could be heard in this look is remembered as well."""
    if not (scene.snap.probes or memory.cares):
        return memory
    probed = {s.name for s in cfg.service if s.probe is not None}
    cares = {name: care for name, care in memory.cares.items() if name in probed}
    for reading in scene.snap.probes:
        if reading.service not in probed:
            continue
        care = cares.get(reading.service) or Care(service=reading.service, since=scene.snap.at)
        if care.phase is not CarePhase.RESTARTING and not care.is_unsure:
            care = _seen(care, reading, scene)
        cares[reading.service] = care
    is_same = len(cares) == len(memory.cares)
    if is_same and all(memory.cares.get(name) is care for name, care in cares.items()):
        return memory
    return replace(memory, cares=cares)


def _seen(care: Care, reading: ProbeReading, scene: Scene) -> Care:
    """With its carrier's identity and devices as they are now; as they were where nobody is seen."""
    tenant = scene.tenants.get(reading.tenant) if reading.tenant is not None else None
    if tenant is None:
        return care
    devices = tuple(sorted(u.device for u in scene.uses_of(tenant.id))) or care.devices
    target = target_of(tenant)
    if target == care.target and devices == care.devices and care.grace_s == tenant.grace_s:
        return care
    return replace(care, target=target, devices=devices, grace_s=tenant.grace_s)


def reborn(cares: Mapping[str, Care], wall: float) -> dict[str, Care]:
    """After a boot: who carried a service is gone, what was spent of its budget is not."""
    return {
        name: Care(service=name, restarts_wall=tuple(min(w, wall) for w in care.restarts_wall))
        for name, care in cares.items()
        if care.restarts_wall
    }


def moved(cares: Mapping[str, Care], jump: float) -> dict[str, Care]:
    """After the wall clock was set."""
    return {
        name: replace(care, restarts_wall=tuple(w + jump for w in care.restarts_wall))
        for name, care in cares.items()
    }
