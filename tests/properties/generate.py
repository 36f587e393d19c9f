"""A world for a seed: who lives in it, and what befalls it. Short, and unkind."""

from __future__ import annotations

from random import Random

from gpuwarden.sim.world import World
from tests.properties.inhabitants import Inhabitants
from tests.properties.play import RULES, SETTINGS, Play
from tests.properties.troubles import Troubles
from tests.simulated.agent import HeapJournal


def _modes(seed: int, mode: str) -> tuple[frozenset[str], dict[str, dict[str, str]]]:
    """Which rules may act, and the settings that say so: now and then one differs from the node."""
    dice = Random(seed * 31 + 7)
    acting = set(RULES) if mode == "enforce" else set()
    if dice.random() < 0.85:
        return frozenset(acting), {}
    other = dice.choice(["quota", "reserve"])
    acting ^= {other}
    return frozenset(acting), {other: {"mode": "enforce" if other in acting else "observe"}}


def generate(seed: int) -> Play:
    """The world of a seed; its agent is not started yet."""
    dice = Random(seed * 7919 + 13)
    mode = "observe" if dice.random() < 0.12 else "enforce"
    reserve = dice.choice(["0", "0", "4GiB", "8GiB"])
    enforces, rules = _modes(seed, mode)
    settings = {
        **SETTINGS,
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
    inhabitants = Inhabitants(dice, play, list(world.cards.cards))
    inhabitants.write()
    Troubles(dice, play, inhabitants.places).write()
    return play
