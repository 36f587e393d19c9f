"""Whom a policy would touch, from what the nodes last reported: tenants, their quotas, what they use.

Labels count as the node's own admission has them count. The node has the last word all the same: its own files,
and what tenants claim on nodes that do not tell it, are not known here.
"""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from gpuwarden.config import Config, Match, TenantPolicy
from gpuwarden.config_aggregator import PolicyConfig
from gpuwarden.model.policy import Held, Holding, Touch
from gpuwarden.model.tenant import TenantClass
from gpuwarden.policy.admission import allowed
from gpuwarden.policy.words import size

FACTS = ("image", "name", "unit", "user", "account", "runtime", "comm", "service")


def touches(
    policy: Config, before: Config | None, said: frozenset[str], nodes: Sequence[Holding]
) -> list[Touch]:
    """Every tenant that would be treated differently. ``before``: the policy in force; ``said``: dotted paths of
    what the new one says, for what it does not say stays the node's own."""
    found = []
    for node in nodes:
        mode = policy.agent.mode if "agent.mode" in said else node.mode
        for held in node.held:
            touch = _touch(policy, before, said, node, mode, held)
            if touch is not None:
                found.append(touch)
    return found


def _touch(
    policy: Config,
    before: Config | None,
    said: frozenset[str],
    node: Holding,
    mode: str,
    held: Held,
) -> Touch | None:
    entry = _entry(policy, held)
    old = None if before is None else _entry(before, held)
    # What says of it what was said before changes nothing, whatever its label has made of that.
    is_same = (
        before is not None
        and entry == old
        and (entry is not None or before.default == policy.default)
    )
    cls = held.tenant_class if is_same else _class(policy, entry, said, held)
    hard = held.hard_bytes if is_same else _hard(policy, entry, said, held)
    reasons = []
    if cls is not held.tenant_class:
        reasons.append(f"class {held.tenant_class.label} -> {cls.label}")
    if hard != held.hard_bytes:
        reasons.append(f"quota {_size(held.hard_bytes)} -> {_size(hard)}")
    if old is not None and entry is None:
        reasons.append("no entry of the policy is for it any more: the node's own files decide")
    if old is not None and entry is not None and old != entry and not reasons:
        reasons.append("its entry in the policy has changed")
    was_over = held.hard_bytes is not None and held.used_bytes > held.hard_bytes
    is_over = hard is not None and held.used_bytes > hard
    if is_over and not was_over:
        reasons.append(f"over its quota: it uses {_size(held.used_bytes)}")
    if is_over and was_over and (node.mode, mode) == ("observe", "enforce"):
        reasons.append("over its quota, and the node would act on it")
    is_protected = TenantClass.PROTECTED in (cls, held.tenant_class)
    if is_protected and (node.mode, mode) == ("enforce", "observe"):
        reasons.append("not defended any more: the node would only observe")
    if not reasons:
        return None
    # A protected tenant is never evicted for its quota, nor is one that is never a victim.
    is_spared = cls is TenantClass.PROTECTED or (entry is not None and entry.never_victim)
    return Touch(
        node=node.node,
        held=held,
        reasons=tuple(reasons),
        is_protected=is_protected,
        is_evictable=is_over and mode == "enforce" and not is_spared,
    )


def _entry(policy: Config, held: Held) -> TenantPolicy | None:
    """The first entry that is for it, as on the node."""
    facts = dict(held.facts)
    return next((each for each in policy.tenant if _matches(each.match, facts)), None)


def _matches(match: Match, facts: Mapping[str, str]) -> bool:
    for name in FACTS:
        pattern = getattr(match, name)
        if pattern is not None and (name not in facts or not fnmatchcase(facts[name], pattern)):
            return False
    return True


def _class(
    policy: Config, entry: TenantPolicy | None, said: frozenset[str], held: Held
) -> TenantClass:
    """As the node's own admission gives it. What the policy leaves to the node's files stays as it is there."""
    given = allowed(policy, entry, dict(held.claims), dict(held.facts))
    if entry is not None and entry.tenant_class is not None:
        return given.cls
    if entry is not None and entry.class_max is not None:
        is_known = given.is_class_claimed or "default.class" in said
        return given.cls if is_known else min(held.tenant_class, entry.class_max)
    if "default.class" in said or ("default.class_max" in said and given.is_class_claimed):
        return given.cls
    return held.tenant_class


def _hard(
    policy: Config, entry: TenantPolicy | None, said: frozenset[str], held: Held
) -> int | None:
    now = held.hard_bytes
    given = allowed(policy, entry, dict(held.claims), dict(held.facts))
    if entry is not None and entry.memory is not None:
        return given.hard
    top = policy.default.memory_max if "default.memory_max" in said else None
    if entry is not None and entry.memory_max is not None:
        top = entry.memory_max
    elif "default.memory" in said:
        return given.hard
    if top is None:
        return now
    is_known = given.is_memory_claimed or "default.memory" in said
    if is_known:
        return given.hard
    return top if now is None else min(now, top)


def must_confirm(cfg: PolicyConfig, found: Sequence[Touch], nodes: Sequence[Holding]) -> str:
    """Why publishing needs somebody's word; empty: it does not."""
    protected = sorted(
        {f"{touch.held.name} on {touch.node}" for touch in found if touch.is_protected}
    )
    if protected:
        more = f" and {len(protected) - 5} more" if len(protected) > 5 else ""
        return f"it touches protected tenants: {', '.join(protected[:5])}{more}"
    sizes: dict[str, int] = {}
    hit: dict[str, set[str]] = {}
    group_of = {node.node: node.group for node in nodes}
    for node in nodes:
        sizes[node.group] = sizes.get(node.group, 0) + 1
    for touch in found:
        if touch.is_evictable:
            hit.setdefault(group_of[touch.node], set()).add(touch.node)
    for group, names in sorted(hit.items()):
        if len(names) > cfg.touch_ratio * sizes[group]:
            return (
                f"on {len(names)} of {sizes[group]} nodes of group {group} tenants would be over "
                "their quota, and evicted"
            )
    return ""


def _size(value: int | None) -> str:
    return "none" if value is None else size(value)
