"""Who in a group is the tenant, and who only looks after it: monitors are spared.

Slurm keeps slurmstepd inside the job's own group (on v1 beside the steps, on v2 in ``step_N/slurm``),
nspawn its supervisor inside the machine's. Killing those would take the job's bookkeeping along.
"""

import os
from collections.abc import Iterator

from gpuwarden.adapters import cgroup_path
from gpuwarden.adapters.cgroup_tree import Group, direct_members, members, walk
from gpuwarden.adapters.procstat import parse_stat

_SHARED = ("slurm", "nspawn")


def has_monitors(group: Group) -> bool:
    """Whether this kind of owner keeps monitors inside its group."""
    return cgroup_path.read(group.path).owner.runtime in _SHARED


def tenant_members(group: Group, proc: str = "/proc") -> set[int]:
    """Pids of the group and below, without monitors."""
    if not has_monitors(group):
        return members(group)
    found: set[int] = set()
    for one in tenant_groups(group):
        found |= {
            pid for pid in direct_members(one, is_top=one is group) if not _is_spared(pid, proc)
        }
    return found


def tenant_groups(group: Group) -> Iterator[Group]:
    """The group and those below it that hold no monitors by their name."""
    for one in walk(group):
        if not cgroup_path.read(one.path).owner.is_never_victim:
            yield one


def _is_spared(pid: int, proc: str) -> bool:
    """slurmstepd, by name and by root (a user's job cannot pass for it); and who is dead meanwhile:
    a group may list a process for a moment after it has ended.
    """
    try:
        with open(f"{proc}/{pid}/stat", "rb") as file:
            stat = parse_stat(file.read(4096))
        uid = os.stat(f"{proc}/{pid}").st_uid
    except OSError as error:
        return isinstance(error, FileNotFoundError | ProcessLookupError)
    if stat is None or not stat.is_running:
        return True
    return stat.comm == "slurmstepd" and uid == 0
