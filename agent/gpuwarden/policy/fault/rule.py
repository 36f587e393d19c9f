"""Rule fault: what the driver, the kernel or a service said is wrong, one finding a cause."""

from gpuwarden.model.finding import Finding, Scope, Severity
from gpuwarden.model.ids import DeviceId, TenantId
from gpuwarden.model.memory import Memory
from gpuwarden.model.repair import NODE, Fault
from gpuwarden.policy.scene import Scene

SEVERITY = {
    "info": Severity.INFO,
    "warning": Severity.WARNING,
    "error": Severity.ERROR,
    "fatal": Severity.CRITICAL,
}

SCOPES = frozenset(Scope)


def find(memory: Memory, scene: Scene) -> list[Finding]:
    """One finding a fault, while it stands. A polled condition has a finding of its own already."""
    return [_finding(f, scene) for f in memory.faults.values() if not f.root.is_condition]


def _finding(fault: Fault, scene: Scene) -> Finding:
    root = fault.root
    severity = SEVERITY.get(root.severity, Severity.ERROR)
    if root.scope == "app":
        severity = min(
            severity, Severity.WARNING
        )  # it is the application's, and nobody's to be woken for
    if not root.is_trusted or fault.is_excused:
        severity = min(severity, Severity.WARNING)
    tenant = fault.accused if root.scope != "app" else next(iter(fault.tenants), None)
    used, limit = _holds(tenant, root.device, scene)
    return Finding(
        rule="fault",
        key=f"fault {fault.key}",
        severity=severity,
        summary=_summary(fault, scene),
        tenant=tenant,
        device=root.device,
        fault=str(root.cls),
        scope=Scope(root.scope) if root.scope in SCOPES else None,
        evidence=_evidence(fault, scene),
        used_bytes=used,
        limit_bytes=limit,
    )


def _holds(
    tenant: TenantId | None, device: DeviceId | None, scene: Scene
) -> tuple[int | None, int | None]:
    """What a tenant holds on a device, and may: a part of the cause, whoever is blamed for what."""
    known = scene.tenants.get(tenant) if tenant is not None else None
    if known is None or device is None:
        return None, None
    use = scene.use_of(known.id, device)
    return (use.used_bytes if use is not None else None), known.hard_bytes


def _summary(fault: Fault, scene: Scene) -> str:
    root = fault.root
    device = scene.devices.get(root.device) if root.device is not None else None
    where = f"GPU {device.index}" if device is not None else "the node"
    if root.subject != NODE and device is None:
        where = root.subject
    text = f"{where}: {words(root.code)}"
    if root.text:
        text += f", {root.text}"
    doubt = "" if root.is_trusted else " (from a log that others can write)"
    return text + doubt


def words(code: str) -> str:
    """A code as people write it."""
    head, _, number = code.partition(" ")
    known = {"xid": "Xid", "sxid": "SXid", "recovery": "the driver asks for recovery"}
    return f"{known[head]} {number}" if head in known and number else code


def _evidence(fault: Fault, scene: Scene) -> tuple[tuple[str, str], ...]:
    root = fault.root
    said: list[tuple[str, str]] = [("said", f"{words(root.code)}, {fault.count} times")]
    if fault.followers:
        rest = ", ".join(f"{words(code)} x{count}" for code, count in fault.followers)
        said.append(("followed by", rest))
    if root.pid is not None:
        said.append(("process", f"{root.process or '?'} (pid {root.pid})"))
    names = [scene.tenants[t].name if t in scene.tenants else str(t) for t in fault.tenants]
    if names:
        said.append(("tenants named", ", ".join(names[:8])))
    if fault.recovery:
        said.append(("driver's recovery action", str(fault.recovery)))
    if fault.repairs:
        said.append(("repaired before", f"{fault.repairs} times"))
    return tuple(said)
