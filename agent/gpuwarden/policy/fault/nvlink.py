"""What the registers in an NVLink fault's line say: Xid 74 by bits, 144 to 150 by unit and status."""

from dataclasses import dataclass
from functools import cache

from gpuwarden.model.fault import Remedy
from gpuwarden.model.kernel_line import Nvlink, Nvlink5
from gpuwarden.policy.fault.catalogue_data import NVLINK5, NVLINK_BITS

UNKNOWN = "unknown"
_WORST_FIRST = (
    UNKNOWN,
    "unexpected",
    "fabric_reset",
    "ecc_parity",
    "mechanical_or_hardware",
    "signal",
    "field_diag_if_repeated",
    "report_if_repeated",
    "secondary",
    "corrected_threshold",
    "ignore",
)
_HARMLESS = frozenset({"corrected_threshold", "ignore"})
_SUBCODE_SHIFT, _SUBCODE_MASK = 20, 0x3F
_SOURCE_BITS = 5
_CODE_SINCE_R575 = 0x7F
_CODE_BEFORE_R575 = 0x3FF
_FIRST_XID = 144


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitFault:
    """A row of the vendor's decode table. ``layout``: which drivers write the interrupt info so.

    ``remedy`` ``None``: the row says to follow the driver's recovery number.
    """

    subcode: int
    layout: str
    severity: str
    remedy: Remedy | None
    look_at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkFault:
    """What the set bits of an Xid 74 mean, the worst first, each once; a bit that no table has is
    ``unknown``. Empty when the line has no registers or none is set."""

    meanings: tuple[str, ...]

    @property
    def remedy(self) -> Remedy | None:
        """What the bits alone ask for; ``None``: they say nothing."""
        if not self.meanings:
            return None
        if _HARMLESS.issuperset(self.meanings):
            return Remedy.MONITOR
        return Remedy.RESET_GPU if self.meanings[0] == "fabric_reset" else Remedy.CONTACT_SUPPORT


def decode(xid: int, fault: Nvlink5) -> UnitFault | None:
    """The vendor's row for a fault of an NVLink 5 unit; ``None``: the line has no registers, or they
    are not those that this unit writes."""
    if len(fault.registers) < 2:
        return None
    info, status = (int(word, 16) for word in fault.registers[:2])
    subcode = info >> _SUBCODE_SHIFT & _SUBCODE_MASK
    for unit in _units(xid):
        if fault.unit not in (unit, *unit.split("/")):
            continue
        row = NVLINK5.get((xid, unit, subcode, status))
        if row is None:
            continue
        before, since, severity, action, look_at = row
        layout = _layout(xid, info, before, since)
        if layout is None:
            continue
        return UnitFault(
            subcode=subcode,
            layout=layout,
            severity=severity,
            remedy=None if action == "follow_recovery" else Remedy(action),
            look_at=look_at,
        )
    return None


def _layout(xid: int, info: int, before: int, since: int) -> str | None:
    """Drivers before R575 put the unit's code above five bits of its block; later ones begin with
    it."""
    block = xid - _FIRST_XID + 1 if before or since else 0
    if info & _CODE_BEFORE_R575 == before << _SOURCE_BITS | block:
        return "before R575"
    return "since R575" if info & _CODE_SINCE_R575 == since else None


@cache
def _units(xid: int) -> tuple[str, ...]:
    return tuple(dict.fromkeys(unit for code, unit, _, _ in NVLINK5 if code == xid))


def decode_bits(fault: Nvlink) -> LinkFault:
    """The meanings of an Xid 74's seven register words."""
    found = set()
    for number, word in enumerate(fault.registers, start=1):
        value = int(word, 16)
        for bit in range(value.bit_length()):
            if value >> bit & 1:
                found.add(NVLINK_BITS.get((number, bit), UNKNOWN))
    return LinkFault(meanings=tuple(word for word in _WORST_FIRST if word in found))
