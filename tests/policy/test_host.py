"""Rule host: the host itself runs short."""

from __future__ import annotations

from typing import Any

import pytest

from gpuwarden.model.finding import Finding
from gpuwarden.policy import host as rule
from tests.policy.builders import NOW, Story, config, host, memory, scene, snap

GIB = 2**30


def found(held: float | None = None, **sample: Any) -> list[Finding]:
    keys = ("memory", "memory-pressure", "cpu", "disk")
    claims = {} if held is None else {f"host {k}": NOW - held for k in keys}
    look = snap(host=host(**sample))
    return rule.find(config(), memory(claims=claims), scene(look=look))


@pytest.mark.parametrize(
    ("sample", "key"),
    [
        ({"memory_total_bytes": 100 * GIB, "memory_available_bytes": 5 * GIB - 1}, "host memory"),
        ({"memory_full_avg10": 40.1}, "host memory-pressure"),
        ({"cpu_ratio": 0.99}, "host cpu"),
        ({"filesystem_free_ratio": 0.049}, "host disk"),
    ],
)
def test_each_shortage(sample: dict[str, Any], key: str) -> None:
    (claim,) = found(**sample)
    assert claim.key == key
    assert not claim.is_confirmed


@pytest.mark.parametrize(
    "sample",
    [
        {"memory_total_bytes": 100 * GIB, "memory_available_bytes": 5 * GIB},
        {"memory_full_avg10": 40.0},
        {"cpu_ratio": 0.98},
        {"filesystem_free_ratio": 0.05},
        {"memory_available_bytes": 0},  # of an unknown total
        {"memory_total_bytes": 0, "memory_available_bytes": 0},
        {},
    ],
)
def test_at_the_line_or_unknown_is_no_claim(sample: dict[str, Any]) -> None:
    assert found(**sample) == []


@pytest.mark.parametrize(("held", "is_sure"), [(29.9, False), (30.0, True)])
def test_it_counts_once_it_has_lasted(held: float, is_sure: bool) -> None:
    assert found(held, cpu_ratio=1.0)[0].is_confirmed is is_sure


def test_no_sample_no_claim() -> None:
    assert rule.find(config(), memory(), scene(look=snap())) == []


def test_a_shortage_opens_its_incident_once_it_has_lasted_and_not_before() -> None:
    story = Story(config())
    for second in range(30):
        assert story.see(NOW + second, host=host(cpu_ratio=1.0)).incidents == ()
    assert [n.kind.value for n in story.see(NOW + 30, host=host(cpu_ratio=1.0)).incidents] == [
        "opened",
        "decided",
    ]
    assert story.see(NOW + 31, host=host(cpu_ratio=1.0)).incidents == ()
