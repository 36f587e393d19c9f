"""One cgroup path -> the owner it names. Pure text; nothing is asked, nothing is guessed.

The innermost owner wins: a pod inside a Docker container (kind) belongs to the pod's container, a
systemd unit inside an LXC guest to the guest. Everything below the owner's own group (``/container``,
``/payload``, ``/init.scope`` of a guest, a Slurm step) is its leaf, not another owner.
"""

import re
from dataclasses import dataclass, replace

from gpuwarden.adapters.cgroup_unit import UNIT_TYPES, Reading, Strength, unescape, unit_of, user_of
from gpuwarden.model.owner import CgroupOwner


@dataclass(frozen=True, slots=True, kw_only=True)
class Element:
    """One path element that names an owner."""

    runtime: str
    container_id: str | None = None
    name: str | None = None
    job_id: str | None = None
    unit: str | None = None


_HEX64 = re.compile(r"[0-9a-f]{64}\Z")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")
# 6f265890-5165-7fab-6b52-18d1 (Cloud Foundry's garden shortens the last group)
_GARDEN_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{4,12}\Z")
# cri-containerd-1cd3449e...92d1.scope, libpod-974a75c8...cbd6.scope, libpod-payload-974a...cbd6, crio-conmon-eb5a...1057.scope
_PREFIXED = re.compile(
    r"(?P<prefix>[A-Za-z0-9][A-Za-z0-9_.-]*?)[-_](?P<id>[0-9a-f]{64})(?:\.scope)?\Z"
)
# kubepods-burstable-pod121157b5_c67d_4c3e_9052_cb27bbb711fb.slice:cri-containerd:1cd3449e...92d1
_COLONS = re.compile(r"(?P<slice>[^:]*):(?P<prefix>[^:]+):(?P<id>[0-9a-f]{64})\Z")
# pod6a4ce4a0-ba47-11ea-b2a7-0cc47ac5979e, kubepods-burstable-pod7260904bbd08e72e4dff95d9fccd2ee8.slice
_POD = re.compile(
    r"(?:|[^:]*-)pod(?P<uid>[0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}|[0-9a-f]{32})(?:\.slice)?\Z"
)
# /ecs/03752a671e744971a862edcee6195646/03752a671e744971a862edcee6195646-4015103728
_FARGATE = re.compile(r"[0-9a-f]{32}-[0-9]{1,20}\Z")
# job_1392969, job_77_3
_JOB = re.compile(r"job_(?P<id>[0-9]{1,20}(?:[_+][0-9]{1,20})?)\Z", re.ASCII)
# slurmstepd.scope, node-a_slurmstepd.scope (several slurmd on a host), slurm, slurm_node-a
_SLURM_SCOPE = re.compile(r"(?:[^/]+_)?slurmstepd\.scope\Z")
_SLURM_V1 = re.compile(r"slurm(?:[_-][^/]+)?\Z")
_SLURM_UID = re.compile(r"uid_[0-9]{1,20}\Z", re.ASCII)
# systemd-nspawn@jammy.service
_NSPAWN = re.compile(r"systemd-nspawn@(?P<name>.+)\.service\Z")
# machine-debian\x2dtest.scope; libvirt's machine-qemu\x2d1\x2dvm.scope is a virtual machine
_MACHINE = re.compile(r"machine-(?P<name>.+)\.scope\Z")
# 4e6b9e9b-1b4e-4f9a-8d3c-0f2b1a3c4d5e.web.scope below nomad.slice
_NOMAD = re.compile(
    r"(?P<alloc>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})[.-](?P<task>.+?)(?:\.scope)?\Z"
)
_IDENTIFIER = re.compile(r"[A-Za-z0-9]+(?:[._-][A-Za-z0-9]+)*\Z", re.ASCII)
_GUEST_INNARDS = (".slice", *UNIT_TYPES)

