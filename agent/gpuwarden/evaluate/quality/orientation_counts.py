"""What orientation checks say of many images, as counts that guardrails judge.

Each segment (maker and modality) is a cohort of its own: a flip that one maker's converter makes is a share of its
images and not lost among those of all. The series, with expressions for guardrails:

    custom.images            images that were compared
    custom.images_flipped    of them, refused: left is right, or a mirror image     custom.images_flipped / custom.images
    custom.images_rotated    of them, off by a rotation that keeps left where it is
    custom.images_unclear    of them, not to be judged                              custom.images_unclear / custom.images
"""

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gpuwarden.evaluate.fast.series import CUSTOM_PREFIX
from gpuwarden.evaluate.quality.makers import maker_of, modality_of
from gpuwarden.evaluate.quality.orientation import Judgement, Outcome
from gpuwarden.model.evaluation import Cohort, Window
from gpuwarden.model.image import ImageTags

IMAGES = f"{CUSTOM_PREFIX}images"
FLIPPED = f"{CUSTOM_PREFIX}images_flipped"
ROTATED = f"{CUSTOM_PREFIX}images_rotated"
UNCLEAR = f"{CUSTOM_PREFIX}images_unclear"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One image that was compared."""

    tags: ImageTags
    """Before preprocessing: what comes after may have lost its maker."""
    judgement: Judgement


def segment_of(tags: ImageTags) -> str:
    """Such as ``siemens-MR``: bounded, whatever a header says."""
    return f"{maker_of(tags.manufacturer)}-{modality_of(tags.modality)}"


def counts(seen: Iterable[Seen]) -> dict[str, dict[str, float]]:
    """Series by segment. All four are there for each, so that a share of nothing is 0 and not unknown."""
    found: dict[str, dict[str, float]] = {}
    for each in seen:
        segment = segment_of(each.tags)
        own = found.setdefault(segment, dict.fromkeys((IMAGES, FLIPPED, ROTATED, UNCLEAR), 0.0))
        own[IMAGES] += 1
        if each.judgement.is_refused:
            own[FLIPPED] += 1
        elif each.judgement.outcome is Outcome.CANNOT_TELL:
            own[UNCLEAR] += 1
        elif each.judgement.outcome is Outcome.ROTATED:
            own[ROTATED] += 1
    return found


def windows(
    cohort: Cohort,
    counted: Mapping[str, Mapping[str, float]],
    *,
    begin_wall: float,
    length_s: float,
) -> list[Window]:
    """One window a segment, of the service and version that ``cohort`` names."""
    return [
        Window(
            cohort=dataclasses.replace(cohort, segment=segment),
            begin_wall=begin_wall,
            length_s=length_s,
            counts=dict(series),
        )
        for segment, series in sorted(counted.items())
    ]
