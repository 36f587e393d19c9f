"""Each case through the check: written to disk, read again, compared, and held against the truth."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gpuwarden.adapters import dicom
from gpuwarden.evaluate.quality import moves
from gpuwarden.evaluate.quality.makers import maker_of
from gpuwarden.evaluate.quality.orientation import Judgement, Outcome, compare
from gpuwarden.model.image import ArrayTags, Convention, Pixels
from gpuwarden.sim.orientation import files, phantom
from gpuwarden.sim.orientation.cases import Case
from gpuwarden.sim.orientation.phantom import Array
from gpuwarden.sim.orientation.steps import Result, apply

SWAPS = frozenset({"left-right", "half-turn"})
_EXPECTED = {
    "left-right": Outcome.FLIPPED,
    "half-turn": Outcome.ROTATED,
    "rotation": Outcome.ROTATED,
    "mirror": Outcome.MIRRORED,
    "exchange": Outcome.PERMUTED,
    "cannot-tell": Outcome.CANNOT_TELL,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What became of one case."""

    name: str
    modality: str
    maker: str
    truth: str
    judgement: Judgement

    @property
    def is_missed(self) -> bool:
        """Left is right, and nobody was told."""
        return self.truth in SWAPS and not self.judgement.swaps_left_right

    @property
    def is_false_alarm(self) -> bool:
        """Well, and not said to be; or a flip is claimed of what has none."""
        if self.truth == "well":
            return not self.judgement.is_well
        return self.truth not in SWAPS and self.judgement.swaps_left_right

    @property
    def is_right(self) -> bool:
        if self.truth == "well":
            return self.judgement.is_well
        is_kind = self.judgement.outcome is _EXPECTED[self.truth]
        return is_kind and self.judgement.swaps_left_right == (self.truth in SWAPS)


def tried(case: Case, folder: Path, prefix: str = "") -> Trial:
    """Through two files in ``folder``, which are written over each time, or lie there under ``prefix``."""
    before = _written(case, case.picture.values, case.picture.axes, case.picture.spacing_mm, {})
    first, pixels = dicom.read(files.save(before, folder / f"{prefix}before.dcm"))
    result = apply(case.picture, case.step)
    if case.step.form == "dicom":
        data = _written(case, result.values, result.claimed, result.spacing_mm, case.tags_after)
        second, seen = dicom.read(files.save(data, folder / f"{prefix}after.dcm"))
        judgement = compare(first, second, _move(pixels, seen))
    else:
        told = _told(case, result)
        judgement = compare(first, told, _move(pixels, _plain(result.values)))
    return Trial(
        name=case.name,
        modality=case.modality,
        maker=maker_of(case.maker),
        truth=case.truth or _truth(case, result),
        judgement=judgement,
    )


def _move(before: Any, after: Any) -> Any:
    if isinstance(before, Pixels) and isinstance(after, Pixels):
        return moves.find(before, after)
    return before if not isinstance(before, Pixels) else after


def _plain(values: Array) -> Pixels:
    return Pixels(shape=values.shape, kind="<f4", data=values.astype("<f4").tobytes())


def _written(
    case: Case,
    values: Array,
    axes: Sequence[Array],
    spacing_mm: Sequence[float],
    more: dict[str, Any],
) -> Any:
    tags = {**case.tags, **more}
    if case.letters:
        tags["PatientOrientation"] = [_letters(axes[-1]), _letters(axes[-2])]
    data = files.made(
        values,
        modality=case.modality,
        maker=case.maker,
        axes=axes if case.has_plane else None,
        spacing_mm=spacing_mm,
        tags={name: value for name, value in tags.items() if value is not None},
    )
    for name, value in tags.items():
        if value is None and name in data:
            del data[name]
    return data


def _letters(vector: Array) -> str:
    names = (("R", "L"), ("A", "P"), ("F", "H"))
    order = sorted(range(3), key=lambda k: -abs(vector[k]))
    return "".join(names[k][int(vector[k] > 0)] for k in order if abs(vector[k]) > 0.3)


def _told(case: Case, result: Result) -> ArrayTags | None:
    if case.step.form == "bare":
        return None
    if case.step.form == "code":
        names = (("R", "L"), ("A", "P"), ("I", "S"))
        code = ""
        for axis in result.claimed:
            k = int(np.argmax(np.abs(axis)))
            code += names[k][int(axis[k] > 0)]
        return ArrayTags(code=code)
    columns = [
        np.asarray([-axis[0], -axis[1], axis[2]]) * step
        for axis, step in zip(result.claimed, result.spacing_mm, strict=True)
    ]
    rows = tuple(tuple(float(column[k]) for column in columns) for k in range(3))
    return ArrayTags(affine=rows, convention=Convention.RAS)


def _truth(case: Case, result: Result) -> str:
    found = phantom.truth(
        case.picture,
        result.labels,
        result.claimed,
        result.spacing_mm,
        is_coarse=case.step.form == "code",
    )
    return "left-right" if case.is_one_sided and found in ("mirror", "exchange") else found


def summary(trials: Iterable[Trial]) -> dict[str, Any]:
    """Counts by kind; ``ok`` where every left-right flip was found, nothing else was called one, and each kind is right."""
    kinds: dict[str, dict[str, int]] = {}
    by: dict[str, dict[str, dict[str, int]]] = {"modality": {}, "maker": {}}
    swaps = found = alarms = total = 0
    wrong = []
    for trial in trials:
        total += 1
        kind = kinds.setdefault(trial.truth, {"cases": 0, "right": 0})
        places = [kind] + [
            by[name].setdefault(value, {"cases": 0, "right": 0})
            for name, value in (("modality", trial.modality), ("maker", trial.maker))
        ]
        for place in places:
            place["cases"] += 1
            place["right"] += trial.is_right
        swaps += trial.truth in SWAPS
        found += trial.truth in SWAPS and not trial.is_missed
        alarms += trial.is_false_alarm
        if not trial.is_right or trial.is_missed or trial.is_false_alarm:
            wrong.append(trial)
    return {
        "cases": total,
        "left_right": {"cases": swaps, "found": found},
        "false_alarms": alarms,
        "kinds": dict(sorted(kinds.items())),
        "by_modality": by["modality"],
        "by_manufacturer": by["maker"],
        "wrong": [
            {"name": each.name, "truth": each.truth, "outcome": each.judgement.outcome.value,
             "detail": each.judgement.detail,
             "troubles": [f"{t.tag}: {t.why.value} {t.detail}" for t in each.judgement.troubles]}
            for each in wrong[:50]
        ],
        "ok": total > 0 and found == swaps and not alarms and not wrong,
    }  # fmt: skip
