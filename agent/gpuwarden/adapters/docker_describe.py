"""A container as ``docker inspect`` tells it -> facts. Pure; every field may be missing or garbage."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from gpuwarden.errors import Refused
from gpuwarden.model.ids import TenantId
from gpuwarden.model.owner import RuntimeFacts

MAX_LABELS = 128
_MAX_KEY = 256
_MAX_VALUE = 2048
_PREFIX = "gpuwarden."


def facts_of(raw: Mapping[str, Any], tenant: TenantId) -> RuntimeFacts:
    """What the container's owner, labels and state are. Labels stay untrusted text, bounded."""
    config, state = table(raw, "Config"), table(raw, "State")
    labels = labels_of(config)
    name, image = name_of(raw), text(config, "Image")
    return RuntimeFacts(
        tenant=tenant,
        described=True,
        name=name,
        image=image,
        labels=labels,
        user=text(config, "User") or None,
        restart_policy=restart_policy(raw),
        is_paused=state.get("Paused") is True,
        visible_devices=visible_devices(raw),
        owner_key=owner_key(dict(labels), image, name),
        started_wall=_wall(text(state, "StartedAt")),
    )


def table(raw: Mapping[str, Any], *keys: str) -> Mapping[str, Any]:
    """The object below ``keys``; empty where there is none."""
    value: Any = raw
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value if isinstance(value, Mapping) else {}


def text(raw: Mapping[str, Any], key: str) -> str | None:
    value = raw.get(key)
    return value[:_MAX_VALUE] if isinstance(value, str) else None


def texts(raw: Mapping[str, Any], key: str) -> tuple[str, ...]:
    """The strings of a list; what is no string is left out."""
    value = raw.get(key)
    return tuple(one for one in value if isinstance(one, str)) if isinstance(value, list) else ()


def name_of(raw: Mapping[str, Any]) -> str | None:
    return (text(raw, "Name") or "").lstrip("/") or None


