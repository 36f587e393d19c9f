"""Counts by maker and modality, fit for guardrails."""

from __future__ import annotations

from gpuwarden.evaluate.fast.expression import parse
from gpuwarden.evaluate.fast.series import kind_of
from gpuwarden.evaluate.quality import orientation_counts
from gpuwarden.evaluate.quality.makers import maker_of, modality_of
from gpuwarden.evaluate.quality.orientation import Judgement, Outcome
from gpuwarden.evaluate.quality.orientation_counts import Seen, counts, windows
from gpuwarden.model.evaluation import Cohort
from gpuwarden.model.image import ImageTags


def _seen(maker: str | None, modality: str, outcome: Outcome, swaps: bool = False) -> Seen:
    return Seen(
        tags=ImageTags(manufacturer=maker, modality=modality),
        judgement=Judgement(outcome=outcome, swaps_left_right=swaps),
    )


def test_each_image_counts_once_in_its_own_segment() -> None:
    found = counts(
        [
            _seen("SIEMENS", "MR", Outcome.SAME),
            _seen("Siemens Healthineers", "MR", Outcome.FLIPPED, True),
            _seen("SIEMENS", "MR", Outcome.ROTATED, True),
            _seen("SIEMENS", "MR", Outcome.ROTATED),
            _seen("GE MEDICAL SYSTEMS", "CT", Outcome.CANNOT_TELL),
            _seen(None, "CT", Outcome.MIRRORED),
        ]
    )
    assert found["siemens-MR"] == {
        "custom.images": 4,
        "custom.images_flipped": 2,
        "custom.images_rotated": 1,
        "custom.images_unclear": 0,
    }
    assert found["ge-CT"]["custom.images_unclear"] == 1
    assert found["not-told-CT"]["custom.images_flipped"] == 1


def test_windows_are_one_a_segment_of_the_same_service() -> None:
    counted = counts([_seen("GE", "CT", Outcome.SAME), _seen("GE", "MR", Outcome.FLIPPED, True)])
    made = windows(Cohort(service="reader", version="3"), counted, begin_wall=60.0, length_s=10.0)
    assert [each.cohort.segment for each in made] == ["ge-CT", "ge-MR"]
    assert {each.cohort.version for each in made} == {"3"}
    assert made[1].counts["custom.images_flipped"] == 1
    assert all(kind_of(name) is None for name in made[0].counts), "custom: the teller decides"
    assert {*parse("custom.images_flipped / custom.images").series} <= set(made[0].counts)
    assert orientation_counts.IMAGES in made[0].counts


def test_segments_are_bounded_whatever_a_header_says() -> None:
    names = {maker_of(f"Scanner {number}") for number in range(1000)}
    assert names == {"other"}
    assert maker_of("GENORAY") == "other"
    assert (maker_of("GE"), maker_of(" ge healthcare"), maker_of("TOSHIBA_MEC")) == (
        "ge",
        "ge",
        "canon",
    )
    assert (maker_of(""), maker_of(None)) == ("not-told", "not-told")
    assert (modality_of("mr "), modality_of("ZZ"), modality_of(None)) == ("MR", "other", "not-told")
