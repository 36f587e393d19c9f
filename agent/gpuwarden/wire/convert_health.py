"""Health as messages and back. Fields of a message bear the names of the model's, so most are copied."""

from dataclasses import fields
from typing import Any, TypeVar

from google.protobuf.message import Message

from gpuwarden.model.health import (
    Deep,
    DeviceHealth,
    DriverVersions,
    Errors,
    GpuTask,
    Remains,
    Setup,
    Surroundings,
    SystemService,
    Vitals,
)
from gpuwarden.model.ids import DeviceId, Pid
from gpuwarden.wire.fields import known, text, text_or_none
from gpuwarden.wire.v1 import health_pb2 as pb

_Part = TypeVar("_Part", Vitals, Errors, Setup, Deep, SystemService, DriverVersions)
_Sent = TypeVar("_Sent", bound=Message)


def to_health(health: DeviceHealth) -> pb.DeviceHealth:
    return pb.DeviceHealth(
        vitals=_copied(pb.Vitals, health.vitals),
        errors=_copied(pb.Errors, health.errors),
        setup=_copied(pb.Setup, health.setup),
        deep=_copied(pb.Deep, health.deep),
    )


def from_health(message: pb.DeviceHealth | None) -> DeviceHealth | None:
    if message is None:
        return None
    return DeviceHealth(
        vitals=_read(Vitals, message, "vitals"),
        errors=_read(Errors, message, "errors"),
        setup=_read(Setup, message, "setup"),
        deep=_read(Deep, message, "deep"),
    )


def to_driver(driver: DriverVersions) -> pb.DriverVersions:
    return pb.DriverVersions(
        driver=text(driver.driver), library=text(driver.library), is_refused=driver.is_refused
    )


def from_driver(message: pb.DriverVersions | None) -> DriverVersions | None:
    return None if message is None else _copied_back(DriverVersions, message)


def to_surroundings(around: Surroundings) -> pb.Surroundings:
    return pb.Surroundings(
        at=around.at,
        every_s=around.every_s,
        stuck=[_to_task(task) for task in around.stuck],
        remains=[_to_remains(left) for left in around.remains],
        services=[_to_service(service) for service in around.services],
        module_version=text_or_none(around.module_version),
        library_version=text_or_none(around.library_version),
        pci_gpus=around.pci_gpus,
        nvswitches=around.nvswitches,
        imex_channels=around.imex_channels,
        is_clock_synchronised=around.is_clock_synchronised,
        clock_error_s=around.clock_error_s,
    )


def from_surroundings(message: pb.Surroundings | None) -> Surroundings | None:
    if message is None:
        return None
    return Surroundings(
        at=message.at,
        every_s=message.every_s,
        stuck=tuple(_from_task(task) for task in message.stuck),
        remains=tuple(_from_remains(left) for left in message.remains),
        services=tuple(_copied_back(SystemService, each) for each in message.services),
        module_version=known(message, "module_version"),
        library_version=known(message, "library_version"),
        pci_gpus=known(message, "pci_gpus"),
        nvswitches=known(message, "nvswitches"),
        imex_channels=known(message, "imex_channels"),
        is_clock_synchronised=known(message, "is_clock_synchronised"),
        clock_error_s=known(message, "clock_error_s"),
    )


def _to_task(task: GpuTask) -> pb.GpuTask:
    return pb.GpuTask(
        pid=task.pid.pid,
        start=task.pid.start,
        comm=text(task.comm),
        since=task.since,
        holds=text(task.holds),
    )


def _from_task(message: pb.GpuTask) -> GpuTask:
    return GpuTask(
        pid=Pid(pid=message.pid, start=message.start),
        comm=message.comm,
        since=message.since,
        holds=message.holds,
    )


def _to_remains(left: Remains) -> pb.Remains:
    return pb.Remains(
        device=text(left.device),
        raw_pid=left.raw_pid,
        used_bytes=left.used_bytes,
        is_zombie=left.is_zombie,
        comm=text(left.comm),
        parent=left.parent,
        tenant=text_or_none(left.tenant),
    )


def _from_remains(message: pb.Remains) -> Remains:
    return Remains(
        device=DeviceId(message.device),
        raw_pid=message.raw_pid,
        used_bytes=message.used_bytes,
        is_zombie=message.is_zombie,
        comm=message.comm,
        parent=known(message, "parent"),
        tenant=known(message, "tenant"),
    )


def _to_service(service: SystemService) -> pb.SystemService:
    return pb.SystemService(
        name=text(service.name),
        is_installed=service.is_installed,
        is_enabled=service.is_enabled,
        is_running=service.is_running,
        pid=service.pid,
    )


def _copied(kind: type[_Sent], part: Vitals | Errors | Setup | Deep | None) -> _Sent | None:
    """A class of samples as its message; what is None is left out."""
    if part is None:
        return None
    return kind(**{field.name: getattr(part, field.name) for field in fields(part)})


def _copied_back(kind: type[_Part], message: Message) -> _Part:
    """What has no presence of its own (a time, a name) is always there."""
    described = message.DESCRIPTOR.fields_by_name
    values: dict[str, Any] = {
        field.name: known(message, field.name)
        if described[field.name].has_presence
        else getattr(message, field.name)
        for field in fields(kind)
    }
    return kind(**values)


def _read(kind: type[_Part], message: Message, name: str) -> _Part | None:
    return _copied_back(kind, getattr(message, name)) if message.HasField(name) else None
