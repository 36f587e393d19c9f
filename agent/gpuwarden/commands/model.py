"""``gpuwarden model``: is what a model is fed, and what is said of its answers, fit to be believed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from gpuwarden.commands.model_annotations import annotations_verb
from gpuwarden.commands.model_kpi import kpi
from gpuwarden.commands.model_profile import profile
from gpuwarden.commands.model_profile_store import drop, list_profiles, push
from gpuwarden.commands.model_report import report
from gpuwarden.commands.model_review import review
from gpuwarden.commands.model_table import check, expect
from gpuwarden.commands.output import EXIT_PROBLEM, Out, answers, end

if TYPE_CHECKING:
    from gpuwarden.evaluate.quality.orientation import Judgement
    from gpuwarden.model.image import ArrayTags, ImageTags, Pixels, TagTrouble

IMAGE = click.Path(path_type=Path, exists=True)


@click.group("model")
def model() -> None:
    """Data of models: where left is in an image, whether a table is as expected, whether labels agree."""


@model.command("orientation")
@click.argument("before", type=IMAGE)
@click.argument("after", type=IMAGE)
@click.option("--expect", help="The way round that the model was trained on, such as RAS.")
@answers
def orientation(out: Out, before: Path, after: Path, expect: str | None) -> None:
    """Is left still left: an image BEFORE preprocessing against one AFTER it.

    Each is a DICOM file, a folder of one DICOM series, or a NIfTI file.

    Headers and pixels are compared. Exit code 1 unless all is well: a flip, a mirror image, a rotation, and what
    cannot be told.
    """
    try:
        judged, fit = _judged(before, after, expect)
    except ImportError as error:
        raise click.ClickException(
            f"needs numpy ({error.name}): pip install 'gpuwarden[aggregator,dicom]'"
        ) from error
    if out.is_json:
        out.data({"judgement": _plain(judged), "fits_model": None if fit is None else _plain(fit)})
    else:
        out.show(_lines(judged))
        if fit is not None:
            out.show([f"for a model trained on {expect}: {fit.outcome.value}", *_troubles(fit)])
    if not judged.is_well or (fit is not None and not fit.is_well):
        end(EXIT_PROBLEM)


def _judged(before: Path, after: Path, expect: str | None) -> tuple[Judgement, Judgement | None]:
    from gpuwarden.evaluate.quality import moves
    from gpuwarden.evaluate.quality.orientation import compare, fits_model
    from gpuwarden.model.image import Pixels

    first, old = _read(before)
    second, new = _read(after)
    if isinstance(old, Pixels) and isinstance(new, Pixels):
        judged = compare(first, second, moves.find(old, new))
    else:
        judged = compare(first, second, new if isinstance(old, Pixels) else old)  # type: ignore[arg-type]
    return judged, None if expect is None else fits_model(expect, second)


def _read(path: Path) -> tuple[ImageTags | ArrayTags, Pixels | TagTrouble]:
    from gpuwarden.adapters import dicom, dicom_series, nifti
    from gpuwarden.model.image import ImageTags, TagTrouble

    if path.is_dir():
        return dicom_series.read(path)
    if not nifti.is_nifti(path):
        return dicom.read(path)
    tags, pixels = nifti.read(path)
    return ImageTags(troubles=(tags,)) if isinstance(tags, TagTrouble) else tags, pixels


def _plain(judged: Judgement) -> dict[str, object]:
    return {
        "outcome": judged.outcome,
        "is_well": judged.is_well,
        "is_refused": judged.is_refused,
        "swaps_left_right": judged.swaps_left_right,
        "angle_deg": judged.angle_deg,
        "truly": judged.before,
        "claimed": judged.after,
        "detail": judged.detail,
        "troubles": list(judged.troubles),
    }


def _lines(judged: Judgement) -> list[str]:
    first = judged.outcome.value
    if judged.angle_deg is not None:
        first += f" by {judged.angle_deg:.0f} degrees"
    if judged.detail:
        first += f": {judged.detail}"
    lines = [first]
    if judged.before is not None and judged.after is not None:
        lines.append(f"axes point to {judged.before}, and are said to point to {judged.after}")
    return lines + _troubles(judged)


def _troubles(judged: Judgement) -> list[str]:
    return [
        f"{each.tag}: {each.why.value}{f' ({each.detail})' if each.detail else ''}"
        for each in judged.troubles
    ]


model.add_command(expect)
model.add_command(check)
model.add_command(annotations_verb)
model.add_command(kpi)
model.add_command(profile)
model.add_command(report)
model.add_command(review)
for verb in (push, list_profiles, drop):
    profile.add_command(verb)
