"""Policies as people ask of them."""

from collections.abc import Sequence

from gpuwarden.errors import Refused, Unsupported
from gpuwarden.model.policy import (
    Change,
    Drift,
    Held,
    Holding,
    PolicyHead,
    Rollout,
    Stage,
    Touch,
)
from gpuwarden.model.tenant import TenantClass
from gpuwarden.wire import fleet_check as check
from gpuwarden.wire.fields import from_enum, text, to_enum
from gpuwarden.wire.v1 import fleet_pb2 as fleet
from gpuwarden.wire.v1 import node_pb2 as node
from gpuwarden.wire.v1 import policy_pb2 as pb

STAGES_MAX = 20
GROUPS_MAX = 64
SHOWN_MAX_CHARS = 400
SOAK_MAX_S = 30 * 86_400.0
# The fields of a sample, by what an entry of a policy calls them.
_FACTS = (
    ("image", "image"),
    ("name", "name"),
    ("unit", "unit"),
    ("user", "user"),
    ("account", "account"),
    ("runtime", "runtime"),
    ("comm", "command"),
    ("service", "service"),
)


def holding_of(name: str, group: str, mode: str, sample: fleet.Sample) -> Holding:
    """A node's tenants from a sample that was checked. One whose class is not known is left out."""
    held = []
    for each in sample.tenants:
        try:
            cls = from_enum(node.TenantClass, "TENANT_CLASS", each.tenant_class, TenantClass)
        except Unsupported:
            continue
        held.append(
            Held(
                tenant=each.tenant,
                name=each.name,
                tenant_class=cls,
                device_index=sample.devices[each.device].index,
                used_bytes=each.used_bytes,
                hard_bytes=each.hard_bytes if each.HasField("hard_bytes") else None,
                claims=tuple(
                    (name, value)
                    for name, value in (
                        ("class", each.claimed_class),
                        ("memory", each.claimed_memory),
                    )
                    if value
                ),
                facts=tuple((ours, value) for ours, its in _FACTS if (value := getattr(each, its))),
            )
        )
    return Holding(node=name, group=group, mode=mode, held=tuple(held))


def from_stages(messages: Sequence[pb.RolloutStage]) -> tuple[Stage, ...]:
    """The stages that were asked for, and a last one of everything. ``Refused`` names the field."""
    check.length("stages", messages, STAGES_MAX)
    stages = []
    for each in messages:
        check.length("stages.groups", each.groups, GROUPS_MAX)
        groups = tuple(check.text("stages.groups", group, 64) for group in each.groups)
        if not 1 <= each.percent <= 100:
            raise Refused(f"stages.percent: {each.percent}, expected 1 to 100")
        stages.append(Stage(groups=groups, percent=each.percent))
    return tuple(stages) if Stage() in stages[-1:] else (*stages, Stage())


def to_published(
    head: PolicyHead, wall: float, who: str, each: Rollout, wanted: int, applied: int
) -> pb.PublishedPolicy:
    return pb.PublishedPolicy(
        version=head.version,
        groups=head.groups,
        published_wall=wall,
        published_by=text(who),
        not_after_wall=head.not_after_wall,
        note=text(head.note),
        restores=head.restores,
        state=each.state.value,
        why=text(each.why),
        stage=each.released,
        stages=len(each.stages),
        wanted=wanted,
        applied=applied,
    )


def to_drifted(each: Drift) -> pb.DriftedNode:
    return pb.DriftedNode(
        node=each.node,
        group=each.group,
        version=each.version,
        wanted=each.wanted,
        state=each.state,
        why=text(each.why),
    )


def to_change(each: Change) -> pb.PolicyChange:
    return pb.PolicyChange(
        path=text(each.path[:SHOWN_MAX_CHARS]),
        before=text(each.before[:SHOWN_MAX_CHARS]),
        after=text(each.after[:SHOWN_MAX_CHARS]),
    )


def to_touch(each: Touch) -> pb.PolicyTouch:
    held = each.held
    return pb.PolicyTouch(
        node=each.node,
        tenant=text(held.tenant),
        name=text(held.name),
        device_index=held.device_index,
        tenant_class=to_enum(node.TenantClass, "TENANT_CLASS", held.tenant_class),
        used_bytes=held.used_bytes,
        hard_bytes=held.hard_bytes,
        reasons=[text(reason) for reason in each.reasons],
        is_protected=each.is_protected,
        is_evictable=each.is_evictable,
    )
