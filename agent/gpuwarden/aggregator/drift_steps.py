"""What came of every version and segment since it was looked at last, in steps of whole minutes."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from gpuwarden.aggregator.picture import Picture
from gpuwarden.evaluate.fast.series import FEATURE_PREFIX
from gpuwarden.evaluate.fast.window import merge
from gpuwarden.model.evaluation import Cohort, Window

STEP_S = 60.0
SETTLE_S = 120.0
"""So long after its end a minute is taken for whole: nodes tell every ten seconds, and may be late."""
START_S = 3600.0
"""Of a version that was never looked at: how far back it begins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One minute (or a quarter of an hour that was archived) of one version and segment."""

    cohort: Cohort
    window: Window

    @property
    def end_wall(self) -> float:
        return self.window.begin_wall + self.window.length_s


def judged_cohorts(cohorts: Iterable[Cohort]) -> dict[Cohort, tuple[Cohort, ...]]:
    """What is judged, and whose windows it is made of: each version, and each segment of it apart. Arms are one."""
    found: dict[Cohort, list[Cohort]] = {}
    for cohort in sorted(cohorts):
        version = replace(cohort, arm="", segment="")
        found.setdefault(version, []).append(cohort)
        if cohort.segment:
            found.setdefault(replace(cohort, arm=""), []).append(cohort)
    return {whole: tuple(parts) for whole, parts in found.items()}


def gathered(picture: Picture, since: Mapping[Cohort, float], wall: float) -> dict[str, list[Step]]:
    """By service, its steps in order of their end. On the services' thread. ``since``: of each cohort that is
    known, from where on nothing was looked at."""
    until = (wall - SETTLE_S) // STEP_S * STEP_S
    found: dict[str, list[Step]] = {}
    for cohort, parts in judged_cohorts(picture.cohorts()).items():
        start = since.get(cohort) or (wall - START_S) // STEP_S * STEP_S
        windows = [w for w in picture.over(parts, start) if w.begin_wall + w.length_s <= until]
        for window in steps(windows):
            found.setdefault(cohort.service, []).append(Step(cohort=cohort, window=window))
    for each in found.values():
        each.sort(key=lambda step: (step.end_wall, step.cohort))
    return found


def steps(windows: Sequence[Window]) -> list[Window]:
    """Windows as whole minutes; what is longer stays as it is. Those that say nothing of features, labels or scores are
    left out."""
    minutes: dict[float, list[Window]] = {}
    found: list[Window] = []
    for window in windows:
        if not _tells((*window.sketches, *window.categories), window.counts):
            continue
        if window.length_s > STEP_S:
            found.append(window)
        else:
            minutes.setdefault(window.begin_wall // STEP_S * STEP_S, []).append(window)
    for minute, each in minutes.items():
        whole = merge(each)
        if whole is not None:
            found.append(replace(whole, begin_wall=minute, length_s=STEP_S))
    return sorted(found, key=lambda window: window.begin_wall)


def _tells(series: Collection[str], counts: Mapping[str, float]) -> bool:
    if counts.get("labels", 0.0) > 0 or "score" in series:
        return True
    return any(name.startswith(FEATURE_PREFIX) for name in series)
