"""Freezes shares by itself when the environment changes sharply: what a test learns on such a day it learns of the
day, and what a rollout breaks then nobody can tell from what the day broke."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from gpuwarden.config_ramp import RampConfig
from gpuwarden.model.ramp import Freeze

ENVIRONMENT = "environment"
USUAL_S = 3600.0
"""Over which usual traffic is averaged: a day's rise and fall is slower, a sale or an outage is faster."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Air:
    """What is remembered of the environment."""

    usual: float | None = None
    """Requests a second of all services, averaged; None: not known yet."""
    told_s: float = 0.0
    sharp_s: float | None = None
    """When it was last sharp; steady seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weather:
    """What is known of it now."""

    now_s: float
    rate: float | None = None
    """Requests a second of all services; None: not known."""
    red: int = 0
    services: int = 0
    """That have a verdict at all."""
    drifting: int = 0
    """Of them those whose inputs drift, where that is judged."""


def told(cfg: RampConfig, air: Air, now: Weather) -> tuple[Air, str]:
    """With one more look, and what is sharp about it (empty: nothing). Usual traffic does not learn from what is
    sharp: a sale of six hours is no new normal while it lasts."""
    why = _sharp(cfg, air, now)
    if why:
        return replace(air, sharp_s=now.now_s, told_s=now.now_s), why
    if now.rate is None:
        return replace(air, told_s=now.now_s), ""
    since = max(0.0, min(now.now_s - air.told_s, USUAL_S))
    usual = now.rate if air.usual is None else air.usual + (now.rate - air.usual) * since / USUAL_S
    return replace(air, usual=usual, told_s=now.now_s), ""


def _sharp(cfg: RampConfig, air: Air, now: Weather) -> str:
    if now.services and now.red >= max(cfg.sharp_min, cfg.sharp_red * now.services):
        return f"{now.red} of {now.services} services are red at once"
    if now.services and now.drifting >= max(cfg.sharp_min, cfg.sharp_red * now.services):
        return f"{now.drifting} of {now.services} services drift at once"
    if now.rate is None or not air.usual:
        return ""
    times = now.rate / air.usual
    if times >= cfg.sharp_ratio:
        return f"traffic is {times:.1f} times what it usually is"
    return f"traffic is {times:.0%} of what it usually is" if times <= 1 / cfg.sharp_ratio else ""


def recalled(air: Air, freeze: Freeze, now_s: float) -> Air:
    """What whoever looks for the first time has to know of a freeze that an earlier aggregator's look began: what was
    usual then, and that it has to be calm for as long again. Otherwise the sale would be the new normal."""
    if air != Air() or not freeze.is_on or freeze.by != ENVIRONMENT:
        return air
    return Air(usual=freeze.usual, told_s=now_s, sharp_s=now_s)


def frozen(cfg: RampConfig, freeze: Freeze, air: Air, why: str, now_s: float) -> Freeze:
    """The freeze of the whole environment after a look. One that a person made is nobody else's to end before its
    time; the environment's own ends once it has been calm for long."""
    if freeze.is_on and freeze.by != ENVIRONMENT:
        is_over = 0 < freeze.until_s <= now_s
        return replace(freeze, is_on=False, why="its time is over") if is_over else freeze
    if why:
        since = freeze.since_s if freeze.is_on else now_s
        usual = freeze.usual if freeze.is_on else air.usual
        return replace(
            freeze, is_on=True, by=ENVIRONMENT, why=why, since_s=since, until_s=0.0, usual=usual
        )
    if freeze.is_on and (air.sharp_s is None or now_s - air.sharp_s >= cfg.calm_s):
        return replace(freeze, is_on=False, why=f"calm for {cfg.calm_s:g} s")
    return freeze


def holds(freezes: Mapping[str, Freeze], service: str) -> str:
    """Why the shares of a service may not move; empty: they may."""
    for key in ("", service):
        freeze = freezes.get(key)
        if freeze is not None and freeze.is_on:
            return f"frozen by {freeze.by}: {freeze.why}"
    return ""
