"""Which tenant a process belongs to. Pure: facts in, a name out.

Only what the host itself vouches for shares a plain name. An owner that stands inside another one (a
container in a container, anything below a user's slice) carries ``@<outer>``: whoever may create
groups there may name them after somebody else's container, and must not be mistaken for it.
"""

import re

from gpuwarden.adapters.cgroup_path import nested_in
from gpuwarden.errors import Refused
from gpuwarden.model.ids import TenantId
from gpuwarden.model.owner import CgroupOwner, ProcessFacts

_CONTAINER_ID = re.compile(r"[0-9a-f]{64}\Z")
_CRI = ("containerd", "crio", "kubernetes")
_UNITS = ("systemd-service", "systemd-scope")


def tenant_id(facts: ProcessFacts) -> TenantId:
    """The tenant of a process.

    Sessions, init, the root group and whatever is not understood are never one tenant as a whole:
    there the process group is the tenant, ``pgrp:<pgid>@<start of its leader or first seen member>``.
    """
    return tenant_of_owner(facts.owner) or TenantId(
        f"pgrp:{facts.pgrp}@{facts.pgrp_start or facts.pid.start}"
    )


def tenant_of_owner(owner: CgroupOwner) -> TenantId | None:
    """The tenant an owner makes as a whole; ``None`` where the process group counts instead."""
    key = _owner_key(owner)
    if key is None:
        return None
    outer = nested_in(owner.cgroup_path or "")
    return TenantId(spelled(f"{key}@{outer}" if outer else key))


def spelled(name: str) -> str:
    r"""A kernel's name as text: bytes that are no UTF-8 become ``\xff``, since journal and wire carry text
    alone. The cgroup's own path keeps them."""
    if name.isprintable():
        return name
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def key_of(tenant: TenantId) -> str:
    """The runtime's own name of a tenant: ``docker:<id>@uid1000`` -> ``<id>``, ``slurm:7`` -> ``7``.

    For a pod's container that is the container's id; unit names keep the ``@`` of their template.
    """
    kind, _, rest = tenant.partition(":")
    if kind == "unit":
        return rest
    rest = rest.partition("@")[0]
    return rest.rpartition("/")[2] if kind == "pod" else rest


def container_id_of(tenant: TenantId) -> str:
    """The full container id of a tenant; ``Refused`` where its name holds none."""
    key = key_of(tenant)
    if not _CONTAINER_ID.match(key):
        raise Refused(f"{tenant} names no container")
    return key


def is_nested(tenant: TenantId) -> bool:
    """Whether the tenant stands inside another owner, so that the host's runtime does not know it."""
    kind, _, rest = tenant.partition(":")
    return kind not in ("unit", "pgrp") and "@" in rest


def _owner_key(owner: CgroupOwner) -> str | None:
    runtime, container_id = owner.runtime, owner.container_id
    if runtime in _UNITS:
        return f"unit:{owner.unit}" if owner.unit else None
    if runtime == "slurm":
        return f"slurm:{owner.job_id}" if owner.job_id else None
    if runtime in _CRI and owner.pod_uid:
        return f"pod:{owner.pod_uid}/{container_id}" if container_id else f"pod:{owner.pod_uid}"
    if runtime in _CRI:
        return f"cri:{container_id}" if container_id else None
    if runtime == "unknown":
        return f"container:{container_id}" if container_id else None
    if runtime in ("user-session", "init"):
        return None
    name = container_id or owner.name or owner.job_id
    return f"{runtime}:{name}" if name else None
