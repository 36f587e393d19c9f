"""Units and sessions of the host's own systemd, as a cgroup path names them. Pure text."""

import re
from dataclasses import dataclass
from enum import IntEnum

from gpuwarden.model.owner import CgroupOwner

UNIT_TYPES = (".service", ".scope", ".socket", ".mount", ".swap")
_ESCAPE = re.compile(r"\\x([0-9a-f]{2})")
# user-1000.slice, 1000.user (Ubuntu 14.04), user@1000.service
_USER = re.compile(
    r"user-([0-9]{1,10})\.slice\Z|([0-9]{1,10})\.user\Z|user@([0-9]{1,10})\.service\Z", re.ASCII
)
# Stopping one of these harms every tenant of the host, whatever it holds itself.
_INFRASTRUCTURE = re.compile(
    r"(?:docker|containerd|podman|crio|cri-o|cri-docker|kubelet|k3s|k3s-agent|rke2-server|rke2-agent"
    r"|slurmd|slurmctld|slurmdbd|munge|ssh|sshd|ssh@.*|sshd@.*|dbus|dbus-broker|polkit|lxd|lxcfs|incus"
    r"|lxc-net|lxc-monitord|systemd-(?!nspawn@).*|snap\.(?:lxd|microk8s|docker|k8s)\..*|nvidia-.*|nvsm.*|dcgm.*"
    r"|display-manager|gdm3?|lightdm|sddm|xdm|NetworkManager|networking|gpuwarden.*"
    r")\.(?:service|socket|scope)\Z"
)


class Strength(IntEnum):
    """How much a path tells; files list one path a hierarchy and the most telling one is believed."""

    ROOT = 0
    GROUP = 1
    """A group or slice of which nothing more is known."""
    INIT = 2
    UNIT = 3
    OWNER = 4
    """A container, a guest, a job, or the monitor of one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What one path tells. ``depth`` counts nested owners."""

    strength: Strength
    depth: int
    owner: CgroupOwner


def unescape(name: str) -> str:
    r"""A systemd name without its ``\x2d`` escapes and without the underscore cgroup names may get."""
    plain = _ESCAPE.sub(lambda match: chr(int(match[1], 16)), name)
    return plain.removeprefix("_")


def user_of(segments: list[str]) -> str | None:
    """The uid whose slice or session the path lies in (``user-1000.slice``, ``1000.user``)."""
    for segment in segments:
        match = _USER.match(segment)
        if match:
            return match[1] or match[2] or match[3]
    return None


def unit_of(segments: list[str], path: str) -> Reading:
    """Units of the host's own systemd, sessions, and what is neither."""
    names = [segment for segment in segments if segment not in ("", "..")]
    if not names:
        owner = CgroupOwner(runtime="unknown", cgroup_path=path, leaf_path=path)
        return Reading(strength=Strength.ROOT, depth=0, owner=owner)
    if names == ["init.scope"]:
        owner = CgroupOwner(
            runtime="init",
            cgroup_path=path,
            leaf_path=path,
            unit="init.scope",
            is_never_victim=True,
        )
        return Reading(strength=Strength.INIT, depth=0, owner=owner)
    if names[0] in ("user.slice", "user") or user_of(segments) is not None:
        return _session(segments, path)
    for index, segment in enumerate(segments):
        if segment.endswith(UNIT_TYPES):
            unit = unescape(segment) if segment.startswith("_") else segment
            owner = CgroupOwner(
                runtime="systemd-scope" if segment.endswith(".scope") else "systemd-service",
                cgroup_path="/" + "/".join(segments[: index + 1]),
                leaf_path=path,
                unit=unit,
                is_never_victim=is_infrastructure(unit),
            )
            return Reading(strength=Strength.UNIT, depth=0, owner=owner)
    owner = CgroupOwner(runtime="unknown", cgroup_path=path, leaf_path=path)
    return Reading(strength=Strength.GROUP, depth=0, owner=owner)


def _session(segments: list[str], path: str) -> Reading:
    """A user's session, or a unit of the user's own manager; ``init.scope`` there is the manager itself."""
    last = max(
        (index for index, segment in enumerate(segments) if segment.endswith(UNIT_TYPES)),
        default=None,
    )
    unit = segments[last] if last is not None else None
    is_session = unit is not None or segments[-1].endswith(".session")
    owner = CgroupOwner(
        runtime="user-session",
        cgroup_path=path if last is None else "/" + "/".join(segments[: last + 1]),
        leaf_path=path,
        unit=unit,
        is_never_victim=unit == "init.scope",
    )
    return Reading(strength=Strength.UNIT if is_session else Strength.GROUP, depth=0, owner=owner)


def is_infrastructure(unit: str) -> bool:
    """Whether ``unit`` serves the whole host, so that it is never a victim."""
    return _INFRASTRUCTURE.match(unit) is not None
