"""Folds signs into faults: one cause, one fault, however much is said of it.

A burst of Xid 45 after a 79 is one fault about 79; a GSP time-out followed by the device's fall off the bus
is one about the fall; a memory error that the driver named before an application's is its cause.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from gpuwarden.config import Config
from gpuwarden.model.ids import TenantId
from gpuwarden.model.repair import Fault, FaultClass, Sign
from gpuwarden.model.tenant import TenantClass
from gpuwarden.policy.scene import NOISE_BYTES, Scene

SCOPES = {"info": 0, "app": 1, "link": 2, "gpu": 3, "node": 4}
SEVERITIES = {"info": 0, "warning": 1, "error": 2, "fatal": 3}

SYMPATHETIC = frozenset({"xid 43", "xid 45", "xid 174"})
"""What the driver does to channels after something else went wrong: 43 and 174 end a job whose channel has
faulted, 45 removes channels early (NVIDIA's catalogue). Never a cause while there is another."""
ALL_SICK = frozenset({FaultClass.LOST, FaultClass.HANG})
"""A device in such a state has every reading wrong: whatever is polled meanwhile follows from it."""

MAX_FOLLOWERS = 16
MAX_TENANTS = 16
MAX_FAULTS = 128
CONDITION_GONE_S = 0.5
"""A condition is told by every look; one that this look did not tell is over."""


def fold(
    cfg: Config,
    faults: Mapping[str, Fault],
    signs: Iterable[Sign],
    scene: Scene,
    mended: Mapping[str, tuple[float, ...]],
) -> Mapping[str, Fault]:
    """Faults with this look's signs, less those that are over. The same mapping when nothing changed.

    ``mended``: wall seconds of past repairs, by fault key: a fault that comes back remembers them.
    """
    result = dict(faults)
    for sign in sorted(signs, key=lambda s: s.at):
        _take(cfg, result, sign, scene, mended)
    now = scene.snap.at
    for key in [k for k, f in result.items() if _is_over(cfg, f, now)]:
        del result[key]
    if len(result) > MAX_FAULTS:
        worst = sorted(result.values(), key=lambda f: (rank(f.root), f.last_at))[-MAX_FAULTS:]
        result = {f.key: f for f in worst}
    return result if result != faults else faults


def rank(sign: Sign) -> tuple[int, int]:
    """How far it reaches, then how bad it is: the greater is the cause, the lesser follows."""
    return SCOPES.get(sign.scope, 0), SEVERITIES.get(sign.severity, 0)


def _take(
    cfg: Config,
    faults: dict[str, Fault],
    sign: Sign,
    scene: Scene,
    mended: Mapping[str, tuple[float, ...]],
) -> None:
    same = faults.get(_key(sign))
    if sign.is_condition and same is not None and same.root.code == sign.code:
        faults[same.key] = replace(same, root=sign, told_at=scene.snap.at, last_at=sign.at)
        return
    leader = _leader(cfg, faults.values(), sign)
    number = recovery_number(sign)
    if number is not None:
        if leader is not None:
            faults[leader.key] = _followed(leader, sign, recovery=number)
            return
        if number == 0:
            return
    if leader is not None and not _explains(sign, leader) and _follows(sign, leader):
        faults[leader.key] = _followed(leader, sign)
        return
    absorbed = leader if leader is not None and _overtakes(sign, leader) else None
    fault = _opened(cfg, sign, scene, mended) if same is None else _again(same, sign)
    if absorbed is not None and absorbed.key != fault.key:
        fault = _absorbing(fault, absorbed)
        del faults[absorbed.key]
    faults[fault.key] = fault


def _key(sign: Sign) -> str:
    return f"{sign.subject}/{sign.cls}"


def recovery_number(sign: Sign) -> int | None:
    """The driver's recovery number, where the sign tells one (Xid 154, field 230)."""
    head, _, number = sign.code.partition(" ")
    return int(number) if head == "recovery" and number.isdecimal() else None


def _leader(cfg: Config, faults: Iterable[Fault], sign: Sign) -> Fault | None:
    """The open fault on the same subject that a sign could follow from, or take over: the greatest."""
    near = [
        f
        for f in faults
        if f.root.subject == sign.subject
        and (sign.at - f.last_at <= cfg.fault.correlate_s or f.root.cls in ALL_SICK)
        and f.root.is_trusted == sign.is_trusted
    ]
    named = [f for f in near if sign.caused_by is not None and sign.caused_by in _codes(f)]
    return max(named or near, key=lambda f: (rank(f.root), -f.first_at), default=None)


def _codes(fault: Fault) -> set[str]:
    return {fault.root.code, *(code for code, _ in fault.followers)}


def _follows(sign: Sign, leader: Fault) -> bool:
    """Whether a sign is no news beside a fault that stands."""
    if sign.cls is leader.root.cls and sign.code == leader.root.code:
        return False  # the same again
    if sign.caused_by is not None or sign.code in SYMPATHETIC:
        return True
    if sign.is_condition or leader.root.is_condition:
        return leader.root.cls in ALL_SICK and rank(sign) <= rank(leader.root)
    if leader.root.cls is FaultClass.APPLICATION:
        return False  # two applications' faults are two, and nothing follows from an application's
    return rank(sign) <= rank(leader.root)


def _explains(sign: Sign, leader: Fault) -> bool:
    """Whether a fault of which only the driver's wish was known has its reason now: a wish, polled by the driver's
    own door, may come before the kernel's line about what it is for."""
    if recovery_number(leader.root) is None or leader.root.is_condition or sign.is_condition:
        return False
    return SCOPES.get(sign.scope, 0) > SCOPES["app"] and sign.code not in SYMPATHETIC


def _overtakes(sign: Sign, leader: Fault) -> bool:
    """Whether what was taken for the cause turns out to have followed from this."""
    if _explains(sign, leader):
        return True
    if leader.root.is_condition or sign.is_condition:
        return sign.cls in ALL_SICK and rank(sign) > rank(leader.root)
    return leader.root.code in SYMPATHETIC or rank(sign) > rank(leader.root)


def _followed(fault: Fault, sign: Sign, recovery: int | None = None) -> Fault:
    return replace(
        fault,
        # A condition is told by every look: that it stands is no news of the fault it follows from.
        last_at=fault.last_at if sign.is_condition else max(fault.last_at, sign.at),
        followers=fault.followers if sign.is_condition else _counted(fault.followers, sign.code),
        tenants=_named(fault.tenants, sign.tenant),
        recovery=fault.recovery if recovery is None else recovery,
    )


def _again(fault: Fault, sign: Sign) -> Fault:
    """The same once more; a greater sign of the same class stands for all from now on. A condition, told by
    every look, keeps it up and is counted once."""
    greater = rank(sign) > rank(fault.root) or _explains(sign, fault)
    is_known = sign.code in _codes(fault)
    followers = _counted(fault.followers, fault.root.code) if greater else fault.followers
    if not greater and sign.code != fault.root.code and not (sign.is_condition and is_known):
        followers = _counted(followers, sign.code)
    return replace(
        fault,
        root=sign if greater else fault.root,
        last_at=max(fault.last_at, sign.at),
        told_at=sign.at,
        count=fault.count if sign.is_condition and is_known else fault.count + 1,
        followers=followers,
        tenants=_named(fault.tenants, sign.tenant),
        accused=_accused_again(fault, sign),
    )


def _accused_again(fault: Fault, sign: Sign) -> TenantId | None:
    """Whom a sign names counts for more than who grew: the driver's event, which names nobody, may have come
    before the line."""
    is_named = fault.accused in fault.tenants
    is_news = sign.pid is not None and SCOPES.get(sign.scope, 0) > SCOPES["app"]
    return sign.tenant if is_news and not is_named else fault.accused


def _opened(
    cfg: Config, sign: Sign, scene: Scene, mended: Mapping[str, tuple[float, ...]]
) -> Fault:
    wall = scene.snap.wall - max(0.0, scene.snap.at - sign.at)
    past = [w for w in mended.get(_key(sign), ()) if 0 <= wall - w <= cfg.repair.repeat_window_s]
    return Fault(
        root=sign,
        first_at=sign.at,
        last_at=sign.at,
        first_wall=wall,
        told_at=scene.snap.at,
        tenants=_named((), sign.tenant),
        accused=_accused(sign, scene),
        recovery=recovery_number(sign) or 0,
        repairs=len(past),
    )


def _accused(sign: Sign, scene: Scene) -> TenantId | None:
    """Who set it off: whom the sign names; where it names no process, the only one below protected that grew
    at the onset. A process that is nobody's known speaks against nobody."""
    if SCOPES.get(sign.scope, 0) <= SCOPES["app"] or sign.device is None or sign.is_condition:
        return None
    if sign.tenant is not None or sign.pid is not None:
        return sign.tenant
    grew = [
        use.tenant
        for use in scene.uses_on(sign.device)
        if use.growth_bytes_s > 0.0 < use.grown_bytes and use.grown_bytes >= NOISE_BYTES
    ]
    known = [scene.tenants[t] for t in grew if t in scene.tenants]
    if len(known) != 1 or known[0].cls is TenantClass.PROTECTED:
        return None
    return known[0].id


def _absorbing(fault: Fault, old: Fault) -> Fault:
    followers = _counted(old.followers, old.root.code)
    for code, count in fault.followers:
        followers = _counted(followers, code, count)
    tenants = old.tenants
    for tenant in fault.tenants:
        tenants = _named(tenants, tenant)
    return replace(
        fault,
        first_at=min(fault.first_at, old.first_at),
        first_wall=min(fault.first_wall, old.first_wall),
        followers=followers,
        tenants=tenants,
        accused=fault.accused or old.accused,
        recovery=max(fault.recovery, old.recovery),
    )


def _counted(
    followers: Sequence[tuple[str, int]], code: str, count: int = 1
) -> tuple[tuple[str, int], ...]:
    counts = dict(followers)
    if code not in counts and len(counts) >= MAX_FOLLOWERS:
        return tuple(followers)
    counts[code] = counts.get(code, 0) + count
    return tuple(counts.items())


def _named(tenants: tuple[TenantId, ...], tenant: TenantId | None) -> tuple[TenantId, ...]:
    if tenant is None or tenant in tenants or len(tenants) >= MAX_TENANTS:
        return tenants
    return (*tenants, tenant)


def _is_over(cfg: Config, fault: Fault, now: float) -> bool:
    """A condition that is not told any more; what merely passes, once it has been quiet for long."""
    if fault.root.is_condition:
        return now - fault.told_at > CONDITION_GONE_S
    quiet = now - fault.last_at
    is_asked = fault.root.action in ("reset_gpu", "reboot_node", "restart_fabric")
    if (is_asked and not fault.is_excused) or fault.recovery > 0:
        return False  # until it has been done
    if fault.root.cls in (FaultClass.APPLICATION, FaultClass.ADVISORY):
        return quiet > cfg.fault.application_quiet_s
    return quiet > cfg.fault.quiet_s
