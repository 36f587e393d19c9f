"""After an agent that did not end by itself: what it held frozen runs on. Run by its unit (ExecStopPost)."""

from pathlib import Path
from typing import Protocol

from gpuwarden.errors import GpuwardenError
from gpuwarden.model.action import Action, Kind
from gpuwarden.model.ids import CgroupId
from gpuwarden.node.journal import read
from gpuwarden.node.recover import recover
from gpuwarden.policy import upkeep


class Groups(Protocol):
    """Of ``ports.Cgroups`` what this needs."""

    def is_same(self, cgroup: CgroupId) -> bool: ...
    def is_frozen(self, cgroup: CgroupId) -> bool: ...
    def thaw(self, cgroup: CgroupId) -> None: ...


def let_go(journal: Path, cgroups: Groups) -> list[str]:
    """Thaw what the journal says that we froze, or may have; a line for each group that was still frozen.

    A group of the same path that is another one is left alone, and so is what nobody of us froze. Nothing is written: an
    agent that starts again measures what is.
    """
    recovered = recover(read(journal))
    _, thaws = upkeep.parting(recovered.memory)
    begun = [u.action for u in recovered.unsettled if u.action.kind is Kind.FREEZE]
    told = []
    for group in {g: None for action in (*thaws, *begun) if (g := _group(action)) is not None}:
        try:
            if not cgroups.is_same(group) or not cgroups.is_frozen(group):
                continue
            cgroups.thaw(group)
        except GpuwardenError as error:
            told.append(f"{group.path}: {error}")
        else:
            told.append(f"{group.path}: runs on")
    return told


def _group(action: Action) -> CgroupId | None:
    return None if action.target is None else action.target.cgroup
