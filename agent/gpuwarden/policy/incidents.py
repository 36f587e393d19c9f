"""Joins claims to incidents: the offender's where one stands accused on the device, else their own."""

from dataclasses import replace

from gpuwarden.model.decision import NoteKind
from gpuwarden.model.finding import Finding, Scope
from gpuwarden.model.ids import DeviceId
from gpuwarden.model.memory import IN_FLIGHT, Case
from gpuwarden.policy.desk import Desk

QUIET_RULES = frozenset({"labels", "limits", "cordon"})
"""Rules whose findings stand in status but open no incident of their own."""

OWN_RULES = frozenset({"quota", "tombstone", "pressure", "arrival", "placement", "neighbour"})
"""Rules whose findings belong to their tenant's own incident, whatever else happens."""

JOINING = frozenset({"reserve", "locked", "slo", "sight", "unattributed", "fault", "probe"})
"""Rules whose findings belong to the incident of a tenant that stands accused on the device."""


def record(desk: Desk, findings: list[Finding]) -> None:
    """Join each claim to its incident: the offender's where one stands accused on the device."""
    confirmed = set()
    joined: dict[str, str] = {}
    for finding in findings:
        if finding.rule in QUIET_RULES:
            continue
        key = finding.key
        if finding.is_confirmed:
            confirmed.add(key)
        is_new = key not in desk.memory.claims
        newly_sure = finding.is_confirmed and key not in desk.memory.confirmed
        if finding.rule in OWN_RULES and not (is_new or newly_sure) and key in desk.memory.joined:
            joined[key] = desk.memory.joined[key]  # most claims of most passes: nothing to say
            continue
        joined[key] = subject_of(desk, finding)
        _move(desk, finding, joined[key])
        if finding.rule == "host" and not finding.is_confirmed:
            continue
        if not (is_new or newly_sure):
            continue
        subject = joined[key]
        opened = subject not in desk.incidents or any(
            n.kind is NoteKind.OPENED and n.text == finding.summary for n in desk.notes
        )
        incident = desk.incident(subject, finding)
        if is_new and not opened:
            desk.note(incident, NoteKind.EVIDENCE, finding.summary, finding)
            if finding.rule in JOINING:  # it decides nothing about the tenant: said once
                continue
        if newly_sure:
            desk.note(incident, NoteKind.DECIDED, f"confirmed: {finding.summary}", finding)
    _close_incidents(desk, joined)
    desk.memory = replace(desk.memory, confirmed=frozenset(confirmed), joined=joined)


def _move(desk: Desk, finding: Finding, subject: str) -> None:
    """A claim that stood in an incident of its own goes on in that of the tenant now accused of it."""
    before = desk.memory.joined.get(finding.key, subject)
    if subject == before:
        return
    incident = desk.incident(subject, finding)
    desk.note(incident, NoteKind.EVIDENCE, finding.summary, finding)
    old = desk.incidents.get(before)
    for key, repair in desk.repairs.items():
        if repair.incident == old and repair.device == finding.device:
            desk.repairs[key] = replace(repair, incident=incident)
    text = f"goes on in {incident}"
    if old is not None and not any(n.incident == old and n.text == text for n in desk.notes):
        desk.note(old, NoteKind.JOINED, text)


def subject_of(desk: Desk, finding: Finding) -> str:
    """Whose incident a finding belongs to. What once belonged to an offender's stays there while it
    lasts: a device that is still locked up after its offender has gone is no new incident."""
    if finding.rule in OWN_RULES and finding.tenant is not None:
        return f"tenant/{finding.tenant}"
    if finding.rule == "fault" and finding.scope is Scope.APP and finding.tenant is not None:
        return f"tenant/{finding.tenant}"
    if finding.fault and finding.tenant in desk.cases:  # a stuck or dead process of who is ended
        return f"tenant/{finding.tenant}"
    if finding.scope is Scope.NODE and finding.device is not None and finding.rule != "fault":
        return f"node/{finding.fault}"
    devices: list[DeviceId] = []
    if finding.device is not None:
        devices = [finding.device]
    elif finding.rule in ("slo", "probe") and finding.tenant is not None:
        devices = [u.device for u in desk.scene.uses_of(finding.tenant)]
    accused = [
        c
        for c in desk.cases.values()
        if c.device in devices and c.reason != "drain" and not _is_older(desk, finding, c)
    ]
    if accused and finding.rule in JOINING:
        first = min(accused, key=lambda c: (c.rung not in IN_FLIGHT, c.opened_at))
        return f"tenant/{first.tenant}"
    for key in (finding.key, *(f"locked {device}" for device in devices)):
        known = desk.memory.joined.get(key, "")
        if known.startswith("tenant/") and known in desk.incidents:
            return known
    if finding.device is not None:
        return f"device/{finding.device}"
    for device in devices:  # a service that suffers on a device that is ill is part of that
        if f"device/{device}" in desk.incidents:
            return f"device/{device}"
    if finding.service is not None:
        return f"service/{finding.service}"
    return f"node/{finding.key}"


def _is_older(desk: Desk, finding: Finding, case: Case) -> bool:
    """Whether a claim stood long before the tenant went wrong: then it is not that tenant's doing."""
    since = desk.memory.claims.get(finding.key)
    return since is not None and since < case.opened_at - desk.cfg.quota.growth_window_s


def _close_incidents(desk: Desk, joined: dict[str, str]) -> None:
    """An incident is over when no case and no claim stands in it any more."""
    standing = set(joined.values())
    repaired = {repair.incident for repair in desk.repairs.values()}
    repaired |= {care.incident for care in desk.memory.cares.values() if care.incident is not None}
    repaired |= {back.incident for back in desk.memory.backs.values()}
    cordons = {state.cordoned_by for state in desk.devices.values()}
    for subject, incident in list(desk.incidents.items()):
        kind, _, key = subject.partition("/")
        if subject in standing or incident in repaired:
            continue
        if kind == "cordon" and incident in cordons:
            continue
        if kind == "tenant" and any(str(t) == key for t in desk.cases):
            continue
        desk.note(incident, NoteKind.CLOSED, "over: nothing of it stands any more")
        del desk.incidents[subject]
