"""Who a process belongs to, as its cgroup file tells."""

from dataclasses import dataclass

from gpuwarden.model.ids import CgroupId, Pid, TenantId


@dataclass(frozen=True, slots=True, kw_only=True)
class CgroupOwner:
    """What the text of ``/proc/<pid>/cgroup`` says; no other source was asked.

    ``runtime`` is one of docker, podman, containerd, crio, kubernetes (a pod whose runtime the path
    does not tell), ecs, lxc, nspawn, slurm, systemd-service, systemd-scope, user-session, the
    never-victims (``*-monitor``, slurm-daemon, init), or ``unknown``. ``cgroup_path`` is the
    group to
    act on (the container's root), ``leaf_path`` the process's own. Absent facts are ``None``.
    """

    runtime: str
    cgroup_path: str | None
    leaf_path: str | None
    container_id: str | None = None
    pod_uid: str | None = None
    unit: str | None = None
    job_id: str | None = None
    name: str | None = None
    is_never_victim: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessFacts:
    """What is known of one live process. ``comm`` is untrusted text (15 bytes, any characters)."""

    pid: Pid
    ppid: int
    pgrp: int
    session: int
    state: str
    comm: str
    uid: int
    owner: CgroupOwner
    cgroup: CgroupId | None
    """The cgroup to act on, or ``None`` where it could not be resolved to a directory."""
    pgrp_start: int = 0
    """Start of the group's leader, or of the first member seen where the leader is gone: tells a
    reused group id apart. 0: not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuContainer:
    """A container that runs and was given a GPU, whether or not it uses it."""

    pid: int
    """Its first process."""
    devices: tuple[str, ...]
    """As its creator named them: ``all``, an index, a UUID, a CDI name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeFacts:
    """What the owner's runtime (Docker, Slurm, systemd, ...) says of a tenant.

    ``labels`` is untrusted: whoever starts the container writes it. ``described`` is False
    while the
    runtime has not answered: the tenant then has no labels, which is not the same as empty labels.
    """

    tenant: TenantId
    described: bool
    name: str | None = None
    image: str | None = None
    labels: tuple[tuple[str, str], ...] = ()
    user: str | None = None
    account: str | None = None
    restart_policy: str | None = None
    is_paused: bool = False
    visible_devices: tuple[str, ...] | None = None
    owner_key: str | None = None
    """Names the owner across re-creation (compose project, service and name; image and name; pod owner; unit)."""
    started_wall: float | None = None
    cannot_act: str | None = None
    """Why this kind of owner cannot be stopped on this host, in words; ``None`` when it can."""
