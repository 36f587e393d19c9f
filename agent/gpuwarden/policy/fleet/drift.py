"""Which nodes do not have the policy they should have, and what of that the whole fleet should know."""

from collections.abc import Mapping, Sequence

from gpuwarden.config_aggregator import PolicyConfig
from gpuwarden.model.finding import Severity
from gpuwarden.model.fleet import FleetClaim
from gpuwarden.model.policy import Drift, PolicyHead, PolicyStanding, Rollout, RolloutState
from gpuwarden.policy.fleet.rollout import is_for, newest_first, wanted

GRAVE = frozenset({"refused", "expired", "foreign"})


def drifts(
    heads: Mapping[int, PolicyHead],
    rollouts: Mapping[int, Rollout],
    nodes: Sequence[PolicyStanding],
    wall: float,
    digests: Mapping[int, str],
) -> list[Drift]:
    """Every node that is not where it should be, by name. ``digests``: of the bundles that were published."""
    found = []
    heads = newest_first(heads)
    for node in sorted(nodes, key=lambda each: each.node):
        version = wanted(heads, rollouts, node.node, node.group, wall)
        state, why = _state(node, version, digests)
        if state:
            severity = Severity.ERROR if state in GRAVE else Severity.WARNING
            found.append(
                Drift(
                    node=node.node,
                    group=node.group,
                    version=node.report.version,
                    wanted=version,
                    state=state,
                    why=why,
                    severity=severity,
                )
            )
    return found


def _state(node: PolicyStanding, version: int, digests: Mapping[int, str]) -> tuple[str, str]:
    """Empty where all is as it should be."""
    report = node.report
    published = digests.get(report.version, "")
    # A node that does not say which bundle it has is no proof of anything.
    if report.digest and published and report.digest != published:
        return "foreign", (
            f"its policy {report.version} is not the one that was published: it says "
            f"{report.digest[:12]}, published was {published[:12]}"
        )
    refusal = next((r for r in reversed(report.refusals) if r.version in (version, 0)), None)
    if report.version < version and refusal is not None:
        return "refused", refusal.why
    if report.is_expired:
        return "expired", "its policy has run out: it only observes"
    if report.version < version:
        why = "it is on its way" if node.is_connected else "the node is not heard"
        return "behind", why
    if report.version > version:
        return "ahead", f"{report.version} is not known here, or was not meant for it"
    return "", ""


def claims(
    cfg: PolicyConfig,
    heads: Mapping[int, PolicyHead],
    rollouts: Mapping[int, Rollout],
    found: Sequence[Drift],
    since: Mapping[str, float],
    total: int,
    now: float,
    wall: float,
) -> tuple[FleetClaim, ...]:
    """What the fleet as a whole has to be told. ``since``: when each node began to drift (monotonic seconds)."""
    told = []
    long = [d for d in found if now - since.get(d.node, now) >= cfg.drift_s]
    if long and len(long) > cfg.drift_ratio * total:
        names = ", ".join(f"{d.node} ({d.state})" for d in long[:5])
        more = f" and {len(long) - 5} more" if len(long) > 5 else ""
        summary = f"{len(long)} of {total} nodes do not have the policy they should: {names}{more}"
        told.append(FleetClaim(key="policy drift", severity=Severity.WARNING, summary=summary))
    expired = [d.node for d in found if d.state == "expired"]
    if expired:
        summary = f"{len(expired)} nodes only observe, for their policy has run out: " + ", ".join(
            expired[:5]
        )
        told.append(FleetClaim(key="policy expired", severity=Severity.ERROR, summary=summary))
    foreign = [d.node for d in found if d.state == "foreign"]
    if foreign:
        many = "node applies" if len(foreign) == 1 else "nodes apply"
        summary = f"{len(foreign)} {many} a policy that was not published: {', '.join(foreign[:5])}"
        told.append(
            FleetClaim(
                key="policy foreign",
                severity=Severity.ERROR,
                summary=summary,
                count=len(foreign),
            )
        )
    for version, rollout in rollouts.items():
        if rollout.state is RolloutState.HALTED:
            summary = f"the roll-out of policy {version} was halted: {rollout.why}"
            told.append(FleetClaim(key="policy halted", severity=Severity.ERROR, summary=summary))
    newest = _newest(heads)
    for version in sorted(newest):
        left_s = heads[version].not_after_wall - wall
        if left_s < cfg.warn_s:
            days = f"runs out in {left_s / 86_400:.1f} days" if left_s > 0 else "has run out"
            summary = f"policy {version} {days}: publish another, or its nodes only observe"
            told.append(FleetClaim(key="policy ends", severity=Severity.WARNING, summary=summary))
    return tuple(told)


def _newest(heads: Mapping[int, PolicyHead]) -> set[int]:
    """Policies that no later one takes the place of, by the groups that they name."""
    found: set[int] = set()
    covered: list[tuple[str, ...]] = []
    for version in sorted(heads, reverse=True):
        groups = heads[version].groups
        if any(_covers(above, groups) for above in covered):
            continue
        covered.append(groups)
        found.add(version)
    return found


def _covers(above: tuple[str, ...], groups: tuple[str, ...]) -> bool:
    return not above or (bool(groups) and set(groups) <= set(above))


def in_force(
    heads: Mapping[int, PolicyHead],
    rollouts: Mapping[int, Rollout],
    groups: Sequence[str],
    nodes: Sequence[PolicyStanding],
    wall: float,
) -> int:
    """The newest policy that any node of these groups should have: what another is compared with; 0: none."""
    probe = PolicyHead(
        version=1, fleet="", groups=tuple(groups), issued_wall=0.0, not_after_wall=0.0
    )
    heads = newest_first(heads)
    versions = [
        wanted(heads, rollouts, node.node, node.group, wall)
        for node in nodes
        if is_for(probe, node.group)
    ]
    return max(versions, default=0)
