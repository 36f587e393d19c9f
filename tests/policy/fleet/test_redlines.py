"""Which parts of a service are judged, by which guardrails, and how often."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from gpuwarden.config_guardrails import GuardrailConfig, pack
from gpuwarden.model.evaluation import Cohort, Colour, Level, Window
from gpuwarden.policy.fleet.redlines import (
    OVER_MIN_S,
    at_the_centre,
    concerns,
    judged,
    pace_s,
    subjects,
)

SPECS = {spec.name: spec for spec in pack(())}


def cohort(version: str = "", arm: str = "", segment: str = "") -> Cohort:
    return Cohort(service="chat", version=version, arm=arm, segment=segment)


def test_one_version_is_the_service_itself() -> None:
    assert [s.cohort for s in subjects([cohort("v1")])] == [cohort()]


def test_several_versions_arms_and_segments_are_judged_on_their_own() -> None:
    parts = [cohort("v1", "base", "old"), cohort("v1", "base", "new"), cohort("v2", "new", "new")]
    found = {s.cohort: s.made_of for s in subjects(parts)}
    assert found[cohort()] == tuple(sorted(parts))
    assert found[cohort("v1")] == tuple(sorted(parts[:2]))
    assert found[cohort("v2")] == (parts[2],)
    assert found[cohort(arm="base")] == tuple(sorted(parts[:2]))
    assert found[cohort(segment="new")] == tuple(sorted(parts[1:]))
    assert found[cohort("v1", segment="old")] == (parts[0],)
    assert cohort("v2", segment="old") not in found


def test_services_are_apart() -> None:
    other = Cohort(service="ocr", version="v9")
    found = [s.cohort for s in subjects([other, cohort("v1"), cohort("v2")])]
    assert found == [cohort(), cohort("v1"), cohort("v2"), Cohort(service="ocr")]


def test_a_shift_of_traffic_between_versions_is_no_drop() -> None:
    assert concerns(SPECS["qps-drop"], cohort())
    assert not concerns(SPECS["qps-drop"], cohort("v1"))
    assert concerns(SPECS["latency-p99"], cohort("v1"))
    assert concerns(SPECS["latency-p99"], cohort(segment="s"))
    assert not concerns(SPECS["queue-length"], cohort(segment="s"))


def test_globs_name_the_services() -> None:
    (spec,) = [
        s
        for s in pack((GuardrailConfig(name="latency-p99", services=("chat-*",)),))
        if s.name == "latency-p99"
    ]
    assert not concerns(spec, cohort())
    assert concerns(spec, Cohort(service="chat-eu"))


def test_nothing_is_judged_of_less_than_windows_take_to_come() -> None:
    assert at_the_centre(SPECS["latency-p99"]).over_s == OVER_MIN_S
    assert at_the_centre(SPECS["accuracy-hour"]).over_s == 3600.0
    assert pace_s(at_the_centre(SPECS["latency-p99"])) == 1.0
    assert pace_s(SPECS["accuracy-hour"]) == 60.0


def test_each_is_judged_at_its_own_pace_and_forgotten_with_its_part() -> None:
    asked: list[float] = []
    spec = at_the_centre(SPECS["queue-length"])
    level = Level(total=500.0, count=1, low=500.0, high=500.0, last=500.0)

    def windows(
        made_of: Collection[Cohort], since: float, names: Collection[str]
    ) -> Sequence[Window]:
        asked.append(since)
        assert "queue_length" in names
        return [
            Window(
                cohort=cohort(),
                begin_wall=since + spec.reach_s - 20,
                length_s=10.0,
                levels={"queue_length": level},
            )
        ]

    known = subjects([cohort("v1")])
    lines = judged([spec], known, {}, windows, 1000.0)
    (line,) = lines.values()
    assert line.verdict.value == 500.0
    assert judged([spec], known, lines, windows, 1001.0) == lines
    assert len(asked) == 1
    later = judged([spec], known, lines, windows, 1002.0)
    assert len(asked) == 2
    later = judged([spec], known, later, windows, 1000.0 + spec.enter_s)
    assert next(iter(later.values())).verdict.colour is Colour.RED
    assert judged([spec], [], later, windows, 1100.0) == {}
