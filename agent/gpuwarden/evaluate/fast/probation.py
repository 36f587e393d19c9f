"""How long a version has to hold what its service promises before it counts as good."""

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class Probation:
    """``held_s`` seconds in which the service was known to be well, without a red word in between."""

    held_s: float = 0.0
    told_at: float | None = None
    """Monotonic seconds of the last word; None: there was none."""
    was_well: bool = False

    def is_over(self, lasts_s: float) -> bool:
        return self.held_s >= lasts_s


GAP_MAX_S = 30.0
"""Between two words longer apart nobody was looking: that time does not count."""


def told(before: Probation, is_well: bool | None, at: float) -> Probation:
    """After one more word. A red one begins anew; time in which nobody knows counts for nothing."""
    if is_well is False:
        return Probation(told_at=at)
    since = 0.0 if before.told_at is None else at - before.told_at
    counts = before.was_well and is_well is True and 0.0 <= since <= GAP_MAX_S
    held = before.held_s + since if counts else before.held_s
    return replace(before, held_s=held, told_at=at, was_well=is_well is True)
