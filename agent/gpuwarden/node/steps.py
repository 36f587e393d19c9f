"""The named points of every action, in order, so that tests can end the agent at each of them."""

from itertools import product

from gpuwarden.model.action import Action, Kind

PHASES = ("deciding", "intended", "checked", "acted", "concluding", "concluded")
"""deciding: before the intent is written. intended: it is on disk. checked: the target was compared
again. acted: the effect is there, its outcome is not. concluding: before the outcome is written.
concluded: it is on disk."""

STEPS = tuple(f"{kind.value}.{phase}" for kind, phase in product(Kind, PHASES))


class NoSteps:
    """In production nothing happens at a step."""

    def reached(self, action: Action, phase: str) -> None:
        """Pass."""
