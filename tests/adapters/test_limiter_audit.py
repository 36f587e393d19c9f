"""The auditor of the preventive limiter reads back every limit, and forgets what it cannot read."""

import threading

from gpuwarden.adapters.limiter_audit import AuditedLimiter
from gpuwarden.errors import Unavailable
from gpuwarden.model.action import Target
from gpuwarden.model.ids import DeviceId, TenantId
from gpuwarden.model.snapshot import LimitReading

DEVICE = DeviceId("GPU-1")
TARGET = Target(tenant=TenantId("docker:a"), runtime="docker")


class Driver:
    """A limiter that answers success and keeps, or does not keep, what it was told."""

    name = "nvml-memory-limits"

    def __init__(self) -> None:
        self.kept: int | None = None
        self.has_effect = True
        self.is_away = False
        self.was_read = threading.Event()

    def set(self, target: Target, device: DeviceId, soft_bytes: int, hard_bytes: int) -> None:
        self.kept = hard_bytes if self.has_effect else None

    def clear(self, target: Target, device: DeviceId) -> None:
        self.kept = None

    def read(self, target: Target, device: DeviceId) -> LimitReading:
        self.was_read.set()
        if self.is_away:
            raise Unavailable("no answer")
        return LimitReading(
            tenant=target.tenant,
            device=device,
            hard_bytes=self.kept,
            used_bytes=None,
            backend=self.name,
        )


def read_twice(driver: Driver) -> None:
    """Two whole rounds, so that the first one's result is kept."""
    for _ in range(2):
        driver.was_read.clear()
        assert driver.was_read.wait(10)


def test_success_without_effect_is_read_back() -> None:
    driver = Driver()
    driver.has_effect = False
    audited = AuditedLimiter(driver, every_s=0.01)
    audited.set(TARGET, DEVICE, 1, 8)
    read_twice(driver)
    assert [r.hard_bytes for r in audited.readings()] == [None]
    audited.close()


def test_a_limit_that_cannot_be_read_is_not_known() -> None:
    driver = Driver()
    audited = AuditedLimiter(driver, every_s=0.01)
    audited.set(TARGET, DEVICE, 1, 8)
    read_twice(driver)
    assert [r.hard_bytes for r in audited.readings()] == [8]
    driver.is_away = True
    read_twice(driver)
    assert audited.readings() == ()
    assert audited.failures > 0
    audited.close()


def test_a_cleared_limit_is_audited_no_more() -> None:
    driver = Driver()
    audited = AuditedLimiter(driver, every_s=0.01)
    audited.set(TARGET, DEVICE, 1, 8)
    read_twice(driver)
    audited.clear(TARGET, DEVICE)
    assert audited.readings() == ()
    audited.close()
