"""What one kernel line means: its reach, its gravity, and what is to be done first.

Precedence, the strongest first:

1. A line that is the consequence of another fault ("caused by previous Xid", and each Xid 45) is no
   verdict by itself, whatever else is known.
2. The driver's recovery number: in an Xid 154 line, or NVML field 230 where the caller knows it. It
   rules the action; the reach and gravity of the line's own code stay where they are the greater. 0
   lowers nothing: it may be older than the fault.
3. The reset flags of a memory error (94, 95), which only ever ask for more than the catalogue.
4. The word Fatal or Non-fatal of an SXid line, or the severity number that says the same.
5. The catalogue.

A line's verdict does not depend on whom it concerns: a MIG instance's fault has the reach of its code
(a reset takes all instances), and what may be done to a protected tenant is for the guard to say.
"""

from collections.abc import Mapping
from dataclasses import replace

from gpuwarden.model.fault import Basis, Gravity, RecoveryAction, Remedy, Scope, Verdict
from gpuwarden.model.kernel_line import DriverLine, KernelLine, Kind, SxidForm, SxidLine, XidLine
from gpuwarden.model.tenant import TenantClass
from gpuwarden.policy.fault import catalogue, nvlink

_REACH = (Scope.INFO, Scope.APP, Scope.LINK, Scope.GPU, Scope.NODE)
_WEIGHT = (Gravity.INFO, Gravity.WARNING, Gravity.ERROR, Gravity.FATAL)
_RECOVERY_XID = 154
SYMPATHETIC = frozenset({45})
"""Channels taken down early: the consequence of another fault, or of the end of their application."""


def _says(
    scope: Scope, severity: Gravity, action: Remedy, basis: Basis, root_xid: int | None = None
) -> Verdict:
    return Verdict(scope=scope, severity=severity, action=action, basis=basis, root_xid=root_xid)


_BY_RECOVERY: Mapping[RecoveryAction, tuple[Scope, Gravity, Remedy]] = {
    RecoveryAction.NONE: (Scope.INFO, Gravity.INFO, Remedy.MONITOR),
    RecoveryAction.GPU_RESET: (Scope.GPU, Gravity.FATAL, Remedy.RESET_GPU),
    RecoveryAction.NODE_REBOOT: (Scope.NODE, Gravity.FATAL, Remedy.REBOOT_NODE),
    RecoveryAction.DRAIN_P2P: (Scope.LINK, Gravity.ERROR, Remedy.WORKFLOW),
    RecoveryAction.DRAIN_AND_RESET: (Scope.GPU, Gravity.ERROR, Remedy.RESET_GPU),
    RecoveryAction.RECOVER_IMEX_DOMAIN: (Scope.NODE, Gravity.ERROR, Remedy.WORKFLOW),
    RecoveryAction.BUS_RESET: (Scope.GPU, Gravity.FATAL, Remedy.RESET_GPU),
    RecoveryAction.SYSTEM_REBOOT: (Scope.NODE, Gravity.FATAL, Remedy.REBOOT_NODE),
}
_UNKNOWN_RECOVERY = (Scope.GPU, Gravity.ERROR, Remedy.CONTACT_SUPPORT)
UNKNOWN_CODE = _says(Scope.GPU, Gravity.ERROR, Remedy.CONTACT_SUPPORT, Basis.UNKNOWN)
"""A number that the vendor has not published: people are told, and nothing is done to the device."""