_PREFIX_RUNTIME = {
    "docker": "docker",
    "libpod": "podman",
    "podman": "podman",
    "libpod-payload": "podman",
    "libpod-conmon": "podman-monitor",
    "cri-containerd": "containerd",
    "containerd": "containerd",
    "nerdctl": "containerd",
    "crio": "crio",
    "cri-o": "crio",
    "crio-conmon": "crio-monitor",
}
# Parents under which an engine puts bare ids: Docker's own, its old lxc driver, containerd's namespaces.
_PARENT_RUNTIME = {
    "docker": "docker",
    "moby": "docker",
    "lxc": "docker",
    "k8s.io": "containerd",
    "default": "containerd",
    "nerdctl": "containerd",
}


_POD_GROUPS = ("kubepods", "burstable", "besteffort")


def read(path: str) -> Reading:
    """What ``path`` (as the kernel printed it) names; never fails.

    ``cgroup_path`` of the owner is ``path`` cut off behind the owner's own element.
    """
    path = path.removesuffix(" (deleted)")
    segments = path.split("/")[1:]
    depth = 0
    found: Reading | None = None
    for index in range(len(segments) - 1, -1, -1):
        element = _element(segments, index)
        if element is None:
            continue
        depth += 1
        if found is None:
            found = _reading(element, segments, index, path)
    if found is not None:
        return replace(found, depth=depth)
    return _nameless_container(segments, path) or unit_of(segments, path)


def nested_in(path: str) -> str | None:
    """What stands around the owner that ``path`` names, or ``None`` when the host itself does.

    ``uid1000`` below a user's slice, else the id or name of the next outer container. Whoever may
    create groups there may also name them after somebody else's container.
    """
    segments = path.split("/")[1:]
    is_inner_seen = False
    for index in range(len(segments) - 1, -1, -1):
        element = _element(segments, index)
        if element is None:
            continue
        outer = element.container_id or element.name or element.job_id or element.unit
        if is_inner_seen and outer is not None:
            return outer
        is_inner_seen = True
    uid = user_of(segments)
    return f"uid{uid}" if uid is not None else None


def _reading(element: Element, segments: list[str], index: int, path: str) -> Reading:
    pods = (_pod_uid(segment) for segment in reversed(segments[: index + 1]))
    return Reading(
        strength=Strength.OWNER,
        depth=1,
        owner=CgroupOwner(
            runtime=element.runtime,
            cgroup_path="/" + "/".join(segments[: index + 1]),
            leaf_path=path,
            container_id=element.container_id,
            pod_uid=next((uid for uid in pods if uid), None),
            unit=element.unit,
            job_id=element.job_id,
            name=element.name,
            is_never_victim=element.runtime.endswith("-monitor")
            or element.runtime == "slurm-daemon",
        ),
    )


def _element(segments: list[str], index: int) -> Element | None:
    """The owner that ``segments[index]`` names by itself and its parents."""
    for recognise in (_container, _guest, _job, _orchestrated):
        element = recognise(segments, index)
        if element is not None:
            return element
    return None


def _container(segments: list[str], index: int) -> Element | None:
    segment, parent = segments[index], segments[index - 1] if index else ""
    match = _PREFIXED.match(segment) or _COLONS.match(segment)
    if match:
        runtime = _PREFIX_RUNTIME.get(match["prefix"])
        if runtime is None and _pod_uid(match.groupdict().get("slice") or parent):
            runtime = "kubernetes"
        return Element(runtime=runtime, container_id=match["id"]) if runtime else None
    if _HEX64.match(segment):
        if _pod_uid(parent) or parent in _POD_GROUPS:
            return Element(runtime="kubernetes", container_id=segment)
        if "ecs" in segments[max(0, index - 3) : index]:
            return Element(runtime="ecs", container_id=segment)
        runtime = _PARENT_RUNTIME.get(parent)
        return Element(runtime=runtime, container_id=segment) if runtime else None
    if _UUID.match(segment) and _pod_uid(parent):
        return Element(runtime="kubernetes", container_id=segment)
    if _FARGATE.match(segment) and "ecs" in segments[max(0, index - 3) : index]:
        return Element(runtime="ecs", container_id=segment)
    return None


