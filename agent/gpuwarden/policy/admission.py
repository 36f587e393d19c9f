"""What a tenant is allowed: the operator's policy over what its labels claim (DESIGN 4.1).

A label can lower a tenant's class, never raise it above the operator's map; a claim that is refused
or cannot be read has no effect and is reported.
"""

import fnmatch
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from gpuwarden.config import Config, Match, TenantPolicy
from gpuwarden.config_types import parse_bytes, parse_class, parse_seconds
from gpuwarden.model.ids import CgroupId, Pid
from gpuwarden.model.owner import RuntimeFacts
from gpuwarden.model.tenant import HostLimits, Tenant, TenantClass
from gpuwarden.policy.ladder import class_grace_s
from gpuwarden.policy.words import size

Value = TypeVar("Value")
CLAIMS = ("class", "memory")
"""Labels of which the fleet is told: what they claim decides whom a new policy would touch."""
PREFIX = "gpuwarden."
COHORT_CHARS = 128
KNOWN = frozenset(
    {
        "memory",
        "memory.soft",
        "class",
        "service",
        "grace",
        "version",
        "arm",
        "host-memory",
        "cpu",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Who:
    """The facts a policy entry can match, beside the runtime's own."""

    runtime: str
    comm: str = ""
    unit: str | None = None
    uid: int | None = None
    is_never_victim: bool = False


# Programs of the host that hold GPU memory for others. A name is anybody's to choose, so it counts for
# root's own processes outside containers only.
INFRASTRUCTURE = (
    "nvidia-cuda-mps*",
    "nvidia-persiste*",
    "nvidia-fabric*",
    "nv-hostengine*",
    "nv-fabricmanage*",
    "dcgm*",
    "Xorg*",
    "Xwayland*",
    "gdm*",
    "gpuwarden*",
)
_OUTSIDE = frozenset({"pgrp", "systemd-service", "systemd-scope"})


def is_infrastructure(who: Who) -> bool:
    """Whether a process is part of the host: MPS server, persistence daemon, display server, us."""
    if who.uid != 0 or who.runtime not in _OUTSIDE:
        return False
    return any(fnmatch.fnmatchcase(who.comm, pattern) for pattern in INFRASTRUCTURE)


def admit(
    cfg: Config,
    facts: RuntimeFacts,
    who: Who,
    *,
    cgroup: CgroupId | None,
    pids: tuple[Pid, ...],
    first_seen: float,
) -> Tenant:
    """The tenant as judged. Never raises: what labels get wrong stands in ``policy_faults``."""
    faults: list[str] = []
    entry = next((p for p in cfg.tenant if _matches(p.match, facts, who)), None)
    labels, unknown = _labels(facts)
    if entry is not None and _is_claimed(entry.match, who):
        entry = _lowered(cfg, entry, faults)
    cls = _class(cfg, entry, labels, faults)
    hard = _memory(cfg, entry, labels, faults)
    soft = _soft(entry, labels, hard, faults)
    grace = _grace(cfg, entry, labels, cls, faults)
    unit = None if who.runtime == "pgrp" else who.unit  # one job of many in its session
    service = entry.service if entry is not None else None
    if service is None and "service" in labels:
        service = _service(labels["service"], faults)
    return Tenant(
        id=facts.tenant,
        runtime=who.runtime,
        name=_clean(facts.name or unit or who.comm or facts.tenant),
        cls=cls,
        soft_bytes=soft,
        hard_bytes=hard,
        host=_host(entry, labels, faults),
        grace_s=grace,
        service=service,
        version=_clean(labels.get("version", ""))[:COHORT_CHARS],
        arm=_clean(labels.get("arm", ""))[:COHORT_CHARS],
        owner_key=facts.owner_key,
        cgroup=cgroup,
        pids=pids,
        first_seen=first_seen,
        started_wall=facts.started_wall,
        restart_policy=facts.restart_policy,
        is_paused=facts.is_paused,
        is_never_victim=(
            who.is_never_victim
            or is_infrastructure(who)
            or (entry is not None and entry.never_victim)
        ),
        is_described=facts.described,
        cannot_act=facts.cannot_act,
        identity=_identity(facts, who),
        claims=tuple((name, _clean(labels[name])[:32]) for name in CLAIMS if name in labels),
        policy_faults=tuple((*faults, *unknown)[:16]),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """Class and quota that a policy gives; whether each is what the label claims."""

    cls: TenantClass
    hard: int | None
    is_class_claimed: bool
    is_memory_claimed: bool


def allowed(
    cfg: Config, entry: TenantPolicy | None, claims: dict[str, str], facts: dict[str, str]
) -> Allowed:
    """What ``admit`` would give, for whoever asks before a policy is in force. ``facts`` as an entry matches them."""
    refused: list[str] = []
    who = Who(runtime=facts.get("runtime", ""), comm=facts.get("comm", ""))
    if entry is not None and _is_claimed(entry.match, who):
        entry = _lowered(cfg, entry, [])
    cls = _class(cfg, entry, claims, refused)
    is_class_claimed = "class" in claims and not refused
    refused.clear()
    hard = _memory(cfg, entry, claims, refused)
    return Allowed(
        cls=cls,
        hard=hard,
        is_class_claimed=is_class_claimed,
        is_memory_claimed="memory" in claims and not refused,
    )


def _identity(facts: RuntimeFacts, who: Who) -> tuple[tuple[str, str], ...]:
    told = (
        ("image", facts.image),
        ("user", facts.user),
        ("account", facts.account),
        ("unit", who.unit),
        ("command", who.comm),
        ("uid", None if who.uid is None or facts.user == str(who.uid) else str(who.uid)),
    )
    return tuple((name, _clean(text)) for name, text in told if text)


def _is_claimed(match: Match, who: Who) -> bool:
    """Whether an entry is reached by what anybody can say of himself: a service label, or inside a
    container the name of a process. ``runtime`` beside them proves nothing: it is every container's."""
    proofs = (match.image, match.name, match.unit, match.user, match.account)
    if any(pattern is not None for pattern in proofs):
        return False
    is_named_inside = match.comm is not None and who.runtime not in _OUTSIDE
    return is_named_inside or (match.service is not None and match.comm is None)


def _lowered(cfg: Config, entry: TenantPolicy, faults: list[str]) -> TenantPolicy:
    """An entry reached by a claim gives what a label may claim, and no more."""
    top = cfg.default.class_max
    memory_top = cfg.default.memory if cfg.default.memory_max is None else cfg.default.memory_max
    given = [c for c in (entry.tenant_class, entry.class_max) if c is not None]
    sizes = [m for m in (entry.memory, entry.memory_max) if m is not None]
    is_more = memory_top is not None and any(size > memory_top for size in sizes)
    if entry.never_victim or is_more or any(c > top for c in given):
        faults.append(
            "its policy entry is matched by what anybody can claim (a service label, the name of a "
            f"process in a container): no class above {top.label}, no quota above the default's"
        )
    lower: dict[str, object] = {
        "never_victim": False,
        "tenant_class": None if entry.tenant_class is None else min(entry.tenant_class, top),
        "class_max": None if entry.class_max is None else min(entry.class_max, top),
    }
    if memory_top is not None:
        lower["memory"] = None if entry.memory is None else min(entry.memory, memory_top)
        lower["memory_max"] = (
            None if entry.memory_max is None else min(entry.memory_max, memory_top)
        )
    return entry.model_copy(update=lower)


def _matches(match: Match, facts: RuntimeFacts, who: Who) -> bool:
    wanted = (
        (match.image, facts.image),
        (match.name, facts.name),
        (match.unit, who.unit),
        (match.user, facts.user),
        (match.account, facts.account),
        (match.runtime, who.runtime),
        (match.comm, who.comm),
        (match.service, dict(facts.labels).get(PREFIX + "service")),
    )
    return all(
        pattern is None or (value is not None and fnmatch.fnmatchcase(value, pattern))
        for pattern, value in wanted
    )


def _labels(facts: RuntimeFacts) -> tuple[dict[str, str], list[str]]:
    """The claims, and what was meant as one and is none: told last, for there may be many."""
    labels, unknown = {}, []
    for key, value in facts.labels:
        if not key.startswith(PREFIX):
            continue
        name = key[len(PREFIX) :]
        if name in KNOWN:
            labels[name] = value[:256]
        else:
            unknown.append(f"unknown label {_clean(key)}")
    return labels, unknown


def _class(
    cfg: Config, entry: TenantPolicy | None, labels: dict[str, str], faults: list[str]
) -> TenantClass:
    given = entry.tenant_class if entry is not None else None
    base = given if given is not None else cfg.default.tenant_class
    if entry is not None and entry.class_max is not None:
        top = entry.class_max
    else:
        top = given if given is not None else cfg.default.class_max
    if "class" not in labels:
        return base
    try:
        claimed = parse_class(labels["class"])
    except ValueError as error:
        faults.append(f"gpuwarden.class: {error}")
        return base
    if claimed > top:
        faults.append(f"gpuwarden.class={claimed.label} refused: policy allows at most {top.label}")
        return base
    return claimed


def _memory(
    cfg: Config, entry: TenantPolicy | None, labels: dict[str, str], faults: list[str]
) -> int | None:
    default, top = cfg.default.memory, cfg.default.memory_max
    top = default if top is None else top
    if entry is not None:
        default = default if entry.memory is None else entry.memory
        own = entry.memory if entry.memory_max is None else entry.memory_max
        top = top if own is None else own
    if "memory" not in labels:
        return default if default is not None else top
    if not cfg.default.label_memory and entry is None:
        faults.append("gpuwarden.memory refused: policy gives labels no say")
        return default
    claimed = _read(parse_bytes, "memory", labels, faults, None)
    if claimed is None:
        return default if default is not None else top
    if top is not None and claimed > top:
        faults.append(
            f"gpuwarden.memory={labels['memory'][:40]} refused: policy allows {size(top)}"
        )
        return default if default is not None else top
    return claimed


def _soft(
    entry: TenantPolicy | None, labels: dict[str, str], hard: int | None, faults: list[str]
) -> int | None:
    """Labels may only lower what the operator set, or set what he left open."""
    given = entry.memory_soft if entry is not None else None
    soft = given
    if "memory.soft" in labels:
        soft = _read(parse_bytes, "memory.soft", labels, faults, given)
        if soft is not None and given is not None and soft > given:
            faults.append(f"gpuwarden.memory.soft refused: policy allows {size(given)}")
            soft = given
    if soft is None or hard is None:
        if soft is not None:
            faults.append("gpuwarden.memory.soft has no effect without a quota")
        return None
    if soft > hard:
        faults.append("gpuwarden.memory.soft is above the quota; the quota counts")
    return min(soft, hard)


def _grace(
    cfg: Config,
    entry: TenantPolicy | None,
    labels: dict[str, str],
    cls: TenantClass,
    faults: list[str],
) -> float:
    given = entry.grace if entry is not None else None
    grace = class_grace_s(cfg, cls) if given is None else given
    if "grace" not in labels:
        return grace
    top = cfg.ladder.grace_max_s if given is None else min(given, cfg.ladder.grace_max_s)
    claimed = _read(parse_seconds, "grace", labels, faults, None)
    if claimed is not None and claimed > top:
        faults.append(f"gpuwarden.grace is capped at {top:.0f} s")
    return grace if claimed is None else min(claimed, top)


def _read(
    parse: Callable[[object], Value],
    name: str,
    labels: dict[str, str],
    faults: list[str],
    otherwise: Value | None,
) -> Value | None:
    try:
        return parse(labels[name])
    except ValueError as error:
        faults.append(f"gpuwarden.{name}: {error}")
        return otherwise


def _service(value: str, faults: list[str]) -> str | None:
    clean = _clean(value)[:128]
    if not clean or clean != value:
        faults.append("gpuwarden.service: expected printable text of at most 128 characters")
        return None
    return clean


def _host(entry: TenantPolicy | None, labels: dict[str, str], faults: list[str]) -> HostLimits:
    """Labels may only lower what the operator set, or set what he left open."""
    memory = entry.host_memory if entry is not None else None
    cores = entry.cpu_cores if entry is not None else None
    if "host-memory" in labels:
        claimed = _read(parse_bytes, "host-memory", labels, faults, None)
        if claimed is not None and claimed > 0:
            memory = claimed if memory is None else min(memory, claimed)
        elif claimed is not None:
            faults.append("gpuwarden.host-memory: expected a size above 0")
    if "cpu" in labels:
        try:
            count = float(labels["cpu"])
            if not 0 < count <= 4096:
                raise ValueError
            cores = count if cores is None else min(cores, count)
        except ValueError:
            faults.append("gpuwarden.cpu: expected a number of cores such as 2.5")
    return HostLimits(memory_bytes=memory, cpu_cores=cores)


def _clean(text: str) -> str:
    """Hostile text as one printable line of at most 200 characters."""
    return "".join(c if c.isprintable() else "?" for c in text[:200])
