"""What a thing is, so that it can be recognised again just before acting on it."""

from dataclasses import dataclass
from typing import NewType

DeviceId = NewType("DeviceId", str)
"""A GPU UUID (``GPU-...``) or, for a slice, its MIG UUID (``MIG-...``); never an index."""

TenantId = NewType("TenantId", str)
"""``<runtime>:<key>``: ``docker:<64 hex>``, ``slurm:<job>``, ``unit:<name>``,
``pgrp:<pid>@<start>``.
"""

IncidentId = NewType("IncidentId", str)
"""Names one incident in log, journal, metric, page and CLI."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Pid:
    """One process and no other: a pid together with its start time.

    ``start`` is field 22 of ``/proc/<pid>/stat``: clock ticks since boot. A reused pid differs
    in it.
    """

    pid: int
    start: int


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class CgroupId:
    """One cgroup and no other: its path and the inode of its directory.

    ``path`` is absolute inside its hierarchy (``/docker/<id>``). ``inode`` belongs to the
    directory in
    ``hierarchy`` (``""`` for the unified v2 tree, else a v1 controller such as ``freezer``). A
    group
    that was removed and made again under the same name has another inode.
    """

    path: str
    inode: int
    hierarchy: str = ""
