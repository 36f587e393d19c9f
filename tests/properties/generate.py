"""A world for a seed: who lives in it, and what befalls it. Short, and unkind."""

from __future__ import annotations

from random import Random

from gpuwarden.sim.world import World
from tests.properties.inhabitants import Inhabitants
from tests.properties.play import RULES, SETTINGS, Play
from tests.properties.reddening import WINDOW_S, Calm, Reddening
from tests.properties.troubles import Troubles
from tests.simulated.agent import HeapJournal

CALM_EVERY = 6
"""Every so manieth world is one in which nobody is over a quota."""


def _modes(seed: int, mode: str) -> tuple[frozenset[str], dict[str, dict[str, str]]]:
    """Which rules may act, and the settings that say so: now and then one differs from the node."""
    dice = Random(seed * 31 + 7)
    acting = set(RULES) if mode == "enforce" else set()
    said = {"neighbour": {"mode": mode}}  # by default it only observes
    if dice.random() < 0.85:
        return frozenset(acting), said
    other = dice.choice(["quota", "reserve"])
    acting ^= {other}
    said[other] = {"mode": "enforce" if other in acting else "observe"}
    return frozenset(acting), said


def generate(seed: int) -> Play:
    """The world of a seed; its agent is not started yet."""
    dice = Random(seed * 7919 + 13)
    mode = "observe" if dice.random() < 0.12 else "enforce"
    reserve = dice.choice(["0", "0", "4GiB", "8GiB"])
    enforces, rules = _modes(seed, mode)
    settings = {
        **SETTINGS,
        "quota": {**SETTINGS["quota"], "growth_window_s": WINDOW_S},
        "agent": {"mode": mode},
        "rules": rules,
        "reserve": {"bytes": reserve, "evict_within_quota": dice.random() < 0.8},
        "ladder": {
            **SETTINGS["ladder"],
            "allow_protected_restart": dice.random() < 0.3,
        },
        "default": {"memory_max": "80GiB"},
    }
    world = World(
        seed,
        devices=dice.choice([1, 2, 2, 3]),
        total_mib=40_960,
        cgroup_version=dice.choice([1, 2]),
        limiter=dice.choice(
            ["none", "none", "none", "works", "no-effect", "not-supported", "no-permission"]
        ),
        settings=settings,
    )
    world.restart_after_s = dice.uniform(0.2, 1.5)
    play = Play(seed, world, HeapJournal(world.ledger), enforces)
    is_calm = seed % CALM_EVERY == CALM_EVERY - 1
    inhabitants = (Calm if is_calm else Inhabitants)(dice, play, list(world.cards.cards))
    inhabitants.write()
    Troubles(dice, play, inhabitants.places).write()
    if is_calm or seed % 3 == 0:
        Reddening(play).write()
    return play
