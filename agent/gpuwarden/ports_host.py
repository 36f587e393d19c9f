"""The seams to the host itself; part of ``ports``."""

from collections.abc import Sequence
from typing import Protocol

from gpuwarden.model.device import Listing
from gpuwarden.model.health import Surroundings
from gpuwarden.model.snapshot import HostSample


class Host(Protocol):
    """The host's own CPU, memory, disks, network and pressure."""

    def sample(self, now: float) -> HostSample:
        """The newest sample; refreshed on its own slow schedule; never blocks."""
        ...

    def boot_id(self) -> str: ...


class Senses(Protocol):
    """What surrounds the GPUs: tasks, services, versions, the bus, the wall clock."""

    def watch(self, listings: Sequence[Listing]) -> None:
        """What the driver says of who holds bytes, for the next look; never blocks."""
        ...

    def surroundings(self) -> Surroundings | None:
        """The newest sample, with its own time; None before the first. Never blocks."""
        ...

    def close(self) -> None: ...
