"""What the verbs of policies show."""

from gpuwarden.commands.output import Cell, Column, Out, Part, Styled
from gpuwarden.commands.words import clock, size
from gpuwarden.wire.v1 import node_pb2 as node
from gpuwarden.wire.v1 import policy_pb2 as pb

TOUCHES_SHOWN = 50
STYLES = {"running": "cyan", "halted": "bold red", "done": "green", "superseded": "dim"}
DRIFT_STYLES = {"refused": "red", "expired": "bold red", "behind": "yellow", "ahead": "yellow"}


def preview_parts(said: pb.PreviewPolicyResponse, out: Out) -> list[Part]:
    """What would change, whom it would touch, and what that means."""
    parts: list[Part] = []
    for change in said.changes:
        if not change.before:
            parts.append(Styled(f"+ {change.path} = {change.after}", "green"))
        elif not change.after:
            parts.append(Styled(f"- {change.path} = {change.before}", "red"))
        else:
            parts.append(f"~ {change.path}: {change.before} -> {change.after}")
    if not said.changes:
        parts.append("it says what is in force already")
    if said.touches:
        parts.append(_touches(said, out))
    left_out = said.touches_left_out + max(0, len(said.touches) - TOUCHES_SHOWN)
    if left_out:
        parts.append(Styled(f"and {left_out} tenants more", "dim"))
    names = {touch.node for touch in said.touches}
    count = len(said.touches) + said.touches_left_out
    parts.append(f"it touches {count} tenants on {len(names)} of {said.nodes} nodes that report")
    if said.nodes_unseen:
        parts.append(Styled(f"of {said.nodes_unseen} nodes nothing is known now", "yellow"))
    if said.must_confirm:
        parts.append(Styled(said.must_confirm, "bold red"))
    return parts


def _touches(said: pb.PreviewPolicyResponse, out: Out) -> Part:
    columns = (
        Column("NODE"),
        Column("TENANT"),
        Column("GPU", is_number=True),
        Column("CLASS"),
        Column("USED", is_number=True),
        Column("QUOTA", is_number=True),
        Column("WHY", may_wrap=True),
    )
    rows: list[list[Cell]] = []
    for touch in said.touches[:TOUCHES_SHOWN]:
        why = "; ".join(touch.reasons)
        style = "bold red" if touch.is_protected or touch.is_evictable else "yellow"
        rows.append(
            [
                touch.node,
                touch.name,
                str(touch.device_index),
                _class(touch.tenant_class),
                size(touch.used_bytes),
                size(touch.hard_bytes) if touch.HasField("hard_bytes") else "none",
                Styled(f"{why}{': would be evicted' if touch.is_evictable else ''}", style),
            ]
        )
    return out.table(columns, rows)


def _class(number: "node.TenantClass.ValueType") -> str:
    name = node.TenantClass.Name(number)
    return name.removeprefix("TENANT_CLASS_").lower().replace("_", "-")


def status_parts(said: pb.PoliciesResponse, out: Out) -> list[Part]:
    """Policies, newest first; then who is not where he should be."""
    if not said.policies:
        return ["no policy was published: nodes go by their own files"]
    columns = (
        Column("POLICY", is_number=True),
        Column("STATE"),
        Column("STAGE"),
        Column("HAVE IT", is_number=True),
        Column("GROUPS"),
        Column("UNTIL"),
        Column("BY", from_width=100),
        Column("NOTE", may_wrap=True),
    )
    rows: list[list[Cell]] = [
        [
            str(each.version),
            Styled(each.state, STYLES.get(each.state, "dim")),
            f"{each.stage}/{each.stages}",
            f"{each.applied}/{each.wanted}",
            ",".join(each.groups) or "all",
            clock(each.not_after_wall),
            each.published_by,
            (f"as policy {each.restores} " if each.restores else "") + each.note,
        ]
        for each in said.policies
    ]
    parts: list[Part] = [out.table(columns, rows)]
    parts += [
        Styled(f"policy {each.version} was halted: {each.why}", "bold red")
        for each in said.policies
        if each.state == "halted"
    ]
    parts.append(f"{said.current} of {said.nodes} nodes are where they should be")
    if said.drifted:
        parts.append(_drift(said, out))
    if said.left_out:
        parts.append(Styled(f"and {said.left_out} nodes more (--nodes)", "dim"))
    return parts


def _drift(said: pb.PoliciesResponse, out: Out) -> Part:
    columns = (
        Column("NODE"),
        Column("GROUP"),
        Column("HAS", is_number=True),
        Column("SHOULD", is_number=True),
        Column("STATE"),
        Column("WHY", may_wrap=True),
    )
    rows: list[list[Cell]] = [
        [
            each.node,
            each.group,
            str(each.version or "none"),
            str(each.wanted or "none"),
            Styled(each.state, DRIFT_STYLES.get(each.state, "yellow")),
            each.why,
        ]
        for each in said.drifted
    ]
    return out.table(columns, rows)
