"""The node as messages and back: devices, tenants, uses, services, host, gaps."""

from gpuwarden.model.device import Device, DriverEvent, Sight
from gpuwarden.model.ids import DeviceId, TenantId
from gpuwarden.model.snapshot import (
    Gap,
    GapKind,
    Guest,
    HostSample,
    LimitReading,
    Snapshot,
)
from gpuwarden.model.tenant import HostLimits, Standing, Tenant, TenantClass, Use
from gpuwarden.wire.convert_command import from_command, to_command
from gpuwarden.wire.convert_growth import from_growth, from_share, to_growth, to_share
from gpuwarden.wire.convert_health import (
    from_driver,
    from_health,
    from_surroundings,
    to_driver,
    to_health,
    to_surroundings,
)
from gpuwarden.wire.convert_kernel import (
    from_kernel_forgery,
    from_kernel_record,
    from_kernel_trust,
    to_kernel_forgery,
    to_kernel_record,
)
from gpuwarden.wire.convert_service import (
    from_probe,
    from_service,
    from_version,
    to_probe,
    to_service,
    to_version,
)
from gpuwarden.wire.fields import (
    from_cgroup,
    from_enum,
    from_pairs,
    from_pids,
    known,
    text,
    text_or_none,
    to_cgroup,
    to_enum,
    to_pairs,
    to_pids,
)
from gpuwarden.wire.v1 import node_pb2 as pb


def to_snapshot(snapshot: Snapshot) -> pb.Snapshot:
    return pb.Snapshot(
        at=snapshot.at,
        wall=snapshot.wall,
        boot_id=text(snapshot.boot_id),
        devices=[to_device(device) for device in snapshot.devices],
        tenants=[to_tenant(tenant) for tenant in snapshot.tenants],
        uses=[_to_use(use) for use in snapshot.uses],
        standings=[_to_standing(standing) for standing in snapshot.standings],
        events=[_to_event(event) for event in snapshot.events],
        probes=[to_probe(reading) for reading in snapshot.probes],
        versions=[to_version(each) for each in snapshot.versions],
        growths=[to_growth(each) for each in snapshot.growths],
        shares=[to_share(each) for each in snapshot.shares],
        services=[to_service(service) for service in snapshot.services],
        host=None if snapshot.host is None else _to_host(snapshot.host),
        limits=[_to_limit(limit) for limit in snapshot.limits],
        limiter=text(snapshot.limiter),
        gaps=[_to_gap(gap) for gap in snapshot.gaps],
        unattributed=[
            pb.Unattributed(device=text(device), bytes=size)
            for device, size in snapshot.unattributed
        ],
        has_fleet_permit=snapshot.fleet_permit,
        permits=to_pairs(snapshot.permits),
        can_record=snapshot.can_record,
        driver=None if snapshot.driver is None else to_driver(snapshot.driver),
        surroundings=None
        if snapshot.surroundings is None
        else to_surroundings(snapshot.surroundings),
        kernel=[to_kernel_record(record) for record in snapshot.kernel],
        kernel_log=to_enum(pb.KernelTrust, "KERNEL_TRUST", snapshot.kernel_log),
        kernel_forgery=to_kernel_forgery(snapshot.kernel_forgery),
        guests=[
            pb.Guest(tenant=to_tenant(guest.tenant), devices=map(text, guest.devices))
            for guest in snapshot.guests
        ],
        commands=[to_command(command) for command in snapshot.commands],
    )


def from_snapshot(message: pb.Snapshot) -> Snapshot:
    return Snapshot(
        at=message.at,
        wall=message.wall,
        boot_id=message.boot_id,
        devices=tuple(from_device(device) for device in message.devices),
        tenants=tuple(from_tenant(tenant) for tenant in message.tenants),
        uses=tuple(_from_use(use) for use in message.uses),
        standings=tuple(_from_standing(standing) for standing in message.standings),
        events=tuple(_from_event(event) for event in message.events),
        probes=tuple(from_probe(reading) for reading in message.probes),
        versions=tuple(from_version(each) for each in message.versions),
        growths=tuple(from_growth(each) for each in message.growths),
        shares=tuple(from_share(each) for each in message.shares),
        services=tuple(from_service(service) for service in message.services),
        host=_from_host(message.host) if message.HasField("host") else None,
        limits=tuple(_from_limit(limit) for limit in message.limits),
        limiter=message.limiter,
        gaps=tuple(_from_gap(gap) for gap in message.gaps),
        unattributed=tuple((DeviceId(entry.device), entry.bytes) for entry in message.unattributed),
        fleet_permit=message.has_fleet_permit,
        permits=from_pairs(message.permits),
        can_record=message.can_record,
        driver=from_driver(known(message, "driver")),
        surroundings=from_surroundings(known(message, "surroundings")),
        kernel=tuple(from_kernel_record(record) for record in message.kernel),
        kernel_log=from_kernel_trust(message.kernel_log),
        kernel_forgery=from_kernel_forgery(known(message, "kernel_forgery")),
        guests=tuple(
            Guest(tenant=from_tenant(guest.tenant), devices=tuple(guest.devices))
            for guest in message.guests
        ),
        commands=tuple(from_command(command) for command in message.commands),
    )


