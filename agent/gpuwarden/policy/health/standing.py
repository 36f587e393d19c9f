"""What the health rules claim now: every fault whose grace is over and whose probation is not."""

from gpuwarden.config import Config
from gpuwarden.model.finding import Finding
from gpuwarden.model.memory import Memory
from gpuwarden.policy.scene import Scene


def find(cfg: Config, memory: Memory, scene: Scene) -> list[Finding]:
    """The findings, in the order in which they were first seen."""
    return [s.finding for s in memory.health.signs.values() if s.stands_since is not None]
