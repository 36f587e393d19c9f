"""One service's series held against their own days, in four layers: odd values, odd stretches, and odd states of all
of them together (of a kind never seen, or that do not fit together as they used to).

What was found odd is not learnt from. What was as odd a week ago at the same hour is the week's, and no finding: so a
new level is told for a week, and is usual when most days that are kept have it (about the twelfth).
"""

from collections import deque
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from gpuwarden.evaluate.anomaly import autoencoder, clusters, daily, layers, reconstruction
from gpuwarden.evaluate.anomaly.autoencoder import Autoencoder
from gpuwarden.evaluate.anomaly.clusters import Clusters
from gpuwarden.evaluate.anomaly.daily import Daily
from gpuwarden.evaluate.anomaly.layers import LayerSettings
from gpuwarden.evaluate.anomaly.reconstruction import Subspace
from gpuwarden.evaluate.inputs import Floats
from gpuwarden.model.anomaly import (
    SERIES,
    SLOT_S,
    SLOTS_A_DAY,
    TOGETHER,
    Layer,
    Oddity,
    ServiceOddities,
)
from gpuwarden.policy.fleet.odd_history import History
from gpuwarden.policy.fleet.odd_scales import SCALES, floors, shown, straight

WEEK = 7 * SLOTS_A_DAY
WINDOWS = {24: 1.0, 96: 0.88}
"""Slots of a stretch (six hours, and a day), and what share of the cut is its own: a month has fewer days than
quarters of one, so that chance has fewer tries."""
SURROUND = 96
"""A value is odd beside those of the day before it."""
CALM = 4
"""A finding ends when it was not seen again for so many slots."""
ROWS_MIN = 2 * SLOTS_A_DAY
"""Fewer rows say nothing of how series belong together."""
GROUPED = 400
"""Of the rows that are learnt from, evenly: states of an hour are among them."""
STILL = 0.2
"""A series that moves less than this (of a usual deviation) belongs to nothing."""
LEAST_ROOT = 0.15
"""Six of these are a misfit of about one deviation: less than that does not matter, however well all used to fit."""
RADIUS = 2 / 3
"""Of the cut for a value, by series: what is nearer to a state that was seen is of it."""
NAMED = 2
RECENT_MAX = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class OddSettings:
    """Cuts in robust sigmas; see ``config_anomaly``."""

    point_sigma: float = 6.0
    window_sigma: float = 5.0
    days_min: int = 3
    reconstruction: Literal["pca", "autoencoder"] = "pca"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Joint:
    """All series together: columns, how they belong together, and states that were seen."""

    series: tuple[str, ...]
    model: Subspace | Autoencoder
    centre: float
    spread: float
    """Of cube roots of squared errors, which are near normal (Wilson and Hilferty 1931)."""
    groups: Clusters


@dataclass(frozen=True, slots=True, kw_only=True)
class _Hit:
    """Something odd in the newest slots, as numbers of slots."""

    series: str
    layer: Layer
    first: int
    last: int
    sigmas: float
    detail: str = ""