def labels_of(config: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """At most ``MAX_LABELS``, our own first, so that a flood of others cannot push them out."""
    labels = [
        (key[:_MAX_KEY], value[:_MAX_VALUE])
        for key, value in table(config, "Labels").items()
        if isinstance(value, str)
    ]
    labels.sort(key=lambda pair: (not pair[0].startswith(_PREFIX), pair))
    return tuple(labels[:MAX_LABELS])


def restart_policy(raw: Mapping[str, Any]) -> str | None:
    """``no``, ``always``, ``unless-stopped``, ``on-failure`` or ``on-failure:3``."""
    policy = table(raw, "HostConfig", "RestartPolicy")
    name = text(policy, "Name")
    if name is None:
        return None
    count = policy.get("MaximumRetryCount")
    return f"{name}:{count}" if isinstance(count, int) and count > 0 else name or "no"


KEPT_POLICIES = ("always", "unless-stopped", "on-failure")
"""Restart policies that bring a container back."""


def policy_back(old: Mapping[str, str]) -> tuple[str, int] | None:
    """The restart policy to give back, with its count; ``None``: there was none.

    ``old`` is what the runtime told when the policy was switched off (``Name``,
    ``MaximumRetryCount``); where that answer never came, ``restart_policy`` as it was described
    before. ``Refused`` when it is neither.
    """
    if "Name" in old:
        name, count = old["Name"], old.get("MaximumRetryCount", "0")
    else:
        name, _, count = old.get("restart_policy", "no").partition(":")
        count = count or "0"
    if name in ("", "no"):
        return None
    if name not in KEPT_POLICIES or not (count.isascii() and count.isdigit()):
        raise Refused(f"{dict(old)!r} is no restart policy")
    return name, int(count)


def owner_key(labels: Mapping[str, str], image: str | None, name: str | None) -> str | None:
    """Names the owner across re-creation: the id changes, these do not.

    Labels are anybody's to write; of a running container only the name cannot be had twice. Compose
    gives the same name again, so it is part of the key.
    """
    project = labels.get("com.docker.compose.project")
    service = labels.get("com.docker.compose.service")
    if project and service:
        return f"compose:{project}/{service}+{name or ''}"
    swarm = labels.get("com.docker.swarm.service.name")
    if swarm:
        return f"swarm:{swarm}"
    namespace = labels.get("io.kubernetes.pod.namespace")
    pod = labels.get("io.kubernetes.pod.name")
    if namespace and pod:
        container = labels.get("io.kubernetes.container.name", "")
        return f"kubernetes:{namespace}/{pod}/{container}"
    return f"container:{image or ''}+{name}" if name else None


def visible_devices(raw: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Device requests, else ``NVIDIA_VISIBLE_DEVICES``, else CDI names; ``None``: not told.

    What it was given, not what it uses: only the driver's process list proves use.
    """
    found: list[str] = []
    requests = table(raw, "HostConfig").get("DeviceRequests")
    for request in requests if isinstance(requests, list) else []:
        if not is_gpu_request(request):
            continue
        ids = texts(request, "DeviceIDs")
        count = request.get("Count")
        if ids:
            found += ids
        elif isinstance(count, int) and count > 0:
            found += [
                str(index) for index in range(min(count, 64))
            ]  # Docker takes the first so many
        elif count:
            found.append("all")
    if found:
        return tuple(found)
    value = dict(environment(raw)).get("NVIDIA_VISIBLE_DEVICES")
    if value is None:
        return None
    if value in ("", "void", "none"):
        return ()
    return tuple(part.strip() for part in value.split(",") if part.strip())[:64]


# /dev/nvidia0, /dev/nvidiactl
_DEVICE_FILE = re.compile(r"/dev/nvidia([0-9]{1,3})?\Z", re.ASCII)


def given_devices(raw: Mapping[str, Any]) -> tuple[str, ...]:
    """The GPUs it may use, in its creator's words (``all``, an index, a UUID, a CDI name); empty: none. It was
    given them by a request, by its environment, by the names of device files, or by one that serves all."""
    devices = visible_devices(raw)
    if devices is not None:
        return devices
    rows = table(raw, "HostConfig").get("Devices")
    paths = (
        [text(row, "PathOnHost") or "" for row in rows if isinstance(row, Mapping)]
        if isinstance(rows, list)
        else []
    )
    files = [match for path in paths if (match := _DEVICE_FILE.match(path))]
    numbers = tuple(match[1] for match in files if match[1])
    return numbers or (("all",) if any(path.startswith("/dev/nvidia") for path in paths) else ())


def is_gpu_request(request: object) -> bool:
    """A device request for GPUs: NVIDIA's driver, CDI names of NVIDIA, or the ``gpu`` capability."""
    if not isinstance(request, Mapping):
        return False
    if request.get("Driver") == "nvidia":
        return True
    if request.get("Driver") == "cdi":
        return any(one.startswith("nvidia.com/") for one in texts(request, "DeviceIDs"))
    capabilities = request.get("Capabilities")
    rows = capabilities if isinstance(capabilities, list) else []
    return any(isinstance(row, list) and "gpu" in row for row in rows)


def environment(raw: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The container's own variables, in order."""
    pairs = (one.partition("=") for one in texts(table(raw, "Config"), "Env"))
    return [(key, value) for key, _, value in pairs]


def init_pid(raw: Mapping[str, Any]) -> int:
    """The host pid of its first process; 0 when it does not run."""
    pid = table(raw, "State").get("Pid")
    return pid if isinstance(pid, int) and not isinstance(pid, bool) and pid > 0 else 0


def _wall(stamp: str | None) -> float | None:
    # 2026-02-14T03:14:07.123456789Z; 0001-01-01T00:00:00Z means never
    if not stamp or stamp.startswith("0001-"):
        return None
    head, _, fraction = stamp.rstrip("Z").partition(".")
    try:
        moment = datetime.fromisoformat(head).replace(tzinfo=UTC)
    except ValueError:
        return None
    digits = fraction[:6]
    return moment.timestamp() + (float(f"0.{digits}") if digits.isdecimal() else 0.0)
