"""The shared vocabulary of the policy tests: small things with sensible defaults.

Sizes are MiB, times seconds. Everything is as of ``NOW`` unless it says otherwise; the node has been
up since second 0, enforces, and looked a tenth of a second ago.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from gpuwarden.config import Config
from gpuwarden.model.action import Kind, Outcome, Result, Target
from gpuwarden.model.decision import Decision
from gpuwarden.model.device import Device, DriverEvent
from gpuwarden.model.ids import CgroupId, DeviceId, IncidentId, Pid, TenantId
from gpuwarden.model.memory import Case, DeviceMemory, Memory, Rung
from gpuwarden.model.repair import FaultClass, Sign
from gpuwarden.model.snapshot import Health, HostSample, LimitReading, ServiceState, Snapshot
from gpuwarden.model.tenant import Standing, Tenant, TenantClass, Use
from gpuwarden.policy.decide import decide
from gpuwarden.policy.desk import Desk, target_of
from gpuwarden.policy.scene import Scene

MIB = 2**20
NOW = 100.0
WALL = 1_800_000_000.0
"""Wall time of monotonic second 0."""
BOOT = "boot-1"
PROTECTED, HIGH, NORMAL, LOW, BEST_EFFORT = sorted(TenantClass, reverse=True)


def config(mode: str = "enforce", **sections: Mapping[str, Any]) -> Config:
    """Settings: ``config(quota={"soft_hold_s": 5}, default={"class": "low"})``."""
    agent = {"mode": mode, **sections.pop("agent", {})}
    return Config.model_validate({"agent": agent, **sections})


def device_id(index: int) -> DeviceId:
    """The UUID that ``gpu(index)`` has."""
    return DeviceId(f"GPU-{index}")


def tenant_id(name: str) -> TenantId:
    """The id that ``tenant(name)`` has."""
    return TenantId(f"docker:{name}")


def gpu(
    index: int = 0, *, used_mib: int = 0, total_mib: int = 81_920, at: float = NOW, **rest: Any
) -> Device:
    """A device that was read and listed at ``at``."""
    return Device(
        **{
            "id": device_id(index),
            "index": index,
            "name": "A100",
            "total_bytes": total_mib * MIB,
            "used_bytes": used_mib * MIB,
            "at": at,
            "listed_at": at,
            **rest,
        }
    )


def tenant(
    name: str = "hog",
    *,
    cls: TenantClass = LOW,
    quota_mib: int | None = 8_192,
    soft_mib: int | None = None,
    **rest: Any,
) -> Tenant:
    """A described Docker container of class low with a quota of 8 GiB."""
    return Tenant(
        **{
            "id": tenant_id(name),
            "runtime": "docker",
            "name": name,
            "cls": cls,
            "soft_bytes": None if soft_mib is None else soft_mib * MIB,
            "hard_bytes": None if quota_mib is None else quota_mib * MIB,
            "cgroup": CgroupId(path=f"/docker/{name}", inode=sum(name.encode())),
            "pids": (Pid(pid=1000 + sum(name.encode()), start=1),),
            "first_seen": 1.0,
            "owner_key": f"image/{name}",
            "restart_policy": "no",
            **rest,
        }
    )


def use(
    who: Tenant | str = "hog",
    used_mib: int = 1_024,
    *,
    on: int = 0,
    at: float = NOW,
    grown_mib: int = 0,
    **rest: Any,
) -> Use:
    """What a tenant holds on a device, by a list taken at ``at``."""
    return Use(
        **{
            "tenant": who.id if isinstance(who, Tenant) else tenant_id(who),
            "device": device_id(on),
            "used_bytes": used_mib * MIB,
            "listed_at": at,
            "grown_bytes": grown_mib * MIB,
            **rest,
        }
    )


def standing(
    who: Tenant | str = "hog", *, is_populated: bool | None = True, **rest: Any
) -> Standing:
    """What the kernel says of a tenant under action; alive and itself unless told otherwise."""
    return Standing(
        **{
            "tenant": who.id if isinstance(who, Tenant) else tenant_id(who),
            "identity_holds": True,
            "is_populated": is_populated,
            **rest,
        }
    )


def service(
    name: str = "risk",
    health: Health = Health.RED,
    *,
    who: Tenant | str | None = "serve",
    since: float = NOW - 1,
    **rest: Any,
) -> ServiceState:
    """A service's objective."""
    owner = who.id if isinstance(who, Tenant) else None if who is None else tenant_id(who)
    return ServiceState(service=name, tenant=owner, health=health, since=since, **rest)


