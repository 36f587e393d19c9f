"""The ranking of who is beside a red service: quota, growth, Xid, cores; what is not known is not known."""

from __future__ import annotations

from typing import Any

from gpuwarden.model.growth import CoreShare, Growth
from gpuwarden.model.repair import Fault
from gpuwarden.policy import suspects
from gpuwarden.policy.scene import Scene
from tests.policy.builders import (
    MIB,
    NOW,
    PROTECTED,
    WALL,
    config,
    device_id,
    fault_sign,
    gpu,
    memory,
    service,
    snap,
    tenant,
    use,
)

SERVE = tenant("serve", cls=PROTECTED, quota_mib=None)
OVER, GREW, XID, BUSY, QUIET = (tenant(n) for n in ("over", "grew", "xid", "busy", "quiet"))
STATE = service("risk", who=SERVE)


def growth(who: Any, by_mib: int) -> Growth:
    return Growth(
        device=device_id(0),
        tenant=who.id,
        watched_since=1.0,
        stirred_at=NOW,
        own_bytes=by_mib * MIB,
    )


def share(who: Any, ratio: float) -> CoreShare:
    return CoreShare(tenant=who.id, device=device_id(0), sm_ratio=ratio, at=NOW)


def fault(who: Any, code: str = "xid 31") -> Fault:
    return Fault(
        root=fault_sign(code, at=NOW - 2),
        first_at=NOW - 2,
        last_at=NOW - 2,
        first_wall=WALL,
        tenants=(who.id,),
    )


def ranked(**seen: Any) -> list[suspects.Suspect]:
    cfg = config()
    uses = seen.pop("uses", [use(t) for t in (QUIET, BUSY, XID, GREW)] + [use(OVER, 9_000)])
    look = snap(
        NOW,
        gpus=[gpu()],
        tenants=[SERVE, OVER, GREW, XID, BUSY, QUIET],
        uses=[use(SERVE), *uses],
        services=(STATE,),
        growths=seen.pop("growths", (growth(GREW, 2_000),)),
        shares=seen.pop("shares", (share(BUSY, 0.7), share(QUIET, 0.1))),
    )
    mem = memory(faults={"xid 31": fault(XID)})
    return suspects.rank(cfg, mem, Scene.of(cfg, look), STATE)


def test_the_order_is_quota_growth_xid_cores() -> None:
    assert [s.tenant for s in ranked()] == [t.id for t in (OVER, GREW, XID, BUSY, QUIET)]


def test_what_is_not_told_is_not_zero() -> None:
    by = {s.tenant: s for s in ranked(shares=())}
    assert {s.sm_ratio for s in by.values()} == {None}
    withheld = ranked(uses=[use(GREW, unknown_rows=1)])
    assert [(s.quota_ratio, s.grown_bytes) for s in withheld] == [(None, None)]


def test_the_service_itself_and_who_is_elsewhere_are_no_suspects() -> None:
    assert ranked(uses=[use(GREW, on=1)]) == []


def test_it_is_told_in_words() -> None:
    cfg = config()
    look = snap(
        NOW,
        gpus=[gpu()],
        tenants=[SERVE, OVER],
        uses=[use(SERVE), use(OVER, 16_384)],
        growths=(growth(OVER, 2_048),),
        shares=(share(OVER, 0.93),),
    )
    mem = memory(faults={"xid 31": fault(OVER)})
    assert suspects.told(cfg, mem, Scene.of(cfg, look), STATE) == (
        (
            "suspect 1 of risk",
            "over on GPU 0: 200% of its quota, grew 2.0 GiB, xid 31, 93% of the SMs",
        ),
    )


def test_of_many_the_first_are_told_and_the_rest_counted() -> None:
    cfg = config()
    many = [tenant(f"t{n}") for n in range(8)]
    look = snap(NOW, gpus=[gpu()], tenants=[SERVE, *many], uses=[use(SERVE), *map(use, many)])
    told = suspects.told(cfg, memory(), Scene.of(cfg, look), STATE)
    assert len(told) == suspects.TOLD_MOST + 1
    assert told[-1] == ("more suspects of risk", "3")
