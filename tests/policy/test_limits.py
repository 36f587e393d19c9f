"""Rule limits: the reactive engine audits the preventive one."""

from __future__ import annotations

from gpuwarden.model.finding import Finding
from gpuwarden.model.snapshot import LimitReading
from gpuwarden.policy import limits
from tests.policy.builders import config, gpu, memory, reading, scene, snap, tenant

HOG = tenant("hog", quota_mib=8_192)


def found(*readings: LimitReading) -> list[Finding]:
    look = snap(gpus=[gpu()], tenants=[HOG], limits=readings)
    return limits.find(config(), memory(), scene(look=look))


def test_a_limit_that_reads_back_as_the_quota_is_fine() -> None:
    assert found(reading(HOG, 8_192, used_mib=8_192)) == []


def test_success_without_effect() -> None:
    (claim,) = found(reading(HOG, None))
    assert "success without effect" in claim.summary
    assert "no limit" in claim.summary
    (claim,) = found(reading(HOG, 16_384))
    assert "16.0 GiB" in claim.summary


def test_use_above_a_limit_said_to_be_in_force() -> None:
    (claim,) = found(reading(HOG, 8_192, used_mib=9_000))
    assert "although" in claim.summary


def test_unknown_use_says_nothing() -> None:
    assert found(reading(HOG, 8_192, used_mib=None)) == []


def test_readings_of_strangers_and_of_tenants_without_a_quota_say_nothing() -> None:
    assert found(reading(tenant("gone"), 1)) == []
    look = snap(
        gpus=[gpu()], tenants=[tenant("free", quota_mib=None)], limits=(reading(tenant("free"), 1),)
    )
    assert limits.find(config(), memory(), scene(look=look)) == []