def fault_sign(code: str = "xid 119", *, on: int | None = 0, at: float = NOW, **rest: Any) -> Sign:
    """Something said of a fault: a GSP time-out on GPU 0 unless told otherwise."""
    said: dict[str, Any] = {
        "scope": "gpu",
        "severity": "fatal",
        "action": "reset_gpu",
        "cls": FaultClass.HANG,
        "device": None if on is None else device_id(on),
    }
    return Sign(code=code, at=at, **{**said, **rest})


def xid(code: int, *, on: int = 0, at: float = NOW, pid: int | None = None) -> DriverEvent:
    """An Xid the driver reported."""
    return DriverEvent(kind="xid", at=at, device=device_id(on), code=code, pid=pid)


def reading(
    who: Tenant, hard_mib: int | None, *, on: int = 0, used_mib: int | None = None
) -> LimitReading:
    """What the preventive limiter says."""
    return LimitReading(
        tenant=who.id,
        device=device_id(on),
        hard_bytes=None if hard_mib is None else hard_mib * MIB,
        used_bytes=None if used_mib is None else used_mib * MIB,
        backend="nvml-memory-limits",
    )


def host(**rest: Any) -> HostSample:
    """A sample of the host."""
    return HostSample(**{"at": NOW, **rest})


def snap(
    at: float = NOW,
    *,
    gpus: Sequence[Device] = (),
    tenants: Sequence[Tenant] = (),
    uses: Sequence[Use] = (),
    wall: float | None = None,
    **rest: Any,
) -> Snapshot:
    """One look. Devices and uses keep the times they were given."""
    return Snapshot(
        **{
            "at": at,
            "wall": WALL + at if wall is None else wall,
            "boot_id": BOOT,
            "devices": tuple(gpus),
            "tenants": tuple(tenants),
            "uses": tuple(uses),
            **rest,
        }
    )


def memory(**rest: Any) -> Memory:
    """What an agent remembers that has been up since second 0 and looked just before ``NOW``."""
    return Memory(**{"boot_id": BOOT, "started_at": 0.0, "last_at": NOW - 0.1, **rest})


def case(
    who: Tenant | None = None,
    rung: Rung = Rung.WATCH,
    *,
    on: int = 0,
    since: float = NOW - 0.5,
    **rest: Any,
) -> Case:
    """A tenant on the ladder."""
    who = who or tenant()
    return Case(
        **{
            "incident": IncidentId(f"inc-{who.name}"),
            "tenant": who.id,
            "device": device_id(on),
            "rung": rung,
            "since": since,
            "opened_at": since,
            "reason": "quota-hard",
            "target": target_of(who),
            "grace_s": 10.0,
            "limit_bytes": who.hard_bytes or 0,
            "devices": (device_id(on),),
            **rest,
        }
    )


def remembering(*cases: Case, **rest: Any) -> Memory:
    """Memory with open cases."""
    return memory(
        cases={c.tenant: c for c in cases},
        open_incidents={f"tenant/{c.tenant}": c.incident for c in cases},
        **rest,
    )


def device_memory(**rest: Any) -> DeviceMemory:
    """What is remembered of a device."""
    return DeviceMemory(**rest)


def scene(cfg: Config | None = None, look: Snapshot | None = None) -> Scene:
    """A snapshot with its indexes."""
    return Scene.of(cfg or config(), look or snap())


def desk(
    cfg: Config | None = None, look: Snapshot | None = None, mem: Memory | None = None
) -> Desk:
    """An empty desk over a snapshot."""
    cfg = cfg or config()
    return Desk.over(cfg, Scene.of(cfg, look or snap()), mem or memory())


