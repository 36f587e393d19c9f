"""What a tick's findings say of each tenant: noticed, convicted, and whether somebody protected is
harmed by it (the emergency lane)."""

from dataclasses import replace
from functools import cache

from gpuwarden.config import Config
from gpuwarden.model.finding import Finding, Scope
from gpuwarden.model.ids import DeviceId, TenantId
from gpuwarden.model.memory import Case, Rung, episode_key
from gpuwarden.model.snapshot import Health
from gpuwarden.model.tenant import Tenant
from gpuwarden.policy import guard
from gpuwarden.policy.desk import Desk
from gpuwarden.policy.ladder import Judgement

NAMED_WITHIN_S = 0.2
"""The driver tells a fault by an event, which names nobody, and by a line, which may name somebody else: so long
the line is waited for before growth alone accuses."""


def harmed_on(desk: Desk, device: DeviceId, findings: list[Finding]) -> str | None:
    """Which protected tenant is harmed on a device, and how, in words; ``None``: nobody is."""
    protected = desk.scene.protected_on(device)
    if not protected:
        return None
    state = desk.memory.devices.get(device)
    if state is not None and state.locked_since is not None:
        return f"GPU locked up under {protected[0].name} ({state.locked_why})"
    for finding in findings:
        if finding.rule == "reserve" and finding.device == device and finding.is_confirmed:
            return f"the reserve of {protected[0].name} is breached"
    ids = {tenant.id for tenant in protected}
    for service in desk.scene.snap.services:
        if service.health is Health.RED and service.tenant in ids:
            return f"service {service.service} is red"
    return None


def judge(desk: Desk, findings: list[Finding]) -> dict[TenantId, tuple[Judgement, Finding]]:
    """What this tick's findings say of each tenant: a confirmed hard overrun convicts."""
    said: dict[TenantId, tuple[Judgement, Finding]] = {}
    harmed: dict[DeviceId, bool] = {}
    for finding in findings:
        if finding.rule == "quota":
            _judge_quota(desk, finding, findings, harmed, said)
        elif finding.rule == "tombstone" and finding.tenant is not None:
            said.setdefault(finding.tenant, (Judgement(is_noticed=True), finding))
        elif finding.rule == "pressure" and finding.tenant is not None and finding.is_confirmed:
            said.setdefault(finding.tenant, (_stalls(desk, finding, findings), finding))
        elif finding.rule == "reserve":
            for case in desk.cases.values():
                if _is_for(desk, case, finding):
                    said.setdefault(case.tenant, (Judgement(is_noticed=True), _of(case, finding)))
        elif finding.rule == "fault" and finding.tenant in desk.scene.tenants:
            _accuse(desk, finding, findings, said)
    for finding in findings:
        if finding.rule == "neighbour":
            _accuse_neighbour(desk, finding, findings, said)
    return said


def _judge_quota(
    desk: Desk,
    finding: Finding,
    findings: list[Finding],
    harmed: dict[DeviceId, bool],
    said: dict[TenantId, tuple[Judgement, Finding]],
) -> None:
    """The gravest overrun of a tenant speaks for it; ``harmed`` is looked up once a device."""
    tenant, device = finding.tenant, finding.device
    if tenant is None or device is None:
        return
    is_hard = finding.key.startswith("quota-hard")
    convicted = (
        is_hard and finding.is_confirmed and _may_convict(desk.cfg, desk.scene.tenants[tenant])
    )
    if convicted and device not in harmed:
        harmed[device] = harmed_on(desk, device, findings) is not None
    verdict = _noticed(
        convicted, convicted and harmed[device], not is_hard and _is_over(desk, tenant, device)
    )
    old = said.get(tenant)
    if old is None or _weight(verdict, finding) > _weight(*old):
        said[tenant] = (verdict, finding)


