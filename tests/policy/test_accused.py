"""Who goes for a driver fault: whom the driver names, or who alone grew, and only where somebody protected suffers."""

from __future__ import annotations

from typing import Any

import pytest

from gpuwarden.adapters import kernel_lines
from gpuwarden.model.kernel_record import KernelRecord, KernelTrust
from gpuwarden.model.memory import Rung
from gpuwarden.model.tenant import Tenant
from gpuwarden.policy.verdict import NAMED_WITHIN_S
from tests.policy.builders import (
    HIGH,
    LOW,
    MIB,
    NOW,
    PROTECTED,
    Story,
    budgets,
    config,
    gpu,
    rung_of,
    service,
    tenant,
    tenant_id,
    use,
    xid,
)

SERVE = tenant("serve", cls=PROTECTED, quota_mib=None)
MEEK = tenant("meek", cls=LOW, quota_mib=60_000)
LINE = "NVRM: Xid (PCI:0000:3b:00): 119, pid=99, name=other, Timeout after 6s of waiting for RPC response"


def see(
    story: Story, at: float = NOW, *, who: Tenant = MEEK, grown_mib: int = 0, **look: Any
) -> Story:
    """The low one, within its quota, beside a protected service."""
    rate = float(grown_mib * MIB)
    story.see(
        at,
        gpus=[gpu(used_mib=22_000, pci="0000:3b:00.0")],
        tenants=look.pop("tenants", [SERVE, who]),
        uses=[use(SERVE, 1_000), use(who, 20_000, grown_mib=grown_mib, growth_bytes_s=rate)],
        **look,
    )
    return story


def named(code: int, who: Tenant = MEEK, **look: Any) -> Story:
    return see(
        Story(look.pop("cfg", config())),
        who=who,
        events=(xid(code, pid=7),),
        named={7: who.id},
        **look,
    )


def test_whom_the_driver_names_goes_at_once() -> None:
    assert rung_of(named(119).mem, MEEK) is Rung.HELD


def test_an_applications_fault_convicts_nobody_however_red_the_service() -> None:
    assert rung_of(named(31, services=(service(who=SERVE),)).mem, MEEK) is None


def test_nobody_goes_where_nobody_protected_suffers() -> None:
    assert rung_of(named(48).mem, MEEK) is None, "the device is not locked up, the service is well"
    assert rung_of(named(48, services=(service(who=SERVE),)).mem, MEEK) is Rung.HELD
    assert rung_of(named(119, tenants=[MEEK]).mem, MEEK) is None


@pytest.mark.parametrize("cls", [HIGH, PROTECTED])
def test_the_better_classes_stay(cls: Any) -> None:
    who = tenant("meek", cls=cls, quota_mib=60_000)
    assert rung_of(named(119, who).mem, who) is None


def test_a_rule_that_observes_says_what_it_would_do() -> None:
    story = named(119, cfg=config("enforce", rules={"fault": {"mode": "observe"}}))
    assert rung_of(story.mem, MEEK) not in (Rung.HELD, Rung.TERMED)
    assert budgets(story.looks[-1]) == ["observe"]


def test_who_alone_grew_goes_when_no_line_has_named_anybody() -> None:
    story = see(Story(), grown_mib=512, events=(xid(119),))
    assert rung_of(story.mem, MEEK) is None
    assert story.looks[-1].wake_at is not None
    assert story.looks[-1].wake_at <= NOW + NAMED_WITHIN_S
    see(story, NOW + NAMED_WITHIN_S, grown_mib=512)
    assert rung_of(story.mem, MEEK) is Rung.HELD


def test_a_line_that_names_another_clears_who_grew() -> None:
    story = see(Story(), grown_mib=512, events=(xid(119),))
    line = KernelRecord(
        text=LINE,
        source="kmsg",
        trust=KernelTrust.KERNEL,
        seen_at=NOW + 0.1,
        sequence=1,
        boot_us=1,
        line=kernel_lines.read_message(LINE),
    )
    assert line.line is not None
    see(story, NOW + 0.1, grown_mib=512, kernel=(line,), named={99: tenant_id("other")})
    see(story, NOW + 1.0, grown_mib=512)
    assert rung_of(story.mem, MEEK) is None


def test_who_stood_still_is_not_accused() -> None:
    story = see(Story(), events=(xid(119),))
    see(story, NOW + 1.0)
    assert rung_of(story.mem, MEEK) is None
