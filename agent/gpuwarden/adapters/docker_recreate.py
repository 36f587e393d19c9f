"""The body that makes a container again as it is, pinned to one other device. Pure."""

import re
from collections.abc import Mapping
from typing import Any

from gpuwarden.adapters.docker_describe import (
    is_gpu_request,
    name_of,
    restart_policy,
    table,
    text,
    texts,
)
from gpuwarden.errors import Unsupported
from gpuwarden.model.ids import DeviceId

REPLACES = "gpuwarden.replaces"
"""Label of a replacement: the id of the container it took over from."""
RESTART = "gpuwarden.replaces-restart"
"""Label of a replacement: the restart policy that the old container had."""
_VARIABLE = "NVIDIA_VISIBLE_DEVICES"
_NUMBERED = re.compile(r"/dev/nvidia[0-9]+\Z", re.ASCII)


def body_of(raw: Mapping[str, Any], device: DeviceId, index: int) -> dict[str, Any]:
    """What to POST to /containers/create for the same container on ``device`` (number ``index``).

    ``Unsupported`` where nothing in its configuration says which device it gets, or it holds several.
    """
    config = dict(table(raw, "Config"))
    host = dict(table(raw, "HostConfig"))
    if host.get("AutoRemove") is True:
        raise Unsupported("it is removed when it stops (--rm), so it could not be put back")
    if not _pin(config, host, device, index):
        raise Unsupported("nothing in its configuration names the device it gets")
    return _body(raw, config, host, text(raw, "Id") or "", restart_policy(raw) or "no")


def body_again(
    raw: Mapping[str, Any], image: str, replaces: Mapping[str, Any], policy: str
) -> dict[str, Any]:
    """The same for the container that ``raw`` was, as it was, from ``image``; it takes over from ``replaces``,
    whose restart policy was ``policy``."""
    config, host = dict(table(raw, "Config")), dict(table(raw, "HostConfig"))
    config["Image"] = image
    host["AutoRemove"] = False
    return _body(raw, config, host, text(replaces, "Id") or "", policy)


def _body(
    raw: Mapping[str, Any],
    config: dict[str, Any],
    host: dict[str, Any],
    replaces: str,
    policy: str,
) -> dict[str, Any]:
    container_id = text(raw, "Id") or ""
    if text(config, "Hostname") == container_id[:12]:
        config.pop("Hostname")
    config.pop("MacAddress", None)
    labels = dict(table(config, "Labels"))
    config["Labels"] = {**labels, REPLACES: replaces, RESTART: policy}
    host["Binds"] = [*texts(host, "Binds"), *_unnamed_volumes(raw, host)]
    host.pop("ContainerIDFile", None)
    networks = _networks(raw, host, container_id)
    first = dict([next(iter(networks.items()))]) if networks else {}
    return {**config, "HostConfig": host, "NetworkingConfig": {"EndpointsConfig": first}}


def further_networks(raw: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Networks beyond the one that ``body_of`` names; older API versions take only one at creation."""
    networks = _networks(raw, table(raw, "HostConfig"), text(raw, "Id") or "")
    return dict(list(networks.items())[1:])


def temporary_names(raw: Mapping[str, Any]) -> tuple[str, str, str]:
    """Its name, the name it is kept under, and the one its replacement is made under."""
    short = (text(raw, "Id") or "")[:12]
    name = (name_of(raw) or short).removesuffix(f".replaced-{short}")
    return name, f"{name}.replaced-{short}", f"{name}.replaces-{short}"


def _pin(config: dict[str, Any], host: dict[str, Any], device: DeviceId, index: int) -> bool:
    is_pinned = False
    environment = list(texts(config, "Env"))
    for place, pair in enumerate(environment):
        key, _, value = pair.partition("=")
        if key == _VARIABLE and value not in ("void", "none", ""):
            environment[place] = f"{key}={_same_style([value], device, index)}"
            is_pinned = True
    config["Env"] = environment
    requests = host.get("DeviceRequests")
    if isinstance(requests, list):
        host["DeviceRequests"] = [_request(one, device, index) for one in requests]
        is_pinned |= any(is_gpu_request(one) for one in requests)
    return _pin_nodes(host, index) or is_pinned


def _pin_nodes(host: dict[str, Any], index: int) -> bool:
    """``--device /dev/nvidia0``: the old way, by device node."""
    devices = host.get("Devices")
    if not isinstance(devices, list):
        return False
    numbered = [
        one
        for one in devices
        if isinstance(one, Mapping) and _NUMBERED.match(text(one, "PathOnHost") or "")
    ]
    if len(numbered) > 1:
        raise Unsupported("it holds several devices")
    path = f"/dev/nvidia{index}"
    host["Devices"] = [
        {**one, "PathOnHost": path, "PathInContainer": path} if one in numbered else one
        for one in devices
    ]
    return bool(numbered)


def _request(request: Any, device: DeviceId, index: int) -> Any:
    if not is_gpu_request(request):
        return request
    ids = texts(request, "DeviceIDs")
    count = request.get("Count")
    if not ids and isinstance(count, int) and count > 1:
        raise Unsupported("it holds several devices")
    return {**request, "Count": 0, "DeviceIDs": [_same_style(ids, device, index)]}


def _same_style(old: tuple[str, ...] | list[str], device: DeviceId, index: int) -> str:
    """The new device as the old was written: by number, by UUID, or as a CDI name."""
    values = [part.strip() for one in old for part in one.split(",") if part.strip()]
    if len(values) > 1:
        raise Unsupported("it holds several devices")
    value = values[0] if values else ""
    kind, equals, name = value.rpartition("=")
    new = str(index) if name.isdigit() else str(device)
    return f"{kind}{equals}{new}"


def _unnamed_volumes(raw: Mapping[str, Any], host: Mapping[str, Any]) -> list[str]:
    """Volumes that only the old container's own record names: the new one would get empty ones."""
    mounts = host.get("Mounts")
    named = {one.partition(":")[2].partition(":")[0] for one in texts(host, "Binds")}
    named |= {text(one, "Target") or "" for one in mounts or [] if isinstance(one, Mapping)}
    records = raw.get("Mounts")
    found = []
    for one in records if isinstance(records, list) else []:
        if not isinstance(one, Mapping) or one.get("Type") != "volume":
            continue
        name, target = text(one, "Name"), text(one, "Destination")
        if name and target and target not in named:
            found.append(f"{name}:{target}:{'rw' if one.get('RW') is not False else 'ro'}")
    return found


def _networks(
    raw: Mapping[str, Any], host: Mapping[str, Any], container_id: str
) -> dict[str, dict[str, Any]]:
    mode = text(host, "NetworkMode") or ""
    if mode in ("host", "none") or mode.startswith("container:"):
        return {}
    found: dict[str, dict[str, Any]] = {}
    for name, endpoint in table(raw, "NetworkSettings", "Networks").items():
        if not isinstance(endpoint, Mapping):
            continue
        kept = {key: endpoint.get(key) for key in ("IPAMConfig", "Links", "DriverOpts")}
        aliases = [one for one in texts(endpoint, "Aliases") if one != container_id[:12]]
        found[str(name)] = {**kept, "Aliases": aliases}
    return found
