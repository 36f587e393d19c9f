"""The seams to those who run the node: who places jobs on it, and who tells the agent what to do."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from gpuwarden.model.action import Target
from gpuwarden.model.audit import Audited
from gpuwarden.model.command import Answer, Command
from gpuwarden.model.ids import TenantId
from gpuwarden.model.repair import Subject
from gpuwarden.model.rollback import Recorded


class Cordons(Protocol):
    """Whoever places jobs on this node (Slurm, Kubernetes, Docker, an operator's command) is told that a
    device, or all of it, is out of use, and when that is over. Only what was cordoned by us is undone."""

    def cordon(self, subject: Subject, incident: str, reason: str) -> Mapping[str, str]:
        """Tell all; the same twice is the same. What each said, by its name; empty: nobody to tell.
        ``Unavailable``: one of them could not be told (the others were)."""
        ...

    def uncordon(self, subject: Subject, incident: str, still: Sequence[str]) -> Mapping[str, str]:
        """Tell all that the cordon of an incident is over; ``still``: incidents of cordons of ours that
        stand on: what is cordoned as a whole stays so until the last of them is over."""
        ...


class Audit(Protocol):
    """Where the commands of people are written down before they are carried out."""

    def audit(self, entry: Audited) -> None:
        """On disk when this returns; ``Unavailable`` when it is not. From any thread."""
        ...


class Commands(Protocol):
    """What operators ask for; a bounded queue between the API and the loop."""

    def drain(self) -> Sequence[Command]:
        """Since the last call, oldest first; never blocks."""
        ...

    def answer(self, answers: Sequence[Answer]) -> None:
        """Tell whoever asked; those who wait no longer are passed over."""
        ...


class Versions(Protocol):
    """What ran here under a service's name, with everything that it takes to start it again."""

    def follow(
        self,
        replicas: Mapping[TenantId, str],
        wells: Mapping[str, bool | None],
        now: float,
        wall: float,
    ) -> None:
        """Who carries which service now, and whether each service holds what it promises (None: nobody
        knows). Recorded in the background; never blocks."""
        ...

    def known(self) -> Sequence[Recorded]:
        """Of the services that are carried now; never blocks."""
        ...

    def roll_back(
        self, target: Target, service: str, place: str, version: str, *, has_room: bool
    ) -> Mapping[str, str]:
        """Start the recorded version in the place of what runs there now and prove it well. When this returns it
        runs; when it raises, what ran before runs on, or the words say that it does not. The same again finishes
        what an agent that died has begun. ``has_room``: its device holds both at once. What was done, in words.
        Blocks up to its deadline."""
        ...
