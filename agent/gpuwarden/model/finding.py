"""Findings: a rule's claim with its evidence."""

from dataclasses import dataclass
from enum import IntEnum, StrEnum

from gpuwarden.model.ids import DeviceId, TenantId


class Severity(IntEnum):
    """How bad, for people and for ordering."""

    INFO = 0
    WARNING = 1
    ERROR = 2
    CRITICAL = 3


class Scope(StrEnum):
    """How far a fault reaches: what has to be given up to be rid of it."""

    APP = "app"
    GPU = "gpu"
    LINK = "link"
    NODE = "node"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A claim. ``key`` is stable while the claim lasts: it deduplicates and joins to an incident.

    ``is_confirmed`` is what the ladder needs before harm: for a hard overrun, a second list.
    ``evidence`` holds name/value pairs for people; decisions never read it.
    """

    rule: str
    key: str
    severity: Severity
    summary: str
    tenant: TenantId | None = None
    device: DeviceId | None = None
    service: str | None = None
    is_confirmed: bool = True
    used_bytes: int | None = None
    limit_bytes: int | None = None
    evidence: tuple[tuple[str, str], ...] = ()
    fault: str = ""
    """Class of the fault (``row-remap-pending``), for whoever decides what heals it; empty: none."""
    scope: Scope | None = None
    """How far the fault reaches; only where there is one."""
