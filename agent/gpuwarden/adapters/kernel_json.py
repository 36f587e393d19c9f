"""A reading as a JSON object: what ``gpuwarden debug kernel-log`` prints, and evidence holds."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from gpuwarden.model.kernel_line import DriverLine, KernelLine, Kind, SxidForm, SxidLine, XidLine

_ALWAYS: Mapping[Kind, tuple[str, ...]] = {
    Kind.GPU_UUID: ("uuid",),
    Kind.GPU_SERIAL: ("serial",),
    Kind.FALLEN_OFF_BUS: ("implied_xid",),
    Kind.REFUSED_HEAD: ("pci_id", "continues"),
    Kind.REFUSED_PART: ("pci_id", "continues"),
    Kind.CHANNELS_TORN_DOWN: ("caused_by_xid",),
    Kind.GSP_HEARTBEAT_LOST: ("gpu_index",),
    Kind.RC_WATCHDOG: ("gpu_index",),
    Kind.DRIVER_ASSERT: ("gpu_index", "file", "line", "reset_required"),
    Kind.DRIVER_CHECK: ("gpu_index", "file", "line", "reset_required"),
    Kind.HUNG_TASK: ("seconds",),
    Kind.API_MISMATCH: ("client_version", "module_version"),
}
"""What a kind has even where the line does not say it; anything else is left out where it is absent."""
_WHERE_SAID: Mapping[Kind, tuple[str, ...]] = {
    Kind.RM_INIT_FAILED: ("message", "minor", "codes"),
    Kind.FALLEN_OFF_BUS: ("pci_id",),
    Kind.UVM_FATAL: ("message",),
}
_EVENT = ("fatal", "link", "message")
_SEVERITY = ("severity", "engine_instance", "sub_engine_instance")


def as_json(line: KernelLine) -> dict[str, Any]:
    """Every object has ``kind``, ``pci``, ``pid`` and ``process``; the rest is what its kind can say."""
    if isinstance(line, XidLine):
        return _xid(line)
    if isinstance(line, SxidLine):
        return _sxid(line)
    return _driver(line)


def _xid(line: XidLine) -> dict[str, Any]:
    always = {
        "kind": line.kind.value,
        "xid": line.xid,
        "pci": line.pci,
        "pid": line.pid,
        "process": line.process,
        "message": line.message,
    }
    rest = {
        each.name: _plain(getattr(line, each.name))
        for each in fields(line)
        if each.name not in always and getattr(line, each.name) is not None
    }
    return {**always, **rest}


def _sxid(line: SxidLine) -> dict[str, Any]:
    said: dict[str, Any] = {
        "kind": line.kind.value,
        "sxid": line.sxid,
        "pci": line.pci,
        "switch": line.switch,
        "pid": None,
        "process": None,
        "form": line.form.value,
    }
    if line.form is SxidForm.DATA:
        return {**said, "data": list(line.data)}
    names = _EVENT if line.form is SxidForm.EVENT else _SEVERITY
    return {**said, **{name: getattr(line, name) for name in names}}


def _driver(line: DriverLine) -> dict[str, Any]:
    said: dict[str, Any] = {
        "kind": line.kind.value,
        "pci": line.pci,
        "pid": line.pid,
        "process": line.process,
    }
    for name in _ALWAYS.get(line.kind, ()):
        said[name] = _plain(getattr(line, name))
    for name in _WHERE_SAID.get(line.kind, ()):
        if (value := getattr(line, name)) not in (None, ()):
            said[name] = _plain(value)
    return said


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name.rstrip("_"): _plain(getattr(value, each.name)) for each in fields(value)}
    return value