def to_device(device: Device) -> pb.Device:
    return pb.Device(
        id=text(device.id),
        index=device.index,
        name=text(device.name),
        total_bytes=device.total_bytes,
        reserved_bytes=device.reserved_bytes,
        used_bytes=device.used_bytes,
        at=device.at,
        listed_at=device.listed_at,
        sight=to_enum(pb.Sight, "SIGHT", device.sight),
        pci=text_or_none(device.pci),
        parent=text_or_none(device.parent),
        is_mig_parent=device.is_mig_parent,
        recovery_action=device.recovery_action,
        health=None if device.health is None else to_health(device.health),
    )


def from_device(message: pb.Device) -> Device:
    return Device(
        id=DeviceId(message.id),
        index=message.index,
        name=message.name,
        total_bytes=message.total_bytes,
        reserved_bytes=message.reserved_bytes,
        used_bytes=known(message, "used_bytes"),
        at=known(message, "at"),
        listed_at=known(message, "listed_at"),
        sight=from_enum(pb.Sight, "SIGHT", message.sight, Sight),
        pci=known(message, "pci"),
        parent=known(message, "parent"),
        is_mig_parent=message.is_mig_parent,
        recovery_action=known(message, "recovery_action"),
        health=from_health(known(message, "health")),
    )


def to_tenant(tenant: Tenant) -> pb.Tenant:
    return pb.Tenant(
        id=text(tenant.id),
        runtime=text(tenant.runtime),
        name=text(tenant.name),
        tenant_class=to_enum(pb.TenantClass, "TENANT_CLASS", tenant.cls),
        soft_bytes=tenant.soft_bytes,
        hard_bytes=tenant.hard_bytes,
        host=pb.HostLimits(memory_bytes=tenant.host.memory_bytes, cpu_cores=tenant.host.cpu_cores),
        grace_s=tenant.grace_s,
        service=text_or_none(tenant.service),
        owner_key=text_or_none(tenant.owner_key),
        version=text(tenant.version),
        arm=text(tenant.arm),
        cgroup=to_cgroup(tenant.cgroup),
        pids=to_pids(tenant.pids),
        first_seen=tenant.first_seen,
        started_wall=tenant.started_wall,
        restart_policy=text_or_none(tenant.restart_policy),
        is_paused=tenant.is_paused,
        is_never_victim=tenant.is_never_victim,
        is_described=tenant.is_described,
        cannot_act=text_or_none(tenant.cannot_act),
        identity=to_pairs(tenant.identity),
        claims=to_pairs(tenant.claims),
        policy_faults=[text(fault) for fault in tenant.policy_faults],
        memory_full_avg10=tenant.memory_full_avg10,
    )


def from_tenant(message: pb.Tenant) -> Tenant:
    return Tenant(
        id=TenantId(message.id),
        runtime=message.runtime,
        name=message.name,
        cls=from_enum(pb.TenantClass, "TENANT_CLASS", message.tenant_class, TenantClass),
        soft_bytes=known(message, "soft_bytes"),
        hard_bytes=known(message, "hard_bytes"),
        host=HostLimits(
            memory_bytes=known(message.host, "memory_bytes"),
            cpu_cores=known(message.host, "cpu_cores"),
        ),
        grace_s=message.grace_s,
        service=known(message, "service"),
        owner_key=known(message, "owner_key"),
        version=message.version,
        arm=message.arm,
        cgroup=from_cgroup(known(message, "cgroup")),
        pids=from_pids(message.pids),
        first_seen=message.first_seen,
        started_wall=known(message, "started_wall"),
        restart_policy=known(message, "restart_policy"),
        is_paused=message.is_paused,
        is_never_victim=message.is_never_victim,
        is_described=message.is_described,
        cannot_act=known(message, "cannot_act"),
        identity=from_pairs(message.identity),
        claims=from_pairs(message.claims),
        policy_faults=tuple(message.policy_faults),
        memory_full_avg10=known(message, "memory_full_avg10"),
    )


def _to_use(use: Use) -> pb.Use:
    return pb.Use(
        tenant=text(use.tenant),
        device=text(use.device),
        used_bytes=use.used_bytes,
        listed_at=use.listed_at,
        unknown_rows=use.unknown_rows,
        grown_bytes=use.grown_bytes,
        growth_bytes_s=use.growth_bytes_s,
        is_mps=use.is_mps,
    )


