"""The fleet as a whole: one incident and one page, of however many nodes and however often it changes."""

from __future__ import annotations

from dataclasses import replace

from gpuwarden.model.finding import Severity
from gpuwarden.model.fleet import FleetClaim, FleetIncident
from gpuwarden.policy.fleet.decide import FleetDecision, decide
from gpuwarden.policy.fleet.fold import FleetMemory, fold
from gpuwarden.policy.fleet.incidents import Followed, follow, is_over
from tests.policy.fleet_builders import CFG, NOW, WALL, ask, fleet, heard, report, sick

SIGHT = CFG.sight


def claim(count: int = 3, severity: Severity = Severity.CRITICAL) -> FleetClaim:
    return FleetClaim(key="mass a", severity=severity, summary=f"{count} nodes", count=count)


def after(*moments: tuple[float, tuple[FleetClaim, ...]]) -> list[Followed]:
    """Pass after pass, at these seconds and with these claims."""
    passes: list[Followed] = []
    standing: tuple[FleetIncident, ...] = ()
    for at, claims in moments:
        passes.append(follow(SIGHT, standing, claims, NOW + at, WALL + at))
        standing = passes[-1].standing
    return passes


def pages(passes: list[Followed]) -> list[str]:
    return [page.summary for each in passes for page in each.pages]


def test_it_is_paged_when_it_has_not_grown_for_its_time_and_once() -> None:
    before, at, later = after(*[(s, (claim(),)) for s in (0, SIGHT.fold_s - 0.1, SIGHT.fold_s)])[:3]
    assert (before.pages, at.pages) == ((), ())
    assert [page.count for page in later.pages] == [3]
    many = after(*[(float(s), (claim(),)) for s in range(100)])
    assert pages(many) == ["3 nodes"]


def test_while_it_grows_the_page_waits_and_speaks_of_them_all() -> None:
    growing = [(float(s), (claim(s + 1),)) for s in range(20)]
    assert pages(after(*growing)) == []
    assert pages(after(*growing, (19 + SIGHT.fold_s, (claim(20),)))) == ["20 nodes"]


def test_what_never_stops_growing_is_paged_in_time_all_the_same() -> None:
    growing = [(float(s), (claim(s + 1),)) for s in range(100)]
    assert pages(after(*growing)) == [f"{int(SIGHT.fold_max_s) + 1} nodes"]


def test_what_is_no_error_is_not_paged() -> None:
    mild = claim(severity=Severity.WARNING)
    assert pages(after(*[(float(s), (mild,)) for s in range(100)])) == []


def test_what_services_say_is_told_as_the_warning_it_is() -> None:
    for kind in ("guardrail chat/v2 queue-length", "silent service chat"):
        told = replace(claim(severity=Severity.WARNING), key=kind)
        (page,) = [
            p for each in after(*[(float(s), (told,)) for s in range(100)]) for p in each.pages
        ]
        assert page.severity is Severity.WARNING
        assert "/" not in page.id
        assert " " not in page.id
        mild = replace(told, severity=Severity.INFO)
        assert pages(after(*[(float(s), (mild,)) for s in range(100)])) == []


def test_it_is_over_after_its_time_and_not_when_it_only_flickers() -> None:
    passes = after((0, (claim(),)), (5, ()), (SIGHT.over_s, (claim(),)))
    assert [each.standing[0].id for each in passes] == [passes[0].standing[0].id] * 3
    passes = after((0, (claim(),)), (5, ()), (5 + SIGHT.over_s - 0.1, ()), (5 + SIGHT.over_s, ()))
    assert [len(each.standing) for each in passes] == [1, 1, 1, 0]
    (ended,) = passes[-1].changed
    assert is_over(ended, passes[-1].standing)
    assert not is_over(ended, passes[-2].standing)


def test_the_next_time_is_another_incident() -> None:
    first, *_, last = after(
        (0, (claim(),)), (5, ()), (5 + SIGHT.over_s, ()), (100 + SIGHT.over_s, (claim(),))
    )
    assert first.standing[0].id != last.standing[0].id


def passed(memory: FleetMemory, at: float = NOW) -> FleetDecision:
    return decide(CFG, memory, at, WALL, 7)


def test_case_29_a_mass_is_one_incident_and_freezes_leave() -> None:
    many = [heard(f"n{n}", sick(2), ask(f"x{n}")) for n in range(40)]
    decision = passed(fold(fleet(40), many))
    (incident,) = decision.memory.incidents
    assert incident.count == 40
    assert incident.summary.startswith(
        "40 of 40 nodes of group default turned sick at once (xid-79 on 40); when most are sick"
    )
    assert "no permits are given" in incident.summary
    assert {denial.budget for denial in decision.denied} == {"frozen"}
    late = passed(decision.memory, NOW + SIGHT.fold_s)
    assert [page.id for page in late.pages] == [incident.id]


def test_a_few_of_many_are_not_said_to_be_a_common_cause() -> None:
    decision = passed(fold(fleet(40), [heard(f"n{n}", sick(2)) for n in range(8)]))
    assert "8 of 40 nodes" in decision.memory.incidents[0].summary
    assert "most are sick" not in decision.memory.incidents[0].summary


def test_a_mass_that_is_old_and_still_stands_is_not_over() -> None:
    memory = passed(fold(fleet(10), [heard(f"n{n}", sick(2)) for n in range(10)])).memory
    for at in range(10, 500, 9):
        again = [heard(f"n{n}", sick(at), at=NOW + at) for n in range(10)]
        memory = passed(fold(memory, again), NOW + at).memory
    assert [i.gone_at for i in memory.incidents] == [None]
    assert "no permits" in memory.incidents[0].summary
    well = [heard(f"n{n}", report(1000), at=NOW + 500) for n in range(10)]
    memory = passed(fold(memory, well), NOW + 500).memory
    assert memory.incidents[0].gone_at is None
    late = NOW + 500 + SIGHT.over_s
    well = [heard(f"n{n}", report(1001), at=late) for n in range(10)]
    memory = replace(fold(memory, well), decided_at=late)
    assert passed(memory, late).memory.incidents[0].gone_at == late