def _guest(segments: list[str], index: int) -> Element | None:
    """LXC, LXD and Incus guests, nspawn and other machines."""
    segment, parent = segments[index], segments[index - 1] if index else ""
    for prefix, runtime in (("lxc.payload.", "lxc"), ("lxc.monitor.", "lxc-monitor")):
        if segment.startswith(prefix) and len(segment) > len(prefix):
            return Element(runtime=runtime, name=segment[len(prefix) :].removesuffix(".scope"))
    if (
        parent in ("lxc", "lxc.payload", "lxc.monitor")
        and segment not in ("", "ns", "..")
        and not segment.startswith(".")
        and not segment.endswith(_GUEST_INNARDS)
    ):
        return Element(runtime="lxc-monitor" if parent == "lxc.monitor" else "lxc", name=segment)
    machine = _machine(segments, index)
    if machine is not None:
        return Element(runtime="nspawn", name=machine, unit=segment)
    if segment == "supervisor" and index:
        machine = _machine(segments, index - 1)
        return Element(runtime="nspawn-monitor", name=machine) if machine else None
    return None


def _machine(segments: list[str], index: int) -> str | None:
    match = _NSPAWN.match(segments[index])
    if match:
        return match["name"]
    match = _MACHINE.match(segments[index])
    if match and "machine.slice" in segments[:index]:
        name = unescape(match["name"])
        return None if name.startswith(("qemu-", "lxc-")) else name
    return None


def _job(segments: list[str], index: int) -> Element | None:
    """Slurm: the job's group; slurmstepd's own groups (``system``, ``step_N/slurm``) are never victims."""
    segment, before = segments[index], segments[:index]
    match = _JOB.match(segment)
    if match and before and _is_slurm_root(before):
        return Element(runtime="slurm", job_id=match["id"])
    if segment == "slurm" and before and before[-1].startswith("step_"):
        job = _JOB.match(before[-2]) if len(before) > 2 else None
        return Element(runtime="slurm-daemon", job_id=job["id"]) if job else None
    is_daemon = segment == "system" and before and _SLURM_SCOPE.match(before[-1])
    is_bare_scope = _SLURM_SCOPE.match(segment) and index == len(segments) - 1
    return Element(runtime="slurm-daemon") if is_daemon or is_bare_scope else None


def _is_slurm_root(before: list[str]) -> bool:
    if _SLURM_SCOPE.match(before[-1]) or _SLURM_V1.match(before[-1]):
        return True
    return len(before) > 1 and bool(_SLURM_UID.match(before[-1]) and _SLURM_V1.match(before[-2]))


def _orchestrated(segments: list[str], index: int) -> Element | None:
    """Pods without a container of their own, Nomad, Mesos, garden, containerd's ``/namespace/id``."""
    segment, parent = segments[index], segments[index - 1] if index else ""
    if _pod_uid(segment):
        return Element(runtime="kubernetes")
    if parent == "mesos" and _UUID.match(segment):
        return Element(runtime="mesos", container_id=segment)
    if parent == "garden" and _GARDEN_ID.match(segment):
        return Element(runtime="garden", container_id=segment)
    if "nomad.slice" in segments[:index] or "nomad" in segments[:index]:
        match = _NOMAD.match(segment)
        if match:
            return Element(runtime="nomad", name=f"{match['alloc']}.{match['task']}")
        return Element(runtime="nomad", name=segment) if _UUID.match(segment) else None
    if index == 1 and parent in ("default", "k8s.io") and _IDENTIFIER.match(segment):
        return Element(runtime="containerd", container_id=segment)
    return None


def _pod_uid(segment: str) -> str | None:
    match = _POD.match(segment.partition(":")[0])
    return match["uid"].replace("_", "-") if match else None


def _nameless_container(segments: list[str], path: str) -> Reading | None:
    """A 64-hex id that no engine's layout explains (``--cgroup-parent``): an id, no runtime."""
    for index in range(len(segments) - 1, -1, -1):
        match = _PREFIXED.match(segments[index]) or _COLONS.match(segments[index])
        bare = segments[index] if _HEX64.match(segments[index]) else None
        # /libpod_parent/<pod id>/conmon: the id of a Podman pod, which is no container
        if bare and index and segments[index - 1] == "libpod_parent":
            continue
        container_id = match["id"] if match else bare
        if container_id is not None:
            element = Element(runtime="unknown", container_id=container_id)
            return _reading(element, segments, index, path)
    return None
