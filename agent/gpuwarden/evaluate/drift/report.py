"""A table of live rows, held against a profile window by window: what a report of drift shows.

The same scores and the same findings as in the fleet (``feature``, ``findings``, ``concept``), over rows of a file.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gpuwarden.evaluate.drift import feature, findings, joint, multiplicity, profile
from gpuwarden.evaluate.drift.concept import Concept, ConceptSettings, Evidence
from gpuwarden.evaluate.drift.feature import FeatureScore
from gpuwarden.evaluate.drift.findings import DriftSettings
from gpuwarden.evaluate.drift.profile import CategoryProfile, CategoryWindow, NumericProfile
from gpuwarden.evaluate.drift.profile_file import ProfileFile
from gpuwarden.evaluate.drift.profile_parts import Part, name_of
from gpuwarden.evaluate.inputs import Floats
from gpuwarden.evaluate.quality.intervals import wilson
from gpuwarden.evaluate.quality.table import Value, is_missing, number_of
from gpuwarden.model.drift_report import (
    DriftReport,
    FeaturePoint,
    FeatureTrack,
    JointPoint,
    KpiTrack,
    QualityPoint,
    QualityTrack,
)

DAY_S = 86_400.0
WINDOWS_A_DAY = 24.0
"""Where nobody tells the time."""
WINDOWS_MAX = 5000


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveColumns:
    """Names of columns of the live table; None: it has none of the kind."""

    time: str | None = None
    """Read by ``Times``, ascending."""
    truth: str | None = None
    prediction: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """Unix seconds of a value (None: it is no time), and how they are shown."""

    read: Callable[[Value], float | None]
    show: Callable[[float], str]


@dataclass(slots=True)
class _Window:
    """What is kept of one."""

    rows: int
    at_wall: float | None
    scores: dict[str, FeatureScore] = field(default_factory=dict)
    means: dict[str, float | None] = field(default_factory=dict)
    labels: int = 0
    wrong: int = 0
    joint: JointPoint | None = None


class LiveRows:
    """Batches of columns in, a report out; kept are windows, not rows. Mistakes are a ValueError."""

    def __init__(
        self,
        reference: ProfileFile,
        header: Sequence[str],
        *,
        columns: LiveColumns | None = None,
        window_rows: int = 1000,
        rows: Floats | None = None,
        times: Times | None = None,
    ) -> None:
        """``rows``: of the reference, with a column for each of ``numbers_of(reference, header)``."""
        self._named = LiveColumns() if columns is None else columns
        if not 100 <= window_rows <= 10_000_000:
            raise ValueError(f"window rows: expected 100 to 10 million, got {window_rows}")
        for name in (self._named.time, self._named.truth, self._named.prediction):
            if name is not None and name not in header:
                raise ValueError(f"no column {name!r}")
        if (self._named.truth is None) != (self._named.prediction is None):
            raise ValueError("truth and prediction: both or neither")
        self._reference, self._window_rows = reference, window_rows
        self._header = list(header)
        self._features = {
            name: each for name, each in reference.features.items() if name in self._header
        }
        self._absent = tuple(name for name in reference.features if name not in self._header)
        if not self._features and self._named.truth is None:
            raise ValueError("the live table has none of the profile's features")
        if self._named.time is not None and times is None:
            raise ValueError("a column of times, and nothing to read it by")
        self._times = times
        self._rows, self._numbers = rows, numbers_of(reference, header)
        self._waiting: list[list[Any]] = [[] for _ in self._header]
        self._windows: list[_Window] = []
        self._left = 0

    def add(self, batch: Sequence[Any]) -> None:
        """Of each column in turn its values."""
        for waiting, values in zip(self._waiting, batch, strict=True):
            waiting.extend(values)
        while len(self._waiting[0]) >= self._window_rows:
            self._close(self._window_rows)

    def _close(self, rows: int) -> None:
        if len(self._windows) >= WINDOWS_MAX:
            raise ValueError(f"more than {WINDOWS_MAX} windows: make them larger")
        columns = {
            name: values[:rows] for name, values in zip(self._header, self._waiting, strict=True)
        }
        for values in self._waiting:
            del values[:rows]
        window = _Window(rows=rows, at_wall=self._time(columns))
        for name, reference in self._features.items():
            window.scores[name], window.means[name] = _scored(reference, columns[name])
        if self._named.truth is not None and self._named.prediction is not None:
            pairs = zip(columns[self._named.truth], columns[self._named.prediction], strict=True)
            told = [(a, b) for a, b in pairs if not is_missing(a) and not is_missing(b)]
            window.labels = len(told)
            window.wrong = sum(not _is_same(a, b) for a, b in told)
        if self._rows is not None and self._numbers:
            window.joint = joint.point(
                self._rows, joint.matrix([columns[name] for name in self._numbers])
            )
        self._windows.append(window)

    def _time(self, columns: Mapping[str, Sequence[Value]]) -> float | None:
        if self._named.time is None or self._times is None:
            return None
        found = self._times.read(columns[self._named.time][-1])
        before = self._windows[-1].at_wall if self._windows else None
        if found is None:
            raise ValueError(f"{self._named.time}: expected Unix seconds or ISO 8601")
        if before is not None and found < before:
            raise ValueError(f"{self._named.time}: the rows are not in the order of time")
        return found

    def report(
        self, *, title: str, kpis: Sequence[KpiTrack] = (), settings: DriftSettings | None = None
    ) -> DriftReport:
        """After the last batch. A rest of less than half a window is not judged, and told."""
        rest = len(self._waiting[0])
        if rest * 2 >= self._window_rows and rest >= 100:
            self._close(rest)
            rest = 0
        if not self._windows:
            raise ValueError(f"{rest} rows make no window of {self._window_rows}")
        settings = DriftSettings() if settings is None else settings
        level = findings.level(settings, rounds_per_day=self._rounds_a_day())
        tracks = self._tracks(settings, level)
        names = self._names()
        quality, lost = self._quality(names)
        together = self._joint(level)
        summary = [_told(each, names) for each in tracks if each.drifts] or [
            "No feature has drifted."
        ]
        remarks = [f"{name} is in the profile and not in the live table" for name in self._absent]
        if rest:
            remarks.append(f"the last {rest} rows make no window")
        if quality is not None and quality.why:
            remarks.append(f"accuracy: {quality.why}")
        return DriftReport(
            title=title,
            windows=names,
            axis="rows so far" if self._named.time is None else "time (UTC)",
            window_rows=self._window_rows,
            rows=sum(each.rows for each in self._windows),
            level=level,
            material_psi=settings.material_psi,
            material_sigmas=settings.material_wasserstein_norm,
            features=tracks,
            joint=together,
            joint_needed=joint.needed(self._window_rows, level=level) if together else None,
            quality=quality,
            kpis=tuple(kpis),
            summary=(*summary, *_told_together(together, names), *lost),
            remarks=tuple(remarks),
        )

    def _rounds_a_day(self) -> float:
        times = [each.at_wall for each in self._windows if each.at_wall is not None]
        if len(times) < 2 or times[-1] <= times[0]:
            return WINDOWS_A_DAY
        return (len(times) - 1) / ((times[-1] - times[0]) / DAY_S)

    def _names(self) -> tuple[str, ...]:
        if self._named.time is not None and self._times is not None:
            return tuple(self._times.show(each.at_wall or 0.0) for each in self._windows)
        rows, names = 0, []
        for each in self._windows:
            rows += each.rows
            names.append(f"{rows:,}")
        return tuple(names)

    def _tracks(self, settings: DriftSettings, level: float) -> tuple[FeatureTrack, ...]:
        points: dict[str, list[FeaturePoint]] = {name: [] for name in self._features}
        for window in self._windows:
            scores = {("", name): score for name, score in window.scores.items()}
            found = {each.feature for each in findings.find(scores, settings, q=level)}
            tested = [n for n, score in window.scores.items() if score.p_value is not None]
            adjusted = dict(
                zip(tested, multiplicity.adjusted([window.scores[n].p_value or 0.0 for n in tested])
                    if tested else [], strict=True)
            )  # fmt: skip
            for name, score in window.scores.items():
                p = adjusted.get(name)
                points[name].append(
                    FeaturePoint(
                        mean=window.means[name],
                        psi=score.psi,
                        p_value=None if p is None else float(p),
                        missing_share=score.missing_share,
                        is_drift=name in found,
                    )
                )
        return tuple(
            FeatureTrack(
                feature=name,
                points=tuple(points[name]),
                was_mean=each.mean if isinstance(each, NumericProfile) else None,
                was_std=each.std if isinstance(each, NumericProfile) else None,
            )
            for name, each in self._features.items()
        )

    def _joint(self, level: float) -> tuple[JointPoint, ...]:
        return tuple(
            joint.judged(each.joint, level=level)
            for each in self._windows
            if each.joint is not None
        )

    def _quality(self, names: Sequence[str]) -> tuple[QualityTrack | None, list[str]]:
        if self._named.truth is None:
            return None, []
        judge, verdict, evidence = Concept(ConceptSettings()), None, Evidence()
        step_s = DAY_S / WINDOWS_A_DAY
        for number, window in enumerate(self._windows):
            end = (number + 1) * step_s if window.at_wall is None else window.at_wall
            is_first = judge.memory.since_wall is None
            begin = end - step_s if is_first else judge.memory.upto_wall
            judge.add(begin, end, window.labels, window.wrong)
            said = judge.judge(end)
            if judge.memory.is_drift and verdict is None:
                verdict, evidence = number, said
        memory = judge.memory
        is_known = memory.reference_labels >= ConceptSettings().reference_min
        track = QualityTrack(
            points=tuple(_quality_point(each) for each in self._windows),
            baseline=1 - memory.reference_wrong / memory.reference_labels if is_known else None,
            verdict_window=verdict,
            why="" if is_known else f"{memory.reference_labels} labels are no reference",
        )
        if verdict is None or evidence.share is None or evidence.baseline is None:
            return track, []
        line = (
            f"Accuracy has dropped, said at {names[verdict]}: {1 - evidence.share:.1%} of {evidence.labels:,} "
            f"labels, before {1 - evidence.baseline:.1%} (chance {evidence.p_value:.1g})."
        )
        return track, [line]


def numbers_of(reference: ProfileFile, header: Sequence[str]) -> tuple[str, ...]:
    """Features of numbers that the live table has, in the order of the profile."""
    return tuple(
        name
        for name, each in reference.features.items()
        if isinstance(each, NumericProfile) and name in header
    )


def _scored(
    reference: NumericProfile | CategoryProfile, values: Sequence[Value]
) -> tuple[FeatureScore, float | None]:
    if isinstance(reference, CategoryProfile):
        part = Part.of(values, is_named=True)
        known = {name: n for name, n in part.names.items() if name in reference.counts}
        window = CategoryWindow(
            counts=known, other=part.names.total() - sum(known.values()), missing=part.missing
        )
        return feature.of_categories(reference, window), None
    part = Part.of(values, is_named=False)
    seen = profile.numbers(reference, part.numbers)
    missing = part.missing + part.names.total()
    score = feature.of_numbers(
        reference, profile.NumericWindow(counts=seen.counts, missing=missing, total=seen.total)
    )
    return score, float(part.numbers.mean()) if part.numbers.size else None


def _is_same(a: Value, b: Value) -> bool:
    first, second = number_of(a), number_of(b)
    if first is not None and second is not None:
        return first == second
    return name_of(a) == name_of(b)


def _quality_point(window: _Window) -> QualityPoint:
    if not window.labels:
        return QualityPoint(labels=0)
    right = window.labels - window.wrong
    low, high = wilson(right, window.labels)
    return QualityPoint(labels=window.labels, accuracy=right / window.labels, low=low, high=high)


def _told_together(points: Sequence[JointPoint], names: Sequence[str]) -> list[str]:
    found = [n for n, each in enumerate(points) if each.is_drift]
    if not found:
        return []
    newest = points[found[-1]]
    said = (
        f"All numbers together have drifted, first in {names[found[0]]}, in {len(found)} of {len(points)} windows: "
        f"a classifier tells {newest.accuracy:.0%} of the rows right (chance 50%)."
    )
    return [said]


def _told(track: FeatureTrack, names: Sequence[str]) -> str:
    found = [n for n, each in enumerate(track.points) if each.is_drift]
    when = f"since {names[found[0]]}"
    if found[-1] < len(track.points) - 1:
        when = f"in {len(found)} windows from {names[found[0]]} to {names[found[-1]]}"
    newest = track.points[found[-1]]
    how = f"PSI {newest.psi:.2g}"
    if newest.mean is not None and track.was_mean is not None:
        moved = ""
        if track.was_std:
            moved = f" ({(newest.mean - track.was_mean) / track.was_std:+.2f} sd)"
        how = f"mean {newest.mean:.4g}, before {track.was_mean:.4g}{moved}, {how}"
    if newest.missing_share:
        how += f", {newest.missing_share:.1%} missing"
    return f"{track.feature} has drifted {when}: {how}."
