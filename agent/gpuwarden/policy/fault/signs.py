"""What a look says of faults: the driver's events, kernel lines, polled conditions, and what is not seen."""

from collections.abc import Iterable

from gpuwarden.config import Config
from gpuwarden.model.device import Device, DriverEvent, Sight
from gpuwarden.model.fault import Basis, Gravity, Remedy, Scope, Verdict
from gpuwarden.model.finding import Finding, Severity
from gpuwarden.model.ids import DeviceId
from gpuwarden.model.kernel_line import DriverLine, KernelLine, Kind, SxidForm, SxidLine, XidLine
from gpuwarden.model.kernel_record import KernelRecord, KernelTrust
from gpuwarden.model.memory import Memory
from gpuwarden.model.repair import FaultClass, Sign
from gpuwarden.policy import lockup, sight
from gpuwarden.policy.fault import catalogue, classes, line_verdict, polled, records
from gpuwarden.policy.scene import Scene

RECOVERY_XID = 154
"""Its number is told by an event of its own, by field 230 and by its line's text."""
TWICE_S = 5.0
"""The driver tells an Xid twice, by an event and by a line: the second within this says nothing new."""
BLIND_S = 30.0
"""A device that does not answer for so long is out of order, not merely slow."""

GRAVITY = {
    Severity.INFO: Gravity.INFO,
    Severity.WARNING: Gravity.WARNING,
    Severity.ERROR: Gravity.ERROR,
    Severity.CRITICAL: Gravity.FATAL,
}
LINES = frozenset(
    {
        Kind.FALLEN_OFF_BUS,
        Kind.RM_INIT_FAILED,
        Kind.GSP_HEARTBEAT_LOST,
        Kind.GSP_RATE_LIMITED,
        Kind.UVM_FATAL,
        Kind.API_MISMATCH,
        Kind.CHANNELS_TORN_DOWN,
        Kind.DRIVER_ASSERT,
        Kind.DRIVER_CHECK,
        Kind.REFUSED_PART,
    }
)
"""Lines without a number that may be signs of a fault; the others only tell."""


def of_look(cfg: Config, memory: Memory, scene: Scene, findings: list[Finding]) -> list[Sign]:
    """Everything one look says; nothing on a quiet node."""
    told: list[Sign] = []
    for record in records.unheard(memory, scene):
        if record.line is not None:
            told.extend(_of_line(memory, scene, record, record.line))
    for event in scene.snap.events:
        told.extend(_of_event(memory, scene, event, told))
    if not sight.is_let_go(memory):
        for device in scene.snap.devices:
            told.extend(_of_device(cfg, memory, scene, device))
    for finding in findings:
        if finding.fault and not _is_clearing(memory, finding):
            told.append(_of_finding(finding, scene.snap.at))
    return told


def _is_clearing(memory: Memory, finding: Finding) -> bool:
    """Whether a polled fault shows no more and is only waited for: its own probation, which is longer than a
    step of a repair has to help, is no evidence against that step."""
    sign = memory.health.signs.get(finding.key)
    return sign is not None and sign.clear_since is not None


def _of_event(memory: Memory, scene: Scene, event: DriverEvent, told: list[Sign]) -> Iterable[Sign]:
    if event.kind == "recovery-action":
        number = event.code or 0
        said = line_verdict.of_xid(RECOVERY_XID, number)
        yield from _of_recovery(number, event.at, event.device, scene, said)
        return
    if event.kind != "xid" or event.code in (None, RECOVERY_XID):
        return
    code = f"xid {event.code}"
    if _is_told(memory, told, code, event.device, event.at):
        return
    verdict = line_verdict.of_xid(event.code)
    yield _sign(
        code,
        event.at,
        verdict,
        classes.of_xid(event.code, verdict.scope, verdict.action),
        scene,
        device=event.device,
        pid=event.pid,
        text=_summary(event.code),
    )


def _is_told(
    memory: Memory, told: list[Sign], code: str, device: DeviceId | None, at: float
) -> bool:
    """Whether a line has said the same already, in this look or shortly before."""
    if any(s.code == code and s.device == device for s in told):
        return True
    for fault in memory.faults.values():
        is_known = fault.root.code == code or any(code == known for known, _ in fault.followers)
        if is_known and fault.root.device == device and abs(at - fault.last_at) <= TWICE_S:
            return True
    return False


def _of_line(
    memory: Memory, scene: Scene, record: KernelRecord, line: KernelLine
) -> Iterable[Sign]:
    at = records.said_at(record)
    device = records.device_at(memory, scene, line.pci)
    verdict = line_verdict.verdict(line)
    is_trusted = record.trust is not KernelTrust.UNTRUSTED
    if isinstance(line, XidLine):
        if line.recovery is not None:
            yield from _of_recovery(line.recovery.to, at, device, scene, verdict, is_trusted)
            return
        yield _sign(
            f"xid {line.xid}",
            at,
            verdict,
            classes.of_xid(line.xid, verdict.scope, verdict.action),
            scene,
            device=device,
            pid=line.pid,
            process=line.process or "",
            text=_summary(line.xid),
            is_trusted=is_trusted,
        )
    elif isinstance(line, SxidLine):
        if line.form is SxidForm.DATA:
            return
        row = catalogue.sxid(line.sxid)
        is_quiet = verdict.action in (Remedy.MONITOR, Remedy.IGNORE)
        yield _sign(
            f"sxid {line.sxid}",
            at,
            verdict,
            FaultClass.ADVISORY if is_quiet else FaultClass.FABRIC,
            scene,
            text=row.summary if row is not None else "",
            is_trusted=is_trusted,
        )
    elif line.kind in LINES:
        yield from _of_words(scene, at, is_trusted, line, verdict, device)


