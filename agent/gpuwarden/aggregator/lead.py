"""Who leads: gives permits and wakes people. Of the aggregators on one database one does; alone, each its own."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Lead:
    """The newest that is known of it."""

    epoch: int
    """Grows with every leader."""
    is_ours: bool
    address: str = ""
    """Where the leader is; empty: not known, or here."""
    why: str = ""
    """Why nobody here knows who leads; empty: somebody does."""


class Leadership(Protocol):
    """Implemented by ``OwnLead`` and ``lead_postgres.PostgresLead``. Any thread."""

    def lead(self) -> Lead:
        """As of now: ``is_ours`` only as long as nobody else can lead."""
        ...

    def learn(self, epoch: int) -> None:
        """The database holds this epoch: an older one is over."""
        ...

    def stop(self) -> None: ...


class Others(Protocol):
    """What is known of the other aggregators of this store. Any thread."""

    def permits_held(self) -> int | None:
        """By the record, where another leads; None: whoever leads here knows."""
        ...

    def others(self) -> Mapping[str, str]:
        """Those beside this one that are alive, and where each is."""
        ...


class OwnLead:
    """Of a store that nobody else uses."""

    def __init__(self, epoch: int) -> None:
        self._lead = Lead(epoch=epoch, is_ours=True)

    def lead(self) -> Lead:
        return self._lead

    def learn(self, epoch: int) -> None:
        return

    def stop(self) -> None:
        return