def _accuse(
    desk: Desk,
    finding: Finding,
    findings: list[Finding],
    said: dict[TenantId, tuple[Judgement, Finding]],
) -> None:
    """Who set off a fault beyond its own application goes, if somebody protected is harmed by it on the
    device, and it is still there. Nobody is convicted by an application's own fault."""
    tenant = desk.scene.tenants[finding.tenant] if finding.tenant is not None else None
    if tenant is None or finding.device is None or finding.scope in (None, Scope.APP):
        return
    fault = desk.memory.faults.get(finding.key.removeprefix("fault "))
    if fault is not None and tenant.id not in fault.tenants:  # by its growth alone
        due = fault.first_at + NAMED_WITHIN_S
        if desk.scene.snap.at < due:
            desk.wakes.append(due)
            return
    use = desk.scene.use_of(tenant.id, finding.device)
    is_guilty = use is not None and _may_convict(desk.cfg, tenant)
    if not is_guilty or harmed_on(desk, finding.device, findings) is None:
        return
    verdict = _noticed(True, True, False)
    old = said.get(tenant.id)
    if old is None or _weight(verdict, finding) > _weight(*old):
        said[tenant.id] = (verdict, finding)


def _accuse_neighbour(
    desk: Desk,
    finding: Finding,
    findings: list[Finding],
    said: dict[TenantId, tuple[Judgement, Finding]],
) -> None:
    """Who alone grew goes where nobody is over his quota on the device, or stands accused there."""
    if finding.tenant is None or finding.device is None:
        return
    tenant = desk.scene.tenants[finding.tenant]
    others = [case for case in desk.cases.values() if case.tenant != tenant.id]
    over = [f for f in findings if f.rule == "quota" and f.device == finding.device]
    is_taken = any(case.device == finding.device for case in others) or bool(over)
    if is_taken or tenant.id in said or not _may_convict(desk.cfg, tenant):
        return
    if harmed_on(desk, finding.device, findings) is not None:
        said[tenant.id] = (_noticed(True, True, False), finding)


@cache  # eight values
def _noticed(is_convicted: bool, is_emergency: bool, is_soft: bool) -> Judgement:
    return Judgement(
        is_noticed=True, is_convicted=is_convicted, is_emergency=is_emergency, is_soft=is_soft
    )


def _is_for(desk: Desk, case: Case, finding: Finding) -> bool:
    """Whether a reserve's breach is what a case still waits for."""
    is_waiting = case.rung in (Rung.WATCH, Rung.WARNED, Rung.THROTTLED)
    is_its = case.reason == "reserve" and case.device == finding.device
    return is_waiting and is_its and case.tenant in desk.scene.tenants


def _of(case: Case, finding: Finding) -> Finding:
    """The device's claim as one on the tenant that was chosen for it."""
    return replace(
        finding,
        tenant=case.tenant,
        used_bytes=case.bytes_at_open,
        limit_bytes=case.limit_bytes,
    )


def _is_over(desk: Desk, tenant: TenantId, device: DeviceId) -> bool:
    """Whether every list for ``throttle_after_s`` has shown it over soft: a dip starts it again."""
    episode = desk.memory.episodes.get(episode_key(tenant, device))
    if episode is None or episode.over_since is None:
        return False
    return desk.scene.snap.at - episode.over_since >= desk.cfg.quota.throttle_after_s


def _stalls(desk: Desk, finding: Finding, findings: list[Finding]) -> Judgement:
    """Stalling on host memory: slowed down first; ended when the host itself, or a protected service
    on it, suffers."""
    tenant = desk.scene.tenants[finding.tenant] if finding.tenant else None
    red = any(f.rule == "slo" for f in findings)
    short = any(f.rule == "host" and "memory" in f.key and f.is_confirmed for f in findings)
    convicted = tenant is not None and (red or short) and _may_convict(desk.cfg, tenant)
    throttled = tenant is not None and (
        tenant.id in desk.cases and desk.cases[tenant.id].rung is Rung.THROTTLED
    )
    return Judgement(is_noticed=True, is_convicted=convicted and throttled, is_soft=True)


def _may_convict(cfg: Config, tenant: Tenant) -> bool:
    return guard.may_evict_class(cfg, tenant.cls, Rung.HELD)


def _weight(verdict: Judgement, finding: Finding) -> tuple[bool, bool, float]:
    ratio = (finding.used_bytes or 0) / max(1, finding.limit_bytes or 1)
    return verdict.is_emergency, verdict.is_convicted, ratio