def _of_words(
    scene: Scene,
    at: float,
    is_trusted: bool,
    line: DriverLine,
    verdict: Verdict,
    device: DeviceId | None,
) -> Iterable[Sign]:
    """A line that says in words what others say by number."""
    if verdict.severity is Gravity.INFO and verdict.is_standalone:
        return
    cls = classes.of_verdict(verdict.scope, verdict.action)
    if line.kind is Kind.API_MISMATCH:
        cls = FaultClass.DRIVER
    code = f"xid {line.implied_xid}" if line.implied_xid is not None else str(line.kind)
    if line.implied_xid is not None:
        cls = classes.of_xid(line.implied_xid, verdict.scope, verdict.action)
    yield _sign(
        code,
        at,
        verdict,
        cls,
        scene,
        device=device,
        pid=line.pid,
        process=line.process or "",
        text=(line.message or str(line.kind).replace("_", " "))[:120],
        is_trusted=is_trusted,
    )


def _of_recovery(
    number: int,
    at: float,
    device: DeviceId | None,
    scene: Scene,
    verdict: Verdict,
    is_trusted: bool = True,
    *,
    is_condition: bool = False,
) -> Iterable[Sign]:
    yield _sign(
        f"recovery {number}",
        at,
        verdict,
        classes.of_verdict(verdict.scope, verdict.action),
        scene,
        device=device,
        text="",
        is_trusted=is_trusted,
        is_condition=is_condition,
    )


def _of_device(cfg: Config, memory: Memory, scene: Scene, device: Device) -> Iterable[Sign]:
    """What is wrong with a device as it is seen now."""
    state = memory.devices.get(device.id)
    if device.parent is not None or state is None:
        return
    now = scene.snap.at
    if device.sight is Sight.LOST:
        yield _condition(
            "lost",
            now,
            Scope.NODE,
            Gravity.FATAL,
            Remedy.REBOOT_NODE,
            FaultClass.LOST,
            device.id,
            "it is gone from the driver",
        )
    elif device.sight is Sight.BLIND and now - state.sight_since > BLIND_S:
        yield _condition(
            "hung",
            now,
            Scope.GPU,
            Gravity.ERROR,
            Remedy.REBOOT_NODE,
            FaultClass.HANG,
            device.id,
            "the driver does not answer for it",
        )
    number = device.recovery_action
    if number is not None and number > 0 and lockup.is_asking(cfg, state, device, now):
        verdict = line_verdict.of_xid(RECOVERY_XID, number)
        yield from _of_recovery(number, now, device.id, scene, verdict, is_condition=True)


def _of_finding(finding: Finding, at: float) -> Sign:
    """A polled rule's claim about a fault."""
    cls, action = polled.OF_FAULT.get(finding.fault, polled.OTHER)
    scope = finding.scope if finding.scope is not None else Scope.GPU
    return _condition(
        finding.fault,
        at,
        Scope(scope.value),
        GRAVITY[finding.severity],
        action,
        cls,
        finding.device,
        finding.summary,
    )


def _condition(
    code: str,
    at: float,
    scope: Scope,
    severity: Gravity,
    action: Remedy,
    cls: FaultClass,
    device: DeviceId | None,
    text: str,
) -> Sign:
    return Sign(
        code=code,
        at=at,
        scope=scope,
        severity=severity,
        action=action,
        cls=cls,
        device=device,
        is_condition=True,
        text=text,
    )


def _sign(
    code: str,
    at: float,
    verdict: Verdict,
    cls: FaultClass,
    scene: Scene,
    *,
    device: DeviceId | None = None,
    pid: int | None = None,
    process: str = "",
    text: str = "",
    is_trusted: bool = True,
    is_condition: bool = False,
) -> Sign:
    action = verdict.action
    if verdict.hint is not None and action is Remedy.WORKFLOW:
        action = verdict.hint
    if verdict.basis is Basis.UNKNOWN:
        cls = FaultClass.HARDWARE
    return Sign(
        code=code,
        at=at,
        scope=verdict.scope,
        severity=verdict.severity,
        action=action,
        cls=cls,
        device=device,
        tenant=scene.snap.named.get(pid) if pid is not None else None,
        pid=pid,
        process=process,
        caused_by=f"xid {verdict.root_xid}" if verdict.root_xid is not None else None,
        is_trusted=is_trusted,
        is_condition=is_condition,
        text=text,
    )


def _summary(code: int) -> str:
    row = catalogue.xid(code)
    return row.summary if row is not None else "a number the vendor has not published"
