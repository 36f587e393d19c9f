"""Whether a process grows: the slope of its memory, and whether its descriptors and threads stay as they were. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

GROWTH_MOST_MIB_H = 1.0
"""Reliability research 6, case 50."""
SPARE = 2
"""So many descriptors or threads more than ever before are a call under way and no leak."""
WARM_SHARE, WARM_MOST_S = 1 / 3, 900.0
"""What is left out at the begin: caches and arenas fill."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One process at one moment."""

    at: float
    rss_mib: float
    descriptors: int
    threads: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """What became of one process."""

    name: str
    looks: int
    hours: float
    rss_mib_h: float
    """Of the least line through what it held."""
    rss_first_mib: float
    rss_last_mib: float
    rss_curve_mib: tuple[float, ...]
    """Ten moments of it, evenly: a level that fills is told from a leak by eye."""
    descriptors: tuple[int, int]
    """The most in the first and in the second half."""
    threads: tuple[int, int]

    @property
    def faults(self) -> list[str]:
        found = []
        if self.rss_mib_h >= GROWTH_MOST_MIB_H:
            found.append(f"{self.name}: grows by {self.rss_mib_h:.2f} MiB an hour")
        for what, (first, second) in (
            ("descriptors", self.descriptors),
            ("threads", self.threads),
        ):
            if second > first + SPARE:
                found.append(f"{self.name}: {second} {what}, {first} before")
        return found


def warm(looks: Sequence[Look]) -> list[Look]:
    """Without the begin."""
    if not looks:
        return []
    begin, length = looks[0].at, looks[-1].at - looks[0].at
    return [look for look in looks if look.at - begin >= min(length * WARM_SHARE, WARM_MOST_S)]


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Of the line of least squares; 0 of fewer than two moments."""
    count = len(points)
    if count < 2:
        return 0.0
    x = sum(p[0] for p in points) / count
    y = sum(p[1] for p in points) / count
    spread = sum((p[0] - x) ** 2 for p in points)
    return sum((p[0] - x) * (p[1] - y) for p in points) / spread if spread else 0.0


def growth(name: str, looks: Sequence[Look]) -> Growth:
    """Of what was seen of one process, its begin left out."""
    kept = warm(looks)
    half = len(kept) // 2
    first, second = kept[:half], kept[half:]
    return Growth(
        name=name,
        looks=len(kept),
        hours=(kept[-1].at - kept[0].at) / 3600 if kept else 0.0,
        rss_mib_h=slope([(look.at / 3600, look.rss_mib) for look in kept]),
        rss_first_mib=kept[0].rss_mib if kept else 0.0,
        rss_last_mib=kept[-1].rss_mib if kept else 0.0,
        rss_curve_mib=tuple(
            round(kept[place * (len(kept) - 1) // 9].rss_mib, 2) for place in range(10) if kept
        ),
        descriptors=(_most(first, "descriptors"), _most(second, "descriptors")),
        threads=(_most(first, "threads"), _most(second, "threads")),
    )


def _most(looks: Sequence[Look], what: str) -> int:
    return max((int(getattr(look, what)) for look in looks), default=0)
