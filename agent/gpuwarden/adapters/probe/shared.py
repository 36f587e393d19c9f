"""What the child's threads know of each other. Single stores and loads: the interpreter's lock is enough."""

from __future__ import annotations


class Listed:
    """When each device was last listed and how full it was then, by whichever thread listed it."""

    def __init__(self, devices: int) -> None:
        self.at = [-1e9] * devices
        self.used = [0] * devices
        self.is_pending = False
        """A device has moved and waits for its gap: look again though nothing changes."""

    def note(self, ordinal: int, at: float, used: int) -> None:
        self.at[ordinal] = at
        self.used[ordinal] = used
