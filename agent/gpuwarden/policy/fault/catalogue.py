"""The catalogue of Xids and SXids: every code the vendor has published, with its verdict.

The rows are data (``tables/``, turned into ``catalogue_data.py``); ``check`` says whether they are
whole and whether this code knows every word in them. The agent runs it when it starts.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

from gpuwarden.model.fault import Gravity, Remedy, Scope
from gpuwarden.policy.fault.catalogue_data import NVLINK5, NVLINK_BITS, SXIDS, XIDS

LAST_XID = 176

LOCKING = frozenset({46, 61, 62, 79, 95, 109, 119, 120, 140, 143})
"""The device, or its firmware, has stopped doing work: 46 GPU stopped processing, 61/62 internal
micro-controller halt, 79 fallen off the bus, 95 uncontained error, 119/120 GSP time-out or error,
140 unrecovered ECC, 143 GPU initialisation, 109 context switch time-out (application scope, but the
device does not answer while it lasts)."""

HINTS = frozenset({*(remedy.value for remedy in Remedy), "follow_recovery"})
GRAVITIES = frozenset({"nonfatal", "link_fatal", "fatal"})
LOOK_AT = frozenset(
    {
        "none",
        "contact_support",
        "host",
        "link_signal",
        "link_signal_and_cables",
        "nvlink_failure_flow",
        "peer_device",
        "report_if_alone",
        "report_if_daily",
        "software_or_user",
        "software_or_user_or_link_signal",
    }
)
MEANINGS = frozenset(
    {
        "ignore",
        "secondary",
        "corrected_threshold",
        "report_if_repeated",
        "field_diag_if_repeated",
        "signal",
        "mechanical_or_hardware",
        "ecc_parity",
        "fabric_reset",
        "unexpected",
    }
)
_NOT_FOR_FATAL = frozenset({Remedy.IGNORE, Remedy.MONITOR, Remedy.RESTART_APP})

Xids = Mapping[int, tuple[str, str, str, str, str]]
Sxids = Mapping[int, tuple[str, str, bool, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Xid:
    """One row of the Xid catalogue; ``is_retired``: the vendor lists it unused on current parts."""

    code: int
    mnemonic: str
    summary: str
    scope: Scope
    severity: Gravity
    action: Remedy
    is_retired: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Sxid:
    """One row of the SXid catalogue."""

    code: int
    mnemonic: str
    summary: str
    is_fatal: bool
    action: Remedy


@cache
def xid(code: int) -> Xid | None:
    """The row of an Xid; ``None``: the vendor has not published such a number."""
    row = XIDS.get(code)
    if row is None:
        return None
    mnemonic, summary, scope, severity, action = row
    retired = "[retired] "
    return Xid(
        code=code,
        mnemonic=mnemonic,
        summary=summary.removeprefix(retired),
        scope=Scope(scope),
        severity=Gravity(severity),
        action=Remedy(action),
        is_retired=summary.startswith(retired),
    )


@cache
def sxid(code: int) -> Sxid | None:
    """The row of an SXid; ``None``: no such number is known."""
    row = SXIDS.get(code)
    if row is None:
        return None
    mnemonic, summary, is_fatal, action = row
    return Sxid(
        code=code, mnemonic=mnemonic, summary=summary, is_fatal=is_fatal, action=Remedy(action)
    )


def check(xids: Xids = XIDS, sxids: Sxids = SXIDS) -> list[str]:
    """What is wrong with the catalogue, one sentence each; empty: it is whole."""
    return [*_check_xids(xids), *_check_sxids(sxids), *_check_nvlink(xids)]


def _check_xids(xids: Xids) -> list[str]:
    wrong = [f"Xid {code}: missing" for code in range(1, LAST_XID + 1) if code not in xids]
    wrong += [f"Xid {code}: locks a device, and is missing" for code in LOCKING - xids.keys()]
    for code, (mnemonic, summary, scope, severity, action) in xids.items():
        place = f"Xid {code}"
        if not mnemonic or not summary:
            wrong.append(f"{place}: no name or no summary")
        wrong += _unknown(place, "scope", scope, Scope)
        wrong += _unknown(place, "severity", severity, Gravity)
        wrong += _unknown(place, "action", action, Remedy)
        if severity == Gravity.FATAL and action in _NOT_FOR_FATAL:
            wrong.append(f"{place}: fatal, and nothing is done about it ({action})")
        if scope == Scope.INFO and severity in (Gravity.ERROR, Gravity.FATAL):
            wrong.append(f"{place}: {severity} of scope info")
    return wrong


def _check_sxids(sxids: Sxids) -> list[str]:
    wrong = [] if sxids else ["SXids: missing"]
    for code, (_, summary, is_fatal, action) in sxids.items():
        place = f"SXid {code}"
        if not summary:
            wrong.append(f"{place}: no summary")
        if not 10_000 <= code <= 99_999:
            wrong.append(f"{place}: not a number of five digits")
        wrong += _unknown(place, "action", action, Remedy)
        if is_fatal and action in _NOT_FOR_FATAL:
            wrong.append(f"{place}: fatal, and nothing is done about it ({action})")
    return wrong


def _check_nvlink(xids: Xids) -> list[str]:
    wrong = []
    for (code, unit, subcode, status), (*_, severity, action, look_at) in NVLINK5.items():
        place = f"NVLink 5 rule {code} {unit} {subcode} {status:#010x}"
        if code not in xids:
            wrong.append(f"{place}: no such Xid")
        if action not in HINTS or severity not in GRAVITIES or look_at not in LOOK_AT:
            wrong.append(f"{place}: unknown word among {severity}, {action}, {look_at}")
    for (register, bit), meaning in NVLINK_BITS.items():
        if meaning not in MEANINGS or not 1 <= register <= 7 or not 0 <= bit <= 31:
            wrong.append(f"Xid 74 register {register} bit {bit}: {meaning} is not understood")
    return wrong


def _unknown(place: str, what: str, word: str, known: Callable[[str], object]) -> list[str]:
    try:
        known(word)
    except ValueError:
        return [f"{place}: {what} {word!r} is not known"]
    return []
