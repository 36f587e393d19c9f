"""Counts of names that a service's inputs have, bounded: a flood of new ones costs one number."""

from collections.abc import Iterable

from gpuwarden.model.evaluation import Categories

NAMES_MAX = 200
"""That travel, by how often they came; as many as a profile has."""
HELD_MAX = 400
"""While a window is filled, first come first served: the commonest are among them."""
FEATURES_MAX = 16
"""Of one window."""
NAME_MAX_CHARS = 128


class Names:
    """One feature that is being counted. One thread."""

    __slots__ = ("counts", "other")

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.other = 0

    def add(self, name: str) -> None:
        """One that no person can read, or that is too long, is one of the others."""
        known = self.counts.get(name)
        if known is not None:
            self.counts[name] = known + 1
        elif len(self.counts) < HELD_MAX and len(name) <= NAME_MAX_CHARS and name.isprintable():
            self.counts[name] = 1
        else:
            self.other += 1

    def merge(self, more: Categories) -> None:
        for name, times in more.counts.items():
            if name in self.counts or len(self.counts) < HELD_MAX:
                self.counts[name] = self.counts.get(name, 0) + times
            else:
                self.other += times
        self.other += more.other

    def done(self) -> Categories:
        """What it holds now: the commonest by name, ties by the name. It may be filled on."""
        if len(self.counts) <= NAMES_MAX:
            return Categories(counts=dict(self.counts), other=self.other)
        ranked = sorted(self.counts, key=lambda name: (-self.counts[name], name))
        return Categories(
            counts={name: self.counts[name] for name in ranked[:NAMES_MAX]},
            other=self.other + sum(self.counts[name] for name in ranked[NAMES_MAX:]),
        )


def merge(parts: Iterable[Categories]) -> Categories:
    """One of all."""
    names = Names()
    for part in parts:
        names.merge(part)
    return names.done()


def rows(told: Categories) -> int:
    return sum(told.counts.values()) + told.other
