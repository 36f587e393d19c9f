"""What happened between two looks at a service's page, as a window."""

from gpuwarden.adapters.service_page import PageReading
from gpuwarden.evaluate.fast.histogram import Break, between
from gpuwarden.model.evaluation import Cohort, Histogram, Lack, Level, Missing, Window

PAUSE_S = 60.0
"""After a longer silence nothing is said of what came between: it would not be of one time."""


class PageSeries:
    """Compares looks. One thread. Times are those of the readings."""

    def __init__(self, service: str) -> None:
        self._cohort = Cohort(service=service)
        self._last: PageReading | None = None

    def look(self, reading: PageReading) -> Window | None:
        """What came since the look before; ``None`` at the first one, and after a pause."""
        last, self._last = self._last, reading
        if last is None or not 0 < reading.at - last.at <= PAUSE_S:
            return None
        lacks = [
            Lack(series=series, why=Missing.UNREADABLE, detail=detail[:120])
            for series, detail in reading.faults.items()
        ]
        counts = _counts(last, reading, lacks)
        if reading.start is not None and last.start is not None:
            counts["restarts"] = 1.0 if reading.start > last.start + 1.0 else 0.0
        return Window(
            cohort=self._cohort,
            begin_wall=last.at,
            length_s=reading.at - last.at,
            counts=counts,
            levels={
                name: Level(total=value, count=1, low=value, high=value, last=value)
                for name, value in reading.levels.items()
            },
            histograms=_histograms(last, reading, lacks),
            lacks=tuple(lacks),
        )

    def miss(self) -> None:
        """It could not be read: what comes between is not known."""
        self._last = None


def _counts(last: PageReading, now: PageReading, lacks: list[Lack]) -> dict[str, float]:
    """Growth of each counter; all of them began anew where one of them fell: the process did."""
    grown = {
        name: value - last.counts[name] for name, value in now.counts.items() if name in last.counts
    }
    fallen = sorted(name for name, value in grown.items() if value < 0)
    if not fallen:
        return grown
    lacks += [
        Lack(series=name, why=Missing.UNREADABLE, detail=f"{fallen[0]} was reset") for name in grown
    ]
    return {}


def _histograms(last: PageReading, now: PageReading, lacks: list[Lack]) -> dict[str, Histogram]:
    found: dict[str, Histogram] = {}
    for name, spread in now.spreads.items():
        before = last.spreads.get(name)
        if before is None:
            continue
        grown = between(before, spread)
        if isinstance(grown, Break):
            lacks.append(Lack(series=name, why=Missing.UNREADABLE, detail=grown.value))
        else:
            found[name] = grown
    return found