_NOTHING = _says(Scope.INFO, Gravity.INFO, Remedy.IGNORE, Basis.LINE)
_BY_KIND: Mapping[Kind, Verdict] = {
    Kind.GPU_UUID: _NOTHING,
    Kind.GPU_SERIAL: _NOTHING,
    Kind.DRIVER_NOISE: _NOTHING,
    Kind.DRIVER_ASSERT: _says(Scope.INFO, Gravity.INFO, Remedy.MONITOR, Basis.LINE),
    Kind.DRIVER_CHECK: _says(Scope.INFO, Gravity.INFO, Remedy.MONITOR, Basis.LINE),
    Kind.RC_WATCHDOG: _says(Scope.APP, Gravity.WARNING, Remedy.MONITOR, Basis.LINE),
    Kind.PEERMEM_ERROR: _says(Scope.APP, Gravity.WARNING, Remedy.MONITOR, Basis.LINE),
    Kind.HUNG_TASK: _says(Scope.NODE, Gravity.WARNING, Remedy.MONITOR, Basis.LINE),
    Kind.NVLINK_MASK_FAILED: _says(Scope.LINK, Gravity.ERROR, Remedy.MONITOR, Basis.LINE),
    Kind.REFUSED_HEAD: _says(Scope.GPU, Gravity.ERROR, Remedy.WORKFLOW, Basis.LINE),
    Kind.REFUSED_PART: _says(Scope.GPU, Gravity.ERROR, Remedy.WORKFLOW, Basis.LINE),
    Kind.API_MISMATCH: _says(Scope.NODE, Gravity.ERROR, Remedy.UPDATE_SOFTWARE, Basis.LINE),
    Kind.UVM_FATAL: _says(Scope.NODE, Gravity.FATAL, Remedy.REBOOT_NODE, Basis.LINE),
}
_AS_XID: Mapping[Kind, int] = {
    Kind.FALLEN_OFF_BUS: 79,
    Kind.RM_INIT_FAILED: 143,
    Kind.GSP_HEARTBEAT_LOST: 120,
    Kind.GSP_RATE_LIMITED: 119,
}
"""Lines without a number that say what an Xid says."""
_AS_XID_BY_STATUS: Mapping[str, int] = {"NV_ERR_GPU_IS_LOST": 79}
_RESET_ASKED = _says(Scope.GPU, Gravity.FATAL, Remedy.RESET_GPU, Basis.LINE)

_DISRUPTIVE = frozenset({Remedy.RESTART_FABRIC, Remedy.RESET_GPU, Remedy.REBOOT_NODE})
_SWITCH_WIDE = ("HOST_", "SOE_", "NXBAR_", "AFS_", "CCI_", "OSFP_")
"""Units of an NVSwitch that serve all of its ports."""


def verdict(line: KernelLine, recovery: int | None = None) -> Verdict:
    """The verdict of one line. ``recovery``: NVML field 230 of its device as read since the line."""
    return _with(_of(line), None if isinstance(line, SxidLine) else recovery)


def of_xid(code: int, recovery: int | None = None) -> Verdict:
    """The verdict of an Xid of which only the number is known, as NVML's events have it."""
    return _with(_by_number(code), recovery)


def may_blame(said: Verdict, tenant: TenantClass) -> bool:
    """Whether a line that names a tenant's process is a finding of that tenant's own: a fault that
    exceeds its application, of somebody who is not protected. An application's Xid convicts nobody,
    and neither does a number that nobody knows."""
    if tenant is TenantClass.PROTECTED or said.basis is Basis.UNKNOWN:
        return False
    return said.is_standalone and said.scope in (Scope.LINK, Scope.GPU, Scope.NODE)


def _with(said: Verdict, recovery: int | None) -> Verdict:
    if not recovery or not said.is_standalone or said.basis is Basis.RECOVERY:
        return said
    return _ruled(said, recovery)


def _of(line: KernelLine) -> Verdict:
    if isinstance(line, XidLine):
        return _of_xid(line)
    if isinstance(line, SxidLine):
        return _of_sxid(line)
    return _of_driver(line)


def _of_xid(line: XidLine) -> Verdict:
    said = _by_number(line.xid)
    if line.caused_by_xid is not None:
        return _follow_on(said.scope, line.caused_by_xid)
    if line.recovery is not None and line.xid == _RECOVERY_XID:
        return _ruled(_NOTHING, line.recovery.to)
    if line.containment is not None:
        return _contained(line, said)
    if said.action is Remedy.WORKFLOW:
        return replace(said, hint=_hint(line))
    return said