def _from_use(message: pb.Use) -> Use:
    return Use(
        tenant=TenantId(message.tenant),
        device=DeviceId(message.device),
        used_bytes=message.used_bytes,
        listed_at=message.listed_at,
        unknown_rows=message.unknown_rows,
        grown_bytes=message.grown_bytes,
        growth_bytes_s=message.growth_bytes_s,
        is_mps=message.is_mps,
    )


def _to_standing(standing: Standing) -> pb.Standing:
    return pb.Standing(
        tenant=text(standing.tenant),
        identity_holds=standing.identity_holds,
        is_populated=standing.is_populated,
        is_frozen=standing.is_frozen,
        live_pids=to_pids(standing.live_pids),
        stuck_pids=to_pids(standing.stuck_pids),
    )


def _from_standing(message: pb.Standing) -> Standing:
    return Standing(
        tenant=TenantId(message.tenant),
        identity_holds=message.identity_holds,
        is_populated=known(message, "is_populated"),
        is_frozen=known(message, "is_frozen"),
        live_pids=from_pids(message.live_pids),
        stuck_pids=from_pids(message.stuck_pids),
    )


def _to_event(event: DriverEvent) -> pb.DriverEvent:
    return pb.DriverEvent(
        kind=text(event.kind),
        at=event.at,
        device=text_or_none(event.device),
        code=event.code,
        pid=event.pid,
        source=text(event.source),
    )


def _from_event(message: pb.DriverEvent) -> DriverEvent:
    return DriverEvent(
        kind=message.kind,
        at=message.at,
        device=known(message, "device"),
        code=known(message, "code"),
        pid=known(message, "pid"),
        source=message.source,
    )


def _to_host(host: HostSample) -> pb.HostSample:
    return pb.HostSample(
        at=host.at,
        cpu_ratio=host.cpu_ratio,
        memory_total_bytes=host.memory_total_bytes,
        memory_available_bytes=host.memory_available_bytes,
        swap_used_bytes=host.swap_used_bytes,
        disk_read_bytes_total=host.disk_read_bytes_total,
        disk_write_bytes_total=host.disk_write_bytes_total,
        network_receive_bytes_total=host.network_receive_bytes_total,
        network_transmit_bytes_total=host.network_transmit_bytes_total,
        filesystem_free_ratio=host.filesystem_free_ratio,
        memory_full_avg10=host.memory_full_avg10,
        memory_some_avg10=host.memory_some_avg10,
        cpu_some_avg10=host.cpu_some_avg10,
        io_full_avg10=host.io_full_avg10,
    )


def _from_host(message: pb.HostSample) -> HostSample:
    return HostSample(
        at=message.at,
        cpu_ratio=known(message, "cpu_ratio"),
        memory_total_bytes=known(message, "memory_total_bytes"),
        memory_available_bytes=known(message, "memory_available_bytes"),
        swap_used_bytes=known(message, "swap_used_bytes"),
        disk_read_bytes_total=known(message, "disk_read_bytes_total"),
        disk_write_bytes_total=known(message, "disk_write_bytes_total"),
        network_receive_bytes_total=known(message, "network_receive_bytes_total"),
        network_transmit_bytes_total=known(message, "network_transmit_bytes_total"),
        filesystem_free_ratio=known(message, "filesystem_free_ratio"),
        memory_full_avg10=known(message, "memory_full_avg10"),
        memory_some_avg10=known(message, "memory_some_avg10"),
        cpu_some_avg10=known(message, "cpu_some_avg10"),
        io_full_avg10=known(message, "io_full_avg10"),
    )


def _to_limit(reading: LimitReading) -> pb.LimitReading:
    return pb.LimitReading(
        tenant=text(reading.tenant),
        device=text(reading.device),
        hard_bytes=reading.hard_bytes,
        used_bytes=reading.used_bytes,
        backend=text(reading.backend),
    )


def _from_limit(message: pb.LimitReading) -> LimitReading:
    return LimitReading(
        tenant=TenantId(message.tenant),
        device=DeviceId(message.device),
        hard_bytes=known(message, "hard_bytes"),
        used_bytes=known(message, "used_bytes"),
        backend=message.backend,
    )


def _to_gap(gap: Gap) -> pb.Gap:
    return pb.Gap(
        source=text(gap.source),
        subject=text(gap.subject),
        kind=to_enum(pb.GapKind, "GAP_KIND", gap.kind),
        detail=text(gap.detail),
    )


def _from_gap(message: pb.Gap) -> Gap:
    return Gap(
        source=message.source,
        subject=message.subject,
        kind=from_enum(pb.GapKind, "GAP_KIND", message.kind, GapKind),
        detail=message.detail,
    )
