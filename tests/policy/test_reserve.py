"""Rule reserve: memory kept free for protected tenants."""

from __future__ import annotations

from gpuwarden.config import Config
from gpuwarden.model.device import Device, Sight
from gpuwarden.model.finding import Finding
from gpuwarden.policy import reserve
from tests.policy.builders import (
    MIB,
    NOW,
    PROTECTED,
    config,
    device_id,
    device_memory,
    gpu,
    memory,
    scene,
    snap,
    tenant,
    use,
)

CFG = config(reserve={"bytes": "8GiB"})
SERVE = tenant("serve", cls=PROTECTED, quota_mib=None)


def found(
    device: Device, cfg: Config = CFG, *, listed_at: float = NOW, **breach: float
) -> list[Finding]:
    since = breach.get("since", NOW - 0.1)
    look = snap(gpus=[device], tenants=[SERVE], uses=[use(SERVE, 100, at=listed_at)])
    state = {device_id(0): device_memory(reserve_since=since)}
    return reserve.find(cfg, memory(devices=state), scene(cfg, look))


def test_names_what_is_free_and_what_should_be() -> None:
    (claim,) = found(gpu(used_mib=80_000))
    assert (claim.used_bytes, claim.limit_bytes) == (1_920 * MIB, 8_192 * MIB)
    assert claim.device == device_id(0)
    assert claim.tenant is None
    assert "serve" in claim.summary


def test_a_list_taken_since_confirms() -> None:
    assert found(gpu(used_mib=80_000, listed_at=NOW), since=NOW - 0.01)[0].is_confirmed
    assert not found(
        gpu(used_mib=80_000, listed_at=NOW - 0.01), listed_at=NOW - 0.01, since=NOW - 0.01
    )[0].is_confirmed


def test_the_larger_of_bytes_and_ratio_counts() -> None:
    both = config(reserve={"bytes": "1GiB", "ratio": 0.5})
    assert found(gpu(used_mib=80_000), both)[0].limit_bytes == 40_960 * MIB


def test_no_reserve_no_claim() -> None:
    assert found(gpu(used_mib=81_000), config()) == []


def test_nobody_protected_there_no_claim() -> None:
    look = snap(gpus=[gpu(used_mib=81_000)], tenants=[tenant()], uses=[use()])
    state = {device_id(0): device_memory(reserve_since=NOW)}
    assert reserve.find(CFG, memory(devices=state), scene(CFG, look)) == []


def test_an_unseen_device_is_not_judged() -> None:
    assert found(gpu(used_mib=80_000, sight=Sight.BLIND)) == []
    assert found(gpu(used_mib=80_000, used_bytes=None)) == []
