"""Whether something on the GPUs explains why a service's guardrail is red: before a version is blamed.

A neighbour over its quota, a fault of a device, one that is locked up or unseen, or clocks held down: on a device
that carried the service, from about when the breach began, and on every node that shows the breach. A service that
is bad where nothing happened to the GPUs is bad by itself.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from gpuwarden.model.evaluation import Verdict

LEAD_S = 600.0
"""A trouble that began longer before the verdict is none of its cause: longest dwell and window of the default
pack of guardrails (5 min each). What stood for days and was borne does not excuse what is new."""
AFTER_S = 60.0
"""A trouble that was over for so long when the breach began did not make it."""
THROTTLED_MIN = 0.3
"""Share of the time with clocks held down that slows a service down noticeably; less is everyday."""
THROTTLED_GROWTH = 2.0
"""... and so many times as much as before the breach: a host that always ran hot explains nothing new."""
NAMED_MAX = 3


class CauseKind(StrEnum):
    """What was found on the devices, the surest first."""

    LOCKED = "locked"
    """A device does no work, or cannot be seen."""
    FAULT = "fault"
    """The driver reported a fault of a device (an Xid)."""
    NEIGHBOUR = "neighbour"
    """Another tenant took memory that was not its own."""
    THROTTLE = "throttle"
    """The clocks were held down."""
    NONE = "none"
    """Everything was looked at, and nothing found: ruled out."""
    UNKNOWN = "unknown"
    """Some nodes that carried the service could not be looked at: not ruled out."""


OF_RULE = {
    "locked": CauseKind.LOCKED,
    "sight": CauseKind.LOCKED,
    "dstate": CauseKind.LOCKED,
    "fault": CauseKind.FAULT,
    "ecc": CauseKind.FAULT,
    "remap": CauseKind.FAULT,
    "recovery": CauseKind.FAULT,
    "nvlink": CauseKind.FAULT,
    "pcie": CauseKind.FAULT,
    "fabric": CauseKind.FAULT,
    "quota": CauseKind.NEIGHBOUR,
    "pressure": CauseKind.NEIGHBOUR,
    "reserve": CauseKind.NEIGHBOUR,
    "arrival": CauseKind.NEIGHBOUR,
    "unattributed": CauseKind.NEIGHBOUR,
    "throttle": CauseKind.THROTTLE,
    "thermal": CauseKind.THROTTLE,
    "power": CauseKind.THROTTLE,
}
"""By the rule of a node's incident; any other explains nothing."""
_RANK = {kind: place for place, kind in enumerate(CauseKind)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """An incident of a node."""

    node: str
    incident: str
    rule: str
    opened_wall: float
    closed_wall: float | None = None
    device: str = ""
    """Empty: of the whole node."""
    tenant: str = ""
    """Who is accused or named; empty: nobody."""
    tenant_name: str = ""
    summary: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Carrier:
    """Where the cohort ran while its guardrail was red, as one node told."""

    node: str
    tenant: str = ""
    devices: frozenset[str] = frozenset()
    """Empty: not told."""
    is_bad: bool | None = None
    """Whether this node's own numbers break the limit; None: not known."""
    throttled: float | None = None
    """Share of the time since about when the breach began in which clocks were held down; None: not known."""
    throttled_before: float | None = None
    is_heard: bool = True
    """Whether its incidents are known up to now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """What explains a verdict."""

    kind: CauseKind
    summary: str
    """For people, with node and device."""
    node: str = ""
    device: str = ""
    incident: str = ""
    tenant: str = ""
    """Of a neighbour: who."""
    nodes: tuple[str, ...] = ()
    """On which such a trouble was found."""
    is_whole: bool = False
    """Whether it explains every node that shows the breach."""

    @property
    def is_gpu(self) -> bool:
        """Whether a version is not to be blamed: act on this instead."""
        return self.is_whole and self.kind not in (CauseKind.NONE, CauseKind.UNKNOWN)

    @property
    def is_ruled_out(self) -> bool:
        """Whether the GPUs certainly did not do it: all were looked at, and they do not explain it whole."""
        return self.kind is not CauseKind.UNKNOWN and not self.is_whole


def cause_of(verdict: Verdict, incidents: Iterable[Trouble], samples: Sequence[Carrier]) -> Cause:
    """What on the GPUs explains this verdict. ``incidents`` of any node; ``samples``: where the cohort ran."""
    bad = [each for each in samples if each.is_bad]
    looked = bad or [each for each in samples if each.is_bad is None] or list(samples)
    if not looked:
        return Cause(kind=CauseKind.UNKNOWN, summary="where the service ran is not known")
    troubles = tuple(incidents)
    found: dict[str, Cause] = {}
    for carrier in looked:
        ranked = [*_troubles(verdict, troubles, carrier), *_clocks(carrier)]
        if ranked:
            found[carrier.node] = min(ranked, key=lambda each: _RANK[each.kind])
    deaf = [each.node for each in looked if not each.is_heard and each.node not in found]
    if not found:
        return _nothing(looked, deaf)
    first = min(found.values(), key=lambda each: (_RANK[each.kind], each.node))
    rest = [each.node for each in looked if each.node not in found]
    text = first.summary
    if len(found) > 1:
        text += f"; likewise on {_named([n for n in found if n != first.node])}"
    if rest:
        text += (
            f"; but {_named(rest)} {'shows' if len(rest) == 1 else 'show'} the breach without it"
        )
    kind = CauseKind.UNKNOWN if rest and set(rest) <= set(deaf) else first.kind
    return Cause(
        kind=kind,
        summary=text,
        node=first.node,
        device=first.device,
        incident=first.incident,
        tenant=first.tenant,
        nodes=tuple(sorted(found)),
        is_whole=not rest,
    )


def _troubles(verdict: Verdict, troubles: Iterable[Trouble], carrier: Carrier) -> list[Cause]:
    found = []
    for each in troubles:
        kind = OF_RULE.get(each.rule)
        if kind is None or each.node != carrier.node or not _is_in_time(verdict, each):
            continue
        if each.device and carrier.devices and each.device not in carrier.devices:
            continue
        if each.tenant and each.tenant == carrier.tenant:
            continue  # its own doing: the version's, not a neighbour's
        who = each.tenant_name or each.tenant
        where = f"node {each.node}" + (f", GPU {each.device}" if each.device else "")
        what = each.summary or each.rule
        text = f"{where}: {what} (incident {each.incident})"
        if kind is CauseKind.NEIGHBOUR and who and who not in what:
            text = f"{where}: neighbour {who}: {what} (incident {each.incident})"
        found.append(
            Cause(
                kind=kind,
                summary=text,
                node=each.node,
                device=each.device,
                incident=each.incident,
                tenant=who if kind is CauseKind.NEIGHBOUR else "",
            )
        )
    return found


def _is_in_time(verdict: Verdict, trouble: Trouble) -> bool:
    begun = verdict.since_wall - LEAD_S
    if not begun <= trouble.opened_wall <= verdict.at_wall:
        return False
    closed = trouble.closed_wall
    return closed is None or closed >= verdict.since_wall - AFTER_S


def _clocks(carrier: Carrier) -> list[Cause]:
    share, before = carrier.throttled, carrier.throttled_before
    if share is None or share < THROTTLED_MIN:
        return []
    if before is None or share < before * THROTTLED_GROWTH:
        return []
    text = f"node {carrier.node}: clocks were held down for {share:.0%} of the time ({before:.0%} before)"
    return [Cause(kind=CauseKind.THROTTLE, summary=text, node=carrier.node)]


def _nothing(looked: Sequence[Carrier], deaf: Sequence[str]) -> Cause:
    if deaf:
        text = f"{_named(deaf)} could not be looked at"
        return Cause(kind=CauseKind.UNKNOWN, summary=text, nodes=tuple(sorted(deaf)))
    devices = sum(len(each.devices) for each in looked)
    what = f"the {devices} GPU{'' if devices == 1 else 's'}" if devices else "any GPU"
    count = len({each.node for each in looked})
    text = f"nothing befell {what} on {count} node{'' if count == 1 else 's'} that carried it"
    return Cause(kind=CauseKind.NONE, summary=text)


def _named(nodes: Sequence[str]) -> str:
    names = sorted(set(nodes))
    more = f" and {len(names) - NAMED_MAX} more" if len(names) > NAMED_MAX else ""
    return ", ".join(names[:NAMED_MAX]) + more
