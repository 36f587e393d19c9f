"""Certificates that run out: of nodes that ought to have renewed theirs, and of the authority."""

from collections.abc import Mapping

from gpuwarden.model.finding import Severity
from gpuwarden.model.fleet import FleetClaim

LEFT_RATIO = 0.25
"""Nodes renew at half of a certificate's life and try again and again: with so little left it does not work."""
AUTHORITY_S = 30 * 86_400.0
NAMES_SHOWN = 5


def claims(
    ends: Mapping[str, float], lasts_s: float, authority_ends: float, wall: float
) -> tuple[FleetClaim, ...]:
    """``ends``: by node, when its newest certificate does; ``lasts_s``: how long one holds. In Unix seconds."""
    found = []
    late = sorted(node for node, end in ends.items() if end - wall < lasts_s * LEFT_RATIO)
    if late:
        over = sum(1 for node in late if ends[node] <= wall)
        shown = ", ".join(late[:NAMES_SHOWN])
        more = f" and {len(late) - NAMES_SHOWN} more" if len(late) > NAMES_SHOWN else ""
        summary = (
            f"{len(late)} node{' has' if len(late) == 1 else 's have'} not renewed their certificate "
            f"({over} run out): {shown}{more}; they are not heard once it has"
        )
        severity = Severity.ERROR if over else Severity.WARNING
        found.append(
            FleetClaim(key="certificates", severity=severity, summary=summary, count=len(late))
        )
    left_s = authority_ends - wall
    if left_s < AUTHORITY_S:
        days = f"runs out in {left_s / 86_400:.1f} days" if left_s > 0 else "has run out"
        summary = f"the fleet's certificate authority {days}: gpuwarden authority prepare"
        found.append(FleetClaim(key="authority ends", severity=Severity.ERROR, summary=summary))
    return tuple(found)