def _by_number(code: int) -> Verdict:
    row = catalogue.xid(code)
    if row is None:
        return UNKNOWN_CODE
    basis = Basis.FOLLOW_ON if code in SYMPATHETIC else Basis.CATALOGUE
    return _says(row.scope, row.severity, row.action, basis)


def _follow_on(scope: Scope, root_xid: int) -> Verdict:
    """As Xid 45's own row: of no weight, and what to do is to be seen from the fault before it."""
    return _says(scope, Gravity.INFO, Remedy.WORKFLOW, Basis.FOLLOW_ON, root_xid)


def _ruled(said: Verdict, number: int) -> Verdict:
    """A verdict after the driver has given its advice."""
    known = number in RecoveryAction.__members__.values()
    advice = RecoveryAction(number) if known else None
    scope, severity, action = _BY_RECOVERY[advice] if advice is not None else _UNKNOWN_RECOVERY
    return replace(
        said,
        scope=max(said.scope, scope, key=_REACH.index),
        severity=max(said.severity, severity, key=_WEIGHT.index),
        action=action,
        basis=Basis.RECOVERY,
        recovery=advice,
        hint=None,
    )


def _contained(line: XidLine, said: Verdict) -> Verdict:
    flags = line.containment
    if flags is None or not (flags.reset_needed or flags.drain_reset_needed):
        return said
    advice = RecoveryAction.GPU_RESET if flags.reset_needed else RecoveryAction.DRAIN_AND_RESET
    if said.action is Remedy.RESET_GPU:
        return said
    return replace(_ruled(said, advice), basis=Basis.CONTAINMENT)


def _hint(line: XidLine) -> Remedy | None:
    """What the line's own details add to "it depends"."""
    if line.nvlink5 is not None:
        row = nvlink.decode(line.xid, line.nvlink5)
        return None if row is None else row.remedy
    if line.nvlink is not None:
        return nvlink.decode_bits(line.nvlink).remedy
    if line.dbe is not None or line.dram is not None:
        return Remedy.RESET_GPU  # a double-bit error: reset, drained first when a row remap follows
    return None


def _of_sxid(line: SxidLine) -> Verdict:
    row = catalogue.sxid(line.sxid)
    word = _word(line)
    is_wide = row is not None and row.mnemonic.startswith(_SWITCH_WIDE)
    scope = Scope.NODE if is_wide else Scope.LINK
    if row is None:
        severity = Gravity.FATAL if word else Gravity.ERROR if word is None else Gravity.WARNING
        return _says(scope, severity, Remedy.CONTACT_SUPPORT, Basis.UNKNOWN)
    is_fatal = row.is_fatal if word is None else word
    severity = Gravity.FATAL if is_fatal else Gravity.WARNING
    if is_fatal == row.is_fatal:
        basis = Basis.CATALOGUE if word is None else Basis.WORD
        return _says(scope, severity, row.action, basis)
    return _says(scope, severity, _reworded(row.action, is_fatal), Basis.WORD)


def _reworded(action: Remedy, is_fatal: bool) -> Remedy:
    """A row's action where the line's word contradicts the row."""
    if is_fatal:
        return Remedy.WORKFLOW if action is Remedy.MONITOR else action
    return Remedy.MONITOR if action in _DISRUPTIVE else action


def _word(line: SxidLine) -> bool | None:
    """Fatal, non-fatal, or not said: the word of an event, the number of a severity line."""
    if line.form is SxidForm.SEVERITY:
        return None if line.severity is None else line.severity >= 1
    return line.fatal


def _of_driver(line: DriverLine) -> Verdict:
    if line.kind is Kind.CHANNELS_TORN_DOWN and line.caused_by_xid is not None:
        return _follow_on(Scope.GPU, line.caused_by_xid)
    if line.reset_required:
        return _RESET_ASKED
    code = _AS_XID.get(line.kind) or _AS_XID_BY_STATUS.get(line.status or "")
    if code is not None:
        return replace(_by_number(code), basis=Basis.LINE)
    return _BY_KIND[line.kind]
