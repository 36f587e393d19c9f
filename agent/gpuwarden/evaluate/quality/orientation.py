"""Does left stay left: an image's orientation before and after preprocessing.

Two things can move: the array, and what its header claims. They must move together. From the claim before and from
what was done to the array follows where each axis of the array after truly points; what is claimed of it must be
the same. The difference is a rotation or a mirror image, and these are told apart by its determinant:

    determinant -1   a mirror image; a left-right flip where it takes the patient's left to the right
    determinant +1   a rotation; by half a turn (LPS read as RAS) left and right change places all the same

What cannot be known is said to be so. Nothing that is missing, malformed or contradictory is ever fine.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from gpuwarden.evaluate.quality import axes as axis
from gpuwarden.evaluate.quality import claims
from gpuwarden.evaluate.quality.axes import Axes, Vector
from gpuwarden.evaluate.quality.claims import SIDES, Claim
from gpuwarden.evaluate.quality.moves import Move
from gpuwarden.model.image import ArrayTags, ImageTags, TagTrouble, Trouble

SAME_WITHIN_DEG = 10.0
"""A registration turns by a few degrees; an axis that is exchanged or reversed, by 90 at the least."""
_LEFT_IS_RIGHT = -0.5  # x of where the patient's left ends up: cos 120 degrees
_HAS_LEFT = (
    0.25  # least share of the left-right axis in a plane (cosine squared): 60 degrees off at most
)


class Outcome(StrEnum):
    """What a comparison says. Only the first two are well."""

    SAME = "same"
    """Neither the array nor its claim has moved."""
    REORIENTED = "reoriented"
    """Both have moved, together: left is where it is said to be."""
    ROTATED = "rotated"
    """The claim is off by a rotation: no mirror image, and yet not where it is said to be."""
    FLIPPED = "flipped"
    """Left and right have changed places."""
    MIRRORED = "mirrored"
    """A mirror image along another axis (front to back, head to foot)."""
    PERMUTED = "permuted"
    """Axes exchanged without their header: a mirror image over a diagonal."""
    CANNOT_TELL = "cannot-tell"


WELL = frozenset({Outcome.SAME, Outcome.REORIENTED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """``troubles`` says why where the outcome is CANNOT_TELL, and what else was seen where it is not."""

    outcome: Outcome
    swaps_left_right: bool = False
    """True of every FLIPPED, and of a ROTATED in which left ends up right."""
    angle_deg: float | None = None
    """Of a rotation."""
    before: str | None = None
    """Letters of where the axes point, truly, once the array has been moved."""
    after: str | None = None
    """Letters of what is claimed."""
    troubles: tuple[TagTrouble, ...] = ()
    detail: str = ""

    @property
    def is_well(self) -> bool:
        return self.outcome in WELL

    @property
    def is_refused(self) -> bool:
        """A mirror image, or left is right: must not go into a model."""
        mirrors = (Outcome.FLIPPED, Outcome.MIRRORED, Outcome.PERMUTED)
        return self.swaps_left_right or self.outcome in mirrors


def compare(
    before: ImageTags | ArrayTags,
    after: ImageTags | ArrayTags | None,
    move: Move | TagTrouble | None,
) -> Judgement:
    """``after`` None: a bare array, which everyone takes to lie as before. ``move``: what was done to the array
    (``moves.find``, or the pipeline's own word); None or a trouble: not known."""
    first = _claim(before)
    second = first if after is None else _claim(after)
    lateral = _sides(first, second)
    if lateral is not None:
        return lateral
    moved = _moved(first, move)
    if first.axes is None or second.axes is None or moved is None:
        return _without(first, second, move)
    doubts = _doubts(first, second)
    if len(moved.vectors) != len(second.axes.vectors):
        found = TagTrouble(
            tag="array",
            why=Trouble.CONTRADICTORY,
            detail=f"{len(moved.vectors)} axes, and {len(second.axes.vectors)} are claimed",
        )
        return _cannot_tell((*doubts, found))
    if isinstance(after, ArrayTags) and after.code is not None:
        moved = _nearest(moved)  # letters stand for all that is within 45 degrees of them
        if moved is None:
            found = TagTrouble(tag="code", why=Trouble.AMBIGUOUS, detail="oblique by 45 degrees")
            return _cannot_tell((*doubts, found))
    one_sided = {first.side, second.side} & SIDES
    judged = _residual(moved, second.axes, is_one_sided=bool(one_sided) and first.is_projection)
    if doubts and judged.is_well:
        return _cannot_tell(doubts, before=moved.code, after=second.axes.code)
    is_still = isinstance(move, Move) and move.is_nothing
    outcome = judged.outcome
    if outcome is Outcome.SAME and not is_still:
        outcome = Outcome.REORIENTED
    return Judgement(
        outcome=outcome,
        swaps_left_right=judged.swaps_left_right,
        angle_deg=judged.angle_deg,
        before=moved.code,
        after=second.axes.code,
        troubles=doubts,
        detail=judged.detail,
    )


def fits_model(expected: str, got: ArrayTags | ImageTags) -> Judgement:
    """Is an array the way round a model was trained on (``RAS``)? A mirror of it is refused, a rotation told."""
    wanted = claims.of_array(ArrayTags(code=expected))
    claim = _claim(got)
    if wanted.axes is None or claim.axes is None:
        return _cannot_tell((*wanted.troubles, *claim.troubles))
    if len(wanted.axes.vectors) != len(claim.axes.vectors):
        found = TagTrouble(tag="array", why=Trouble.CONTRADICTORY, detail="other number of axes")
        return _cannot_tell((found,))
    near = _nearest(claim.axes)
    if near is None:
        found = TagTrouble(tag="array", why=Trouble.AMBIGUOUS, detail="oblique by 45 degrees")
        return _cannot_tell((found,))
    return _residual(near, wanted.axes, is_one_sided=False)


def _nearest(true: Axes) -> Axes | None:
    """Along the patient's own axes. None: two of them point nearest to the same one."""
    return claims.of_array(ArrayTags(code=true.code)).axes


def _claim(tags: ImageTags | ArrayTags) -> Claim:
    return claims.of_image(tags) if isinstance(tags, ImageTags) else claims.of_array(tags)


def _sides(first: Claim, second: Claim) -> Judgement | None:
    if first.side is None or second.side is None or first.side == second.side:
        return None
    return Judgement(
        outcome=Outcome.FLIPPED,
        swaps_left_right=True,
        troubles=(*first.troubles, *second.troubles),
        detail=f"laterality was {first.side} and is {second.side}",
    )


def _moved(claim: Claim, move: Move | TagTrouble | None) -> Axes | None:
    if claim.axes is None or not isinstance(move, Move):
        return None
    vectors = claim.axes.vectors
    if len(move.source) != len(vectors):
        return None
    return Axes(
        vectors=tuple(
            axis.negated(vectors[source]) if turned else vectors[source]
            for source, turned in zip(move.source, move.is_reversed, strict=True)
        )
    )


def _without(first: Claim, second: Claim, move: Move | TagTrouble | None) -> Judgement:
    """Something needed is not there. An array that is a mirror image of what it was is one all the same, where
    no header could make it good."""
    troubles = list(dict.fromkeys((*first.troubles, *second.troubles)))
    if isinstance(move, TagTrouble):
        troubles.append(move)
    if move is None:
        troubles.append(TagTrouble(tag="pixels", why=Trouble.MISSING, detail="array not compared"))
    is_bare = first.axes is None and second.axes is None
    if is_bare and isinstance(move, Move) and move.is_mirror:
        is_side = bool({first.side, second.side} & SIDES)
        return Judgement(
            outcome=Outcome.FLIPPED if is_side else Outcome.MIRRORED,
            swaps_left_right=is_side,
            troubles=tuple(troubles),
            detail="the array is a mirror image of what it was, and no header says so",
        )
    if (
        first.axes is not None
        and isinstance(move, Move)
        and len(move.source) != len(first.axes.vectors)
    ):
        detail = f"{len(move.source)} axes of pixels, {len(first.axes.vectors)} in the header"
        troubles.append(TagTrouble(tag="array", why=Trouble.CONTRADICTORY, detail=detail))
    said = ""
    if first.axes is not None and second.axes is not None and first.axes.code != second.axes.code:
        said = f"the header went from {first.axes.code} to {second.axes.code}"
    return _cannot_tell(
        tuple(troubles),
        before=first.axes.code if first.axes else None,
        after=second.axes.code if second.axes else None,
        detail=said,
    )


def _doubts(first: Claim, second: Claim) -> tuple[TagTrouble, ...]:
    """What does not fit between two headers that can each be read."""
    found = dict.fromkeys((*first.troubles, *second.troubles))
    for tag, old, new in (
        ("PatientPosition", first.patient_position, second.patient_position),
        ("ViewPosition", first.view, second.view),
    ):
        if old is not None and new is not None and old != new:
            detail = f"was {old[:16]} and is {new[:16]}"
            found[TagTrouble(tag=tag, why=Trouble.CONTRADICTORY, detail=detail)] = None
    return tuple(found)


def _cannot_tell(
    troubles: tuple[TagTrouble, ...],
    *,
    before: str | None = None,
    after: str | None = None,
    detail: str = "",
) -> Judgement:
    return Judgement(
        outcome=Outcome.CANNOT_TELL, before=before, after=after, troubles=troubles, detail=detail
    )


def _residual(true: Axes, claimed: Axes, *, is_one_sided: bool) -> Judgement:
    """The map that takes where the patient truly lies to where the claim says."""
    truth, claim = list(true.vectors), list(claimed.vectors)
    is_plane = len(truth) == 2
    if is_plane:
        truth.append(axis.cross(truth[0], truth[1]))
        claim.append(axis.cross(claim[0], claim[1]))
        facing = axis.dot(truth[2], claim[2])
        # In one plane, and seen from the other side: nothing has turned the patient, the picture is mirrored.
        is_mirror = facing < -0.5
        if is_mirror:
            claim[2] = axis.negated(claim[2])
    else:
        is_mirror = true.handedness != claimed.handedness
    left = _left_kept(truth[: 2 if is_plane else 3], claim)
    swaps = left is not None and left < _LEFT_IS_RIGHT
    if is_mirror:
        return _mirror(truth, claim, swaps=swaps or is_one_sided, is_one_sided=is_one_sided)
    trace = sum(axis.dot(a, b) for a, b in zip(truth, claim, strict=True))
    angle = math.degrees(math.acos(max(-1.0, min(1.0, (trace - 1) / 2))))
    if angle <= SAME_WITHIN_DEG:
        return Judgement(outcome=Outcome.SAME, before=true.code, after=claimed.code)
    detail = "left and right have changed places" if swaps else ""
    return Judgement(
        outcome=Outcome.ROTATED,
        swaps_left_right=swaps,
        angle_deg=round(angle, 1),
        before=true.code,
        after=claimed.code,
        detail=detail,
    )


def _left_kept(truth: Sequence[Vector], claim: Sequence[Vector]) -> float | None:
    """Cosine between the patient's left and where it is claimed to be; None: these axes do not see it."""
    seen = sum(vector[0] ** 2 for vector in truth)
    if seen < _HAS_LEFT:
        return None
    return sum(a[0] * b[0] for a, b in zip(truth, claim, strict=False)) / seen


def _mirror(
    truth: Sequence[Vector], claim: Sequence[Vector], *, swaps: bool, is_one_sided: bool
) -> Judgement:
    before, after = Axes(vectors=tuple(truth)).code, Axes(vectors=tuple(claim)).code
    kept = [axis.dot(a, b) for a, b in zip(truth, claim, strict=True)]
    if swaps:
        outcome, detail = Outcome.FLIPPED, "a mirror image: left and right have changed places"
        if is_one_sided:
            detail = "a mirror image of a one-sided part, which passes for the other side"
    elif all(abs(each) > 0.5 for each in kept):
        outcome, detail = Outcome.MIRRORED, "a mirror image"
    else:
        outcome, detail = Outcome.PERMUTED, "axes exchanged: a mirror image over a diagonal"
    return Judgement(
        outcome=outcome, swaps_left_right=swaps, before=before, after=after, detail=detail
    )
