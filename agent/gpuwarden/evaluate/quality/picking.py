"""Which of the predictions that pass by are kept for people, on the node, so many a minute.

Half of them by chance, the same of each segment's own: what people say of those is the service's accuracy. Half for
doubt: uncertain or disputed ones, the most doubtful first. Both stratified by segment, the rare ones with their floor.
After a drift verdict a segment gets more for a while, and all of its predictions may be looked at: a model that meets
what it was not trained on can be wrong and sure.
"""

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from gpuwarden.evaluate.quality.sampling import (
    OTHERS,
    SEGMENTS_MAX,
    Prediction,
    allocate,
    chance,
    doubt,
    is_candidate,
)

KEPT = 64
"""Of each segment and kind between two takes: a bound on memory (64 KiB with the longest payloads)."""
TIMES_MAX = 100.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Raise:
    """More than usual, until ``until`` (monotonic seconds)."""

    service: str
    segment: str
    """Empty: of every one."""
    times: float
    until: float


@dataclass(slots=True)
class _Stratum:
    seen: int = 0
    doubted: int = 0
    by_chance: list[tuple[float, str, Prediction]] = field(default_factory=list)
    by_doubt: list[tuple[float, str, Prediction]] = field(default_factory=list)


class Picker:
    """Of one service. One thread."""

    def __init__(self, per_minute: float, *, below: float, salt: str, at: float) -> None:
        """``below``: confidence that is low. ``salt``: another one picks others by chance. ``at``: monotonic."""
        self._per_s = max(0.0, per_minute) / 60.0
        self._most = max(1.0, per_minute)
        self._below = below
        self._salt = salt
        self._taken_at = at
        self._tokens = {"chance": 0.0, "doubt": 0.0}
        self._extra: dict[str, float] = {}
        self._strata: dict[str, _Stratum] = {}

    def look(self, prediction: Prediction, raises: Iterable[Raise] = ()) -> None:
        """One that passes by; ``raises``: those of its service."""
        segment = prediction.segment
        stratum = self._strata.get(segment)
        if stratum is None:
            segment = segment if len(self._strata) < SEGMENTS_MAX else OTHERS
            stratum = self._strata.setdefault(segment, _Stratum())
        stratum.seen += 1
        ticket = -chance(prediction.id, self._salt)
        _keep(stratum.by_chance, (ticket, prediction.id, prediction))
        is_raised = any(each.segment in ("", prediction.segment) for each in raises)
        if is_raised or is_candidate(prediction, self._below):
            stratum.doubted += 1
            _keep(stratum.by_doubt, (doubt(prediction).weight, prediction.id, prediction))

    def take(self, now: float, raises: Iterable[Raise] = ()) -> list[Prediction]:
        """What is to go to people of what passed by since the take before; each once."""
        spent_s = max(0.0, now - self._taken_at)
        self._taken_at = now
        chosen: dict[str, Prediction] = {}
        number = self._accrued("chance", spent_s)
        for each in _of(self._strata, number, is_by_chance=True):
            chosen[each.id] = replace(each, is_random=True)
        for each in _of(self._strata, self._accrued("doubt", spent_s), is_by_chance=False):
            chosen.setdefault(each.id, each)
        for segment, times in _times(raises).items():
            only = {n: s for n, s in self._strata.items() if segment in ("", n)}
            self._more(segment, times, only, spent_s, chosen)
        self._strata = {}
        return list(chosen.values())

    def _accrued(self, kind: str, spent_s: float) -> int:
        """Half of the pace each; what was not used is kept, for a minute."""
        self._tokens[kind] = min(self._most / 2, self._tokens[kind] + spent_s * self._per_s / 2)
        wanted = int(self._tokens[kind])
        there = sum(
            min(KEPT, s.seen if kind == "chance" else s.doubted) for s in self._strata.values()
        )
        given = min(wanted, there)
        self._tokens[kind] -= given
        return given

    def _more(
        self,
        segment: str,
        times: float,
        strata: Mapping[str, _Stratum],
        spent_s: float,
        chosen: dict[str, Prediction],
    ) -> None:
        most = self._most * (times - 1)
        extra = min(most, self._extra.get(segment, 0.0) + spent_s * self._per_s * (times - 1))
        number = int(extra)
        self._extra[segment] = extra - number
        for each in _of(strata, number, is_by_chance=True):
            chosen[each.id] = replace(each, is_random=True)


def _keep(heap: list[tuple[float, str, Prediction]], entry: tuple[float, str, Prediction]) -> None:
    if len(heap) < KEPT:
        heapq.heappush(heap, entry)
    elif entry[:2] > heap[0][:2]:
        heapq.heapreplace(heap, entry)


def _of(strata: Mapping[str, _Stratum], number: int, *, is_by_chance: bool) -> list[Prediction]:
    if number < 1:
        return []
    heaps = {
        name: (each.by_chance if is_by_chance else each.by_doubt) for name, each in strata.items()
    }
    shares = allocate({name: len(heap) for name, heap in heaps.items()}, number, floor=1)
    found = []
    for name in sorted(heaps):
        ordered = sorted(heaps[name], key=lambda entry: (-entry[0], entry[1]))
        found += [entry[2] for entry in ordered[: shares[name]]]
    return found


def _times(raises: Iterable[Raise]) -> dict[str, float]:
    found: dict[str, float] = {}
    for each in raises:
        found[each.segment] = max(found.get(each.segment, 1.0), min(TIMES_MAX, each.times))
    return found
