"""Measured against promised: the bounds of DESIGN section 1, and which of them were missed. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from gpuwarden.sim.incident.cast import Variant

RELOCATED_WITHIN_S = 10.0
"""With a device that stays locked up: what rolling a service back may take, start-up included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measures:
    """What one run came to; seconds since the first byte over quota, ``None``: never happened."""

    noticed_s: float | None = None
    decided_s: float | None = None
    bytes_back_s: float | None = None
    slo_back_s: float | None = None
    cause_written_s: float | None = None
    wrong_victims: int = 0
    real_containers: bool = False
    ended: str = "unresolved"
    """evicted, relocated, cordoned or unresolved."""
    was_locked_up: bool = True
    has_come_back: bool = False
    """Whether the evicted offender was started again by anybody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What was promised for a variant; ``None``: nothing."""

    noticed_s: float = 0.25
    decided_s: float = 0.5
    bytes_back_s: float = 2.0
    slo_back_s: float | None = 5.0
    cause_written_s: float = 2.0
    wrong_victims: int = 0
    ended: str = "evicted"


TIMES = ("noticed_s", "decided_s", "bytes_back_s", "slo_back_s", "cause_written_s")


def bounds_for(variant: Variant, *, real_containers: bool) -> Bounds:
    """The promise for what was asked, times the slowness that was said of the host."""
    bounds = _promised(variant, real_containers=real_containers)
    times = {name: getattr(bounds, name) for name in TIMES}
    return replace(bounds, **{k: v and v * variant.slowness for k, v in times.items()})


def _promised(variant: Variant, *, real_containers: bool) -> Bounds:
    """The cause has to be on paper before the bytes are due back."""
    back = 3.0 if variant.is_stubborn else 2.0
    if variant.has_no_grace:
        back = 0.5  # KILL at once: whether TERM would be obeyed does not matter
    if not variant.is_persistent:
        return Bounds(bytes_back_s=back, cause_written_s=back)
    moves = variant.allows_restart and real_containers  # nobody can restart a plain process
    return Bounds(
        bytes_back_s=back,
        cause_written_s=back,
        slo_back_s=RELOCATED_WITHIN_S if moves else None,
        ended="relocated" if moves else "cordoned",
    )


def missed(measures: Measures, bounds: Bounds) -> tuple[str, ...]:
    """Every broken promise, in words; empty: all held."""
    found = []
    if not measures.was_locked_up:
        found.append(
            "the device never locked up: the offender was gone before, so nothing is shown"
        )
    for name in TIMES:
        limit: float | None = getattr(bounds, name)
        value: float | None = getattr(measures, name)
        if limit is None:
            continue
        if value is None:
            found.append(f"{name}: never, the bound is {limit:g}")
        elif value > limit:
            found.append(f"{name}: {value:.3f}, the bound is {limit:g}")
        elif value < 0:
            found.append(f"{name}: {value:.3f}, before its cause")
    if measures.wrong_victims > bounds.wrong_victims:
        found.append(
            f"wrong_victims: {measures.wrong_victims}, the bound is {bounds.wrong_victims}"
        )
    if measures.ended != bounds.ended:
        found.append(f"ended: {measures.ended}, expected {bounds.ended}")
    if measures.has_come_back:
        found.append("the offender came back after its eviction")
    return tuple(found)


def worst(values: Sequence[float | None]) -> float | None:
    """The greatest; ``None`` where one never happened."""
    if not values or any(value is None for value in values):
        return None
    return max(value for value in values if value is not None)


def median(values: Sequence[float | None]) -> float | None:
    """The middle one (the lower of two); one that never happened counts as the greatest."""
    ordered = sorted((v for v in values if v is not None), key=float)
    middle = (len(values) - 1) // 2
    return ordered[middle] if middle < len(ordered) else None