def outcome(
    kind: Kind,
    who: Tenant | None = None,
    result: Result = Result.DONE,
    *,
    on: int | None = None,
    old: Mapping[str, str] | None = None,
    **rest: Any,
) -> Outcome:
    """What became of an action."""
    return Outcome(
        **{
            "action": "a/1",
            "kind": kind,
            "incident": IncidentId("inc"),
            "tenant": (who or tenant()).id,
            "device": None if on is None else device_id(on),
            "result": result,
            "at": NOW,
            "wall": WALL + NOW,
            "old": tuple((old or {}).items()),
            **rest,
        }
    )


def target(who: Tenant | None = None) -> Target:
    """Whom an action on a tenant is for."""
    return target_of(who or tenant())


def kinds(decision: Decision, who: Tenant | str | None = None) -> list[Kind]:
    """The kinds ordered, in order; of one tenant if it is named."""
    wanted = who.id if isinstance(who, Tenant) else None if who is None else tenant_id(who)
    return [
        a.kind
        for a in decision.actions
        if wanted is None or (a.target is not None and a.target.tenant == wanted)
    ]


def budgets(decision: Decision) -> list[str]:
    """What withheld something, in order."""
    return [w.budget for w in decision.withheld]


def rung_of(mem: Memory, who: Tenant | str = "hog") -> Rung | None:
    """Where a tenant stands on the ladder; None when it has no case."""
    found = mem.cases.get(who.id if isinstance(who, Tenant) else tenant_id(who))
    return None if found is None else found.rung


@dataclass(slots=True)
class Story:
    """Look after look through ``decide``, the memory carried along.

    ``settle`` answers every order of a look with *done* before the next one, as a node would whose
    ports all work; ``old`` is what the outcomes say had been set before, by kind.
    """

    cfg: Config = field(default_factory=config)
    mem: Memory = field(default_factory=memory)
    settle: bool = True
    old: dict[Kind, dict[str, str]] = field(default_factory=dict)
    ordered: list[tuple[float, Kind, TenantId | None]] = field(default_factory=list)
    looks: list[Decision] = field(default_factory=list)

    def see(
        self,
        at: float,
        *,
        gpus: Iterable[Device] = (gpu(),),
        tenants: Sequence[Tenant] = (),
        uses: Iterable[Use] = (),
        listed_at: float | None = None,
        **rest: Any,
    ) -> Decision:
        """A look at ``at``; devices were read then, and listed then or at ``listed_at``."""
        listed = at if listed_at is None else listed_at
        look = snap(
            at,
            gpus=[replace(g, at=at, listed_at=listed) for g in gpus],
            tenants=tenants,
            uses=[replace(u, listed_at=listed) for u in uses],
            **rest,
        )
        return self.look(look)

    def look(self, look: Snapshot) -> Decision:
        """A look exactly as given."""
        decision = decide(self.cfg, self.mem, look)
        self.mem = decision.memory
        self.looks.append(decision)
        for action in decision.actions:
            who = action.target.tenant if action.target is not None else None
            self.ordered.append((look.at, action.kind, who))
        if self.settle:
            self.answer(decision)
        return decision

    def answer(self, decision: Decision, result: Result = Result.DONE) -> None:
        """Fold one result for every order of a decision."""
        self.mem = self.mem.after(
            tuple(
                Outcome(
                    action=a.id,
                    kind=a.kind,
                    incident=a.incident,
                    tenant=a.target.tenant if a.target is not None else None,
                    device=a.device,
                    result=result,
                    at=self.mem.last_at,
                    wall=WALL + self.mem.last_at,
                    old=tuple(self.old.get(a.kind, {}).items()),
                )
                for a in decision.actions
            )
        )

    def times(self, kind: Kind, who: Tenant | str | None = None) -> list[float]:
        """When a kind was ordered."""
        wanted = who.id if isinstance(who, Tenant) else None if who is None else tenant_id(who)
        return [at for at, k, t in self.ordered if k is kind and wanted in (None, t)]
