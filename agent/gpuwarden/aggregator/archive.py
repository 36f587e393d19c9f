"""Merged windows of the last hours as bytes: of minutes, and of quarters of an hour when they are older."""

from collections.abc import Collection, Iterable
from dataclasses import replace

from gpuwarden.evaluate.fast.window import merge
from gpuwarden.model.evaluation import Cohort, Window
from gpuwarden.wire.convert_window import of_window, to_window
from gpuwarden.wire.v1 import evaluation_pb2 as pb

MINUTE_S, QUARTER_S = 60.0, 900.0
MINUTES_KEPT_S = 3 * 3600.0
"""An hour is compared with the two before it: until then minutes are kept."""


class Archive:
    """One thread."""

    def __init__(self, *, keep_s: float, max_bytes: int) -> None:
        self._keep_s, self._max_bytes = keep_s, max_bytes
        self._rows: dict[Cohort, dict[tuple[float, float], bytes]] = {}
        self.bytes = 0
        self.dropped = 0
        """Windows forgotten for want of room."""

    def cohorts(self) -> Collection[Cohort]:
        return self._rows.keys()

    def put(self, window: Window) -> bytes:
        """Keep it, or what it makes with one of the same span; as it is kept now."""
        key = (window.begin_wall, window.length_s)
        rows = self._rows.setdefault(window.cohort, {})
        before = rows.get(key)
        if before is not None:
            merged = merge([_parsed(before), window], window.cohort)
            assert merged is not None
            window = merged
            self.bytes -= len(before)
        data = rows[key] = to_window(window).SerializeToString()
        self.bytes += len(data)
        return data

    def load(self, cohort: Cohort, begin_wall: float, length_s: float, data: bytes) -> None:
        """One from the store, unless it is here."""
        rows = self._rows.setdefault(cohort, {})
        if (begin_wall, length_s) not in rows:
            rows[begin_wall, length_s] = data
            self.bytes += len(data)

    def over(
        self, cohort: Cohort, since: float, until: float, names: Collection[str] | None
    ) -> list[Window]:
        """Those that begin in [since, until), with these series alone (None: all), oldest first."""
        found = sorted(
            (key, data)
            for key, data in self._rows.get(cohort, {}).items()
            if since <= key[0] < until
        )
        return [of_window(pb.ServiceWindow.FromString(data), names) for _, data in found]

    def age(self, now_wall: float) -> list[tuple[Cohort, Window]]:
        """Old minutes become quarters (returned), what is too old is forgotten, and what does not fit."""
        made = []
        for cohort in list(self._rows):
            rows = self._rows[cohort]
            old = [key for key in rows if key[0] < now_wall - self._keep_s]
            self._forget(rows, old)
            made += [(cohort, window) for window in self._quarters(cohort, rows, now_wall)]
            if not rows:
                del self._rows[cohort]
        self._fit()
        return made

    def _quarters(
        self, cohort: Cohort, rows: dict[tuple[float, float], bytes], now_wall: float
    ) -> list[Window]:
        by_quarter: dict[float, list[tuple[float, float]]] = {}
        for key in rows:
            quarter = key[0] // QUARTER_S * QUARTER_S
            if key[1] < QUARTER_S and quarter + QUARTER_S <= now_wall - MINUTES_KEPT_S:
                by_quarter.setdefault(quarter, []).append(key)
        made = []
        for quarter, keys in sorted(by_quarter.items()):
            window = merge([_parsed(rows[key]) for key in keys], cohort)
            assert window is not None
            self._forget(rows, keys)
            whole = replace(window, begin_wall=quarter, length_s=QUARTER_S)
            self.put(whole)
            made.append(whole)
        return made

    def _forget(
        self, rows: dict[tuple[float, float], bytes], keys: Iterable[tuple[float, float]]
    ) -> None:
        for key in keys:
            self.bytes -= len(rows.pop(key))

    def _fit(self) -> None:
        """The oldest go first."""
        if self.bytes <= self._max_bytes:
            return
        every = sorted((key, cohort) for cohort, rows in self._rows.items() for key in rows)
        for key, cohort in every:
            if self.bytes <= self._max_bytes:
                return
            self._forget(self._rows[cohort], [key])
            self.dropped += 1


def _parsed(data: bytes) -> Window:
    return of_window(pb.ServiceWindow.FromString(data))