class ServiceOdds:
    """One service, judged slot by slot as they come. Nothing but ``history`` has to be kept: all else is learnt
    from it again."""

    def __init__(self, service: str, settings: OddSettings, history: History) -> None:
        self.service = service
        self.settings = settings
        self.history = history
        self._learnt_at: int | None = None
        self._days: dict[str, Daily] = {}
        self._joint: _Joint | None = None
        self._findings: dict[tuple[str, Layer], Oddity] = {}
        self._seen: dict[tuple[str, Layer], int] = {}
        self._recent: deque[Oddity] = deque(maxlen=RECENT_MAX)
        self.begun = 0
        """Findings, ever."""

    def judge(self, since: int) -> ServiceOddities:
        """Of the slots from number ``since`` on, which stand in the history; all that stands after them."""
        history = self.history
        days = history.days()
        if days < self.settings.days_min:
            return ServiceOddities(service=self.service, days=days, days_min=self.settings.days_min)
        if self._learnt_at is None or since - self._learnt_at >= SLOTS_A_DAY:
            self._learn(max(since, history.first))
        scores = {name: self._scores(name) for name in self._days}
        fresh = min(max(history.upto - since, 0), len(history))
        hits = [h for name, z in scores.items() for h in self._of_series(name, z, fresh)]
        hits += self._of_all(scores, fresh)
        for hit in hits:
            self._note(hit)
        self._end()
        return ServiceOddities(
            service=self.service,
            days=days,
            days_min=self.settings.days_min,
            series=tuple(self._days),
            findings=tuple(self._findings[key] for key in sorted(self._findings)),
            recent=tuple(self._recent),
        )

    def _learn(self, since: int) -> None:
        """From what is older than the slots that are to be judged, unless that is too little."""
        history = self.history
        end = since - history.first
        if end < self.settings.days_min * SLOTS_A_DAY:
            end = len(history)
        end_slot = history.first + end
        self._learnt_at = end_slot
        begin = end % SLOTS_A_DAY
        tables = {}
        for name in SERIES:
            x = straight(name, np.array(history.values[name])[begin:end])
            x[np.frombuffer(bytes(history.odd[name]), dtype=np.uint8)[begin:end] == 1] = np.nan
            tables[name] = x.reshape(-1, SLOTS_A_DAY)
        noise = floors(tables["requests_per_s"])
        self._days, own = {}, {}
        for name, table in tables.items():
            told = (2 * (~np.isnan(table)).sum(axis=1) >= SLOTS_A_DAY).sum()
            if told < min(2, self.settings.days_min) or (~np.isnan(table)).sum(axis=0).max() < 2:
                continue
            found, z = daily.learn(table, least=np.maximum(noise[name], SCALES[name].least))
            turn = (history.first + begin) % SLOTS_A_DAY  # the slot of the day of the first column
            self._days[name] = replace(
                found, medians=np.roll(found.medians, turn), spreads=np.roll(found.spreads, turn)
            )
            own[name] = z.ravel()
        self._joint = self._joined(own)

    def _joined(self, own: dict[str, Floats]) -> _Joint | None:
        names = tuple(name for name in own if np.nanstd(own[name]) > STILL)
        if len(names) < 2:
            return None
        rows = np.column_stack([own[name] for name in names])
        rows = rows[np.isfinite(rows).all(axis=1)]
        rows = rows[(np.abs(rows) <= self.settings.point_sigma).all(axis=1)]
        if len(rows) < ROWS_MIN:
            return None
        model: Subspace | Autoencoder
        if self.settings.reconstruction == "autoencoder":
            model = autoencoder.learn(rows)
        else:
            model = reconstruction.learn(rows)
        roots = np.cbrt((_left(model, rows) ** 2).sum(axis=1))
        centre = float(np.median(roots))
        spread = 1.4826 * float(np.median(np.abs(roots - centre)))
        return _Joint(
            series=names,
            model=model,
            centre=centre,
            spread=max(spread, LEAST_ROOT),
            groups=clusters.start(
                rows[:: max(1, len(rows) // GROUPED)], radius=RADIUS * self.settings.point_sigma
            ),
        )

    def _scores(self, name: str) -> Floats:
        history = self.history
        x = straight(name, np.array(history.values[name]))
        return daily.scores(self._days[name], x, first_slot=history.first % SLOTS_A_DAY)

    def _of_series(self, name: str, z: Floats, fresh: int) -> list[_Hit]:
        """Values and stretches that end in the newest ``fresh`` slots."""
        said, found = self.settings, []
        start = len(z) - fresh
        offset = max(0, start - SURROUND)
        told = np.nan_to_num(z, nan=0.0)  # what is not known is not odd
        season = self._days[name].left
        for number, (window, part) in enumerate(WINDOWS.items()):
            cut = self._window_cut() * part
            at = LayerSettings(point_cut=said.point_sigma, window=window, window_cut=cut)
            got = layers.find(season, told[offset:], first_slot=0, settings=at)
            if number == 0:
                for index in (i + offset for i in got.points):
                    if index >= start and not _was_so(told, index, 1):
                        found.append(self._hit(name, Layer.POINT, index, index, float(told[index])))
            for index in (i + offset for i in got.windows):
                begin = index - window + 1
                if index < start or begin < 0 or not _lasts(told, index, window):
                    continue
                if not _was_so(told, index, window):
                    onset = _onset(told, begin, index)
                    mean = float(told[onset : index + 1].mean())
                    found.append(self._hit(name, Layer.WINDOW, onset, index, mean))
        return found

    def _window_cut(self) -> float:
        """Few days know their own spread and correlation less well."""
        days = max(self.history.days(), 1)
        return self.settings.window_sigma * (1 + 0.3 / days)

    def _of_all(self, scores: dict[str, Floats], fresh: int) -> list[_Hit]:
        joint = self._joint
        if joint is None or any(name not in scores for name in joint.series):
            return []
        rows = np.column_stack([scores[name] for name in joint.series])
        found: list[_Hit] = []
        groups = joint.groups
        for index in range(len(rows) - fresh, len(rows)):
            row = rows[index : index + 1]
            if not np.isfinite(row).all():
                continue
            before = rows[index - WEEK] if index >= WEEK else None
            far = self._misfit(joint, row)
            if far > self.settings.point_sigma and not (
                before is not None
                and np.isfinite(before).all()
                and self._misfit(joint, before[None, :]) > far / 2
            ):
                left = _left(joint.model, row)[0]
                found.append(self._joint_hit(joint, Layer.RECONSTRUCTION, index, far, left))
            groups, new = clusters.feed(groups, row)
            if new and not (before is not None and _is_near(groups, row[0], before)):
                size = float(np.sqrt((row[0] ** 2).mean()))
                found.append(self._joint_hit(joint, Layer.CLUSTER, index, size, row[0]))
        self._joint = replace(joint, groups=groups)
        return found

    def _misfit(self, joint: _Joint, row: Floats) -> float:
        root = float(np.cbrt((_left(joint.model, row) ** 2).sum()))
        return (root - joint.centre) / joint.spread

    def _hit(self, name: str, layer: Layer, first: int, last: int, sigmas: float) -> _Hit:
        base = self.history.first
        return _Hit(series=name, layer=layer, first=base + first, last=base + last, sigmas=sigmas)

    def _joint_hit(
        self, joint: _Joint, layer: Layer, index: int, sigmas: float, parts: Floats
    ) -> _Hit:
        order = np.argsort(-np.abs(parts))[:NAMED]
        words = [f"{joint.series[i]} {float(parts[i]):+.1f} sigma" for i in order]
        hit = self._hit(TOGETHER, layer, index, index, sigmas)
        return replace(hit, detail=", ".join(words))

    def _note(self, hit: _Hit) -> None:
        """A finding goes on, or begins; what is odd is not to be learnt from."""
        key = (hit.series, hit.layer)
        marked = self._joint.series if hit.series == TOGETHER and self._joint else (hit.series,)
        for name in marked:
            self.history.mark(name, hit.first, hit.last)
        known = self._findings.get(key)
        value, usual = self._values(hit)
        if known is not None and hit.first - self._seen[key] > CALM:
            self._recent.append(known)
            known = None
        self.begun += known is None
        since = hit.first
        if hit.layer is Layer.WINDOW:  # what is longer than a stretch was marked from its begin on
            while self.history.is_odd(hit.series, since - 1):
                since -= 1
        self._seen[key] = hit.last
        self._findings[key] = Oddity(
            series=hit.series,
            layer=hit.layer,
            since_wall=since * SLOT_S if known is None else known.since_wall,
            wall=(hit.last + 1) * SLOT_S,
            value=value,
            usual=usual,
            sigmas=round(hit.sigmas, 2),
            detail=hit.detail,
        )

    def _values(self, hit: _Hit) -> tuple[float | None, float | None]:
        if hit.series == TOGETHER:
            return None, None
        base, day = self.history.first, self._days[hit.series]
        x = straight(hit.series, np.array(self.history.values[hit.series]))
        slots = np.arange(hit.first - base, hit.last + 1 - base)
        usual = day.medians[(hit.first + np.arange(slots.size)) % SLOTS_A_DAY]
        both = np.isfinite(x[slots]) & np.isfinite(usual)
        if not both.any():
            return None, None
        told, was = float(np.mean(x[slots][both])), float(np.mean(usual[both]))
        return shown(hit.series, told), shown(hit.series, was)

    def _end(self) -> None:
        for key, last in list(self._seen.items()):
            if self.history.upto - 1 - last >= CALM:
                del self._seen[key]
                self._recent.append(self._findings.pop(key))
        edge = (self.history.upto - SLOTS_A_DAY) * SLOT_S
        while self._recent and self._recent[0].wall < edge:
            self._recent.popleft()


def _was_so(z: Floats, index: int, window: int) -> bool:
    """Whether a week before it was half as odd, or more, in the same direction."""
    end = index - WEEK + 1
    if end - window < 0:
        return False
    now = float(z[index - window + 1 : index + 1].mean())
    if window == 1:  # a job that starts a quarter earlier or later is the same job
        near = z[max(0, end - 2) : end + 1]
        then = float(near.max() if now > 0 else near.min())
    else:
        then = float(z[end - window : end].mean())
    return bool(now * then > 0 and abs(then) > abs(now) / 2)


def _lasts(z: Floats, index: int, window: int) -> bool:
    """Whether the newest quarter of the stretch is still as odd: one that is over is not told as if it went on."""
    whole = float(z[index - window + 1 : index + 1].mean())
    newest = float(z[index - window // 4 + 1 : index + 1].mean())
    return newest * whole > 0 and abs(newest) > abs(whole) / 2


def _onset(z: Floats, begin: int, end: int) -> int:
    """Where in begin..end it began to be off: what comes after is as far as possible from what comes before."""
    piece = z[begin : end + 1]
    mean = float(piece.mean())
    sums = np.cumsum((np.sign(mean) * piece - abs(mean) / 2)[::-1])[::-1]
    return begin + int(sums.argmax())


def _left(model: Subspace | Autoencoder, rows: Floats) -> Floats:
    """Of each row what the model does not explain, by series."""
    if isinstance(model, Autoencoder):
        return autoencoder.residuals(model, rows)
    return reconstruction.residuals(model, rows)


def _is_near(groups: Clusters, row: Floats, other: Floats) -> bool:
    if not np.isfinite(other).all():
        return False
    far = ((row - other) / groups.scale) ** 2
    return bool(far.sum() <= groups.radius**2)
