"""Where readers get the newest picture: implemented by the node's status board."""

from typing import Protocol

from gpuwarden.model.service import Fitness
from gpuwarden.model.status import View


class ViewSource(Protocol):
    """Immutable pictures, newest only; safe to call from any thread."""

    def view(self) -> View:
        """The newest; ``Unavailable`` before the first."""
        ...

    def fitness(self, name: str, now: float) -> Fitness | None:
        """Whether the instance of that name may be sent work; ``None``: nobody is called so.
        ``Unavailable`` before the first picture."""
        ...

    def wait_newer(self, serial: int, timeout_s: float) -> View | None:
        """The newest as soon as its serial is greater, or ``None`` when the time is over."""
        ...
