"""Signs become faults: one cause, one fault."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from gpuwarden.model.repair import NODE, Fault, FaultClass, Sign
from gpuwarden.policy.fault import fold
from tests.policy.builders import (
    LOW,
    NOW,
    PROTECTED,
    WALL,
    config,
    device_id,
    fault_sign,
    gpu,
    scene,
    snap,
    tenant,
    tenant_id,
    use,
)

HOG = tenant("hog", cls=LOW)
KEPT = tenant("kept", cls=PROTECTED)


def fell(**rest: Any) -> Sign:
    return fault_sign("xid 79", scope="node", action="reboot_node", cls=FaultClass.LOST, **rest)


def app(code: int = 31, **rest: Any) -> Sign:
    said = {"scope": "app", "severity": "error", "action": "restart_app"}
    return fault_sign(f"xid {code}", cls=FaultClass.APPLICATION, **{**said, **rest})


def torn(**rest: Any) -> Sign:
    said = {"scope": "app", "severity": "info", "action": "workflow"}
    return fault_sign("xid 45", cls=FaultClass.APPLICATION, **{**said, **rest})


def hot(**rest: Any) -> Sign:
    said = {"scope": "gpu", "severity": "warning", "action": "contact_support"}
    cls = FaultClass.PERFORMANCE
    return fault_sign("thermal", cls=cls, is_condition=True, **{**said, **rest})


def folded(
    *signs: Sign,
    faults: Mapping[str, Fault] | None = None,
    at: float = NOW,
    tenants: tuple[Any, ...] = (),
    uses: tuple[Any, ...] = (),
    mended: Mapping[str, tuple[float, ...]] | None = None,
) -> dict[str, Fault]:
    look = snap(at, devices=[gpu(0), gpu(1)], tenants=tenants, uses=uses)
    cfg = config()
    return dict(fold.fold(cfg, faults or {}, signs, scene(cfg, look), mended or {}))


def only(faults: Mapping[str, Fault]) -> Fault:
    assert len(faults) == 1, faults.keys()
    return next(iter(faults.values()))


def test_a_burst_of_45_after_a_79_is_one_fault_about_79() -> None:
    fault = only(folded(fell(), *(torn(at=NOW + 0.01 * i, pid=i) for i in range(40))))
    assert fault.root.code == "xid 79"
    assert fault.followers == (("xid 45", 40),)


def test_the_order_of_the_lines_does_not_matter() -> None:
    fault = only(folded(torn(at=NOW - 2.0), fell()))
    assert fault.root.code == "xid 79"
    assert fault.followers == (("xid 45", 1),)
    assert fault.first_at == NOW - 2.0


def test_a_gsp_time_out_followed_by_the_fall_is_about_the_fall() -> None:
    fault = only(folded(fault_sign(at=NOW - 8.0), fell()))
    assert fault.root.code == "xid 79"
    assert dict(fault.followers) == {"xid 119": 1}


def test_what_names_its_cause_follows_it_whatever_its_weight() -> None:
    link = fault_sign("xid 149", scope="link", severity="error", cls=FaultClass.LINK)
    after = fault_sign("xid 119", at=NOW + 1.0, caused_by="xid 149")
    fault = only(folded(link, after))
    assert fault.root.code == "xid 149"


def test_two_devices_are_two_faults() -> None:
    assert len(folded(fell(on=0), fell(on=1))) == 2


def test_far_apart_in_time_are_two() -> None:
    first = folded(fault_sign("xid 74", scope="link", severity="error", cls=FaultClass.LINK))
    later = folded(
        fault_sign("xid 48", at=NOW + 31.0, cls=FaultClass.ECC), faults=first, at=NOW + 31.0
    )
    assert {f.root.code for f in later.values()} == {"xid 74", "xid 48"}
    near = folded(
        fault_sign("xid 48", at=NOW + 29.0, cls=FaultClass.ECC), faults=first, at=NOW + 29.0
    )
    assert {f.root.code for f in near.values()} == {"xid 48"}


def test_two_applications_faults_are_counted_and_name_both() -> None:
    fault = only(
        folded(app(tenant=tenant_id("hog")), app(13, at=NOW + 1, tenant=tenant_id("kept")))
    )
    assert fault.count == 2
    assert fault.tenants == (tenant_id("hog"), tenant_id("kept"))
    assert fault.accused is None, "an application's fault accuses nobody"


def test_a_condition_lives_as_long_as_it_is_told() -> None:
    first = folded(hot())
    again = folded(hot(at=NOW + 1), faults=first, at=NOW + 1)
    assert only(again).count == 1
    assert not folded(faults=again, at=NOW + 2)


def test_a_condition_is_a_fault_beside_an_event_unless_the_device_is_gone() -> None:
    beside = folded(fault_sign("xid 48", cls=FaultClass.ECC), hot(at=NOW + 0.1))
    assert len(beside) == 2
    on_the_lost = folded(fell(), hot(at=NOW + 0.1))
    assert only(on_the_lost).root.code == "xid 79"


def test_a_condition_of_the_same_class_keeps_an_event_up_and_is_counted_once() -> None:
    event = fault_sign("xid 74", scope="link", severity="error", cls=FaultClass.LINK)
    faults = folded(event)
    for look in range(1, 50):
        weak = fault_sign(
            "nvlink-crc",
            at=NOW + look,
            scope="link",
            severity="warning",
            cls=FaultClass.LINK,
            is_condition=True,
        )
        faults = folded(weak, faults=faults, at=NOW + look)
    fault = only(faults)
    assert (fault.root.code, fault.count) == ("xid 74", 2)
    assert fault.followers == (("nvlink-crc", 1),)
    assert fault.last_at == NOW + 49, "it is not over while that stands"


def link(cls: FaultClass = FaultClass.LINK, **rest: Any) -> Sign:
    return fault_sign("xid 74", scope="link", action="reset_gpu", cls=cls, **rest)


@pytest.mark.parametrize("cls", [FaultClass.LINK, FaultClass.HANG])
def test_a_wish_that_was_polled_first_has_its_reason_in_the_line_that_follows(
    cls: FaultClass,
) -> None:
    wish = fault_sign("recovery 1", scope="gpu", cls=FaultClass.HANG, at=NOW)
    fault = only(folded(wish, link(cls, at=NOW + 0.1), at=NOW + 0.2))
    assert (fault.root.code, fault.root.scope, fault.recovery) == ("xid 74", "link", 1)
    assert fault.followers == (("recovery 1", 1),)
    assert fault.first_at == NOW


def test_a_wish_stands_above_what_only_follows_or_is_an_application_s() -> None:
    wish = fault_sign("recovery 2", scope="gpu", at=NOW)
    for sign in (torn(at=NOW + 0.1), app(at=NOW + 0.1)):
        assert only(folded(wish, sign, at=NOW + 0.2)).root.code == "recovery 2"


def test_the_recovery_number_belongs_to_the_fault_that_stands() -> None:
    number = fault_sign("recovery 2", at=NOW + 1.0)
    fault = only(folded(fault_sign(), number))
    assert (fault.root.code, fault.recovery) == ("xid 119", 2)
    alone = only(folded(number))
    assert (alone.root.code, alone.recovery) == ("recovery 2", 2)
    assert not folded(fault_sign("recovery 0", severity="info", scope="info"))


def test_an_application_is_quiet_after_a_minute_and_a_broken_device_is_not() -> None:
    passing, broken = folded(app()), folded(fault_sign())
    assert folded(faults=passing, at=NOW + 60.0)
    assert not folded(faults=passing, at=NOW + 60.1)
    assert folded(faults=broken, at=NOW + 1e6)


def test_who_set_it_off_is_whom_the_sign_names() -> None:
    fault = only(folded(fault_sign(tenant=tenant_id("hog"))))
    assert fault.accused == tenant_id("hog")


def grown(who: Any, mib: int) -> Any:
    size = mib * 2**20
    return replace(use(who, used_mib=4096), grown_bytes=size, growth_bytes_s=float(size))


def test_or_the_only_one_that_grew_at_the_onset() -> None:
    one = folded(fault_sign(), tenants=(HOG, KEPT), uses=(grown(HOG, 512), use(KEPT)))
    assert only(one).accused == HOG.id
    both = folded(fault_sign(), tenants=(HOG, KEPT), uses=(grown(HOG, 512), grown(KEPT, 512)))
    assert only(both).accused is None
    protected = folded(fault_sign(), tenants=(HOG, KEPT), uses=(use(HOG), grown(KEPT, 512)))
    assert only(protected).accused is None
    named = folded(fault_sign(pid=4711), tenants=(HOG, KEPT), uses=(grown(HOG, 512), use(KEPT)))
    assert only(named).accused is None, "the driver names somebody else, whoever that is"


def test_a_line_that_names_somebody_counts_for_more_than_who_grew() -> None:
    grew: dict[str, Any] = {"tenants": (HOG, KEPT), "uses": (grown(HOG, 512), use(KEPT))}
    event = folded(fault_sign(), **grew)
    assert only(event).accused == HOG.id
    other = tenant_id("other")
    line = fault_sign(at=NOW + 0.1, pid=4711, tenant=other)
    assert only(folded(line, faults=event, at=NOW + 0.1, **grew)).accused == other
    stranger = fault_sign(at=NOW + 0.1, pid=4711)
    assert only(folded(stranger, faults=event, at=NOW + 0.1, **grew)).accused is None
    named = folded(fault_sign(pid=1, tenant=HOG.id), **grew)
    assert only(folded(line, faults=named, at=NOW + 0.1, **grew)).accused == HOG.id


def test_it_remembers_repairs_that_did_not_last() -> None:
    key = f"{device_id(0)}/hang"
    wall = WALL + NOW
    fault = only(folded(fault_sign(), mended={key: (wall - 86_400, wall - 4 * 86_400)}))
    assert fault.repairs == 1


def test_a_log_that_others_write_neither_follows_nor_leads_a_trusted_one() -> None:
    faults = folded(fell(is_trusted=False, at=NOW - 1), torn(), fault_sign())
    assert {(f.root.code, f.root.is_trusted) for f in faults.values()} == {
        ("xid 79", False),
        ("xid 119", True),
    }


def test_a_flood_of_kinds_is_bounded() -> None:
    signs = [fault_sign(f"xid {n}", at=NOW + n, scope="link", severity="error") for n in range(300)]
    fault = only(folded(fault_sign(), *signs))
    assert len(fault.followers) <= fold.MAX_FOLLOWERS
    many = folded(*(replace(fell(), device=device_id(n)) for n in range(300)))
    assert len(many) == fold.MAX_FAULTS


def test_the_node_is_a_subject_of_its_own() -> None:
    fault = only(folded(fault_sign("sxid 20034", on=None, scope="node", cls=FaultClass.FABRIC)))
    assert fault.root.subject == NODE
