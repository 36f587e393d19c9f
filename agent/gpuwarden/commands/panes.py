"""What several verbs show: devices, tenants, incidents, findings, and what is wrong."""

from collections.abc import Mapping, Sequence

from gpuwarden.commands.output import Cell, Column, Out, Part, Styled
from gpuwarden.commands.words import bar, clock, share, size, span
from gpuwarden.model.decision import Incident
from gpuwarden.model.device import Device, Sight
from gpuwarden.model.fault import RecoveryAction
from gpuwarden.model.finding import Finding, Severity
from gpuwarden.model.ids import DeviceId, TenantId
from gpuwarden.model.memory import Rung
from gpuwarden.model.snapshot import Gap, GapKind, Health
from gpuwarden.model.status import View
from gpuwarden.model.tenant import Tenant, Use

TICK_LATE_S = 10.0
"""Ten times the slowest beat of the loop: an older picture is not the present."""
STYLES = {
    Severity.INFO: "",
    Severity.WARNING: "yellow",
    Severity.ERROR: "red",
    Severity.CRITICAL: "bold red",
}
_RECOVERY: Mapping[int, str] = {
    RecoveryAction.GPU_RESET: "reset",
    RecoveryAction.NODE_REBOOT: "reboot",
    RecoveryAction.DRAIN_P2P: "drain P2P",
    RecoveryAction.DRAIN_AND_RESET: "drain and reset",
    RecoveryAction.RECOVER_IMEX_DOMAIN: "IMEX recovery",
    RecoveryAction.BUS_RESET: "bus reset",
    RecoveryAction.SYSTEM_REBOOT: "system reboot",
}
_RESTING = frozenset({Rung.WATCH, Rung.DONE})


def problems(view: View, now: float) -> list[str]:
    """What is not as it should be, each thing once; empty: all is well. ``now``: monotonic seconds."""
    found = []
    if now - view.at > TICK_LATE_S:
        found.append(f"the agent has not finished a tick for {span(now - view.at)}")
    is_told = any("journal" in each for each in view.agent.degraded)
    if not view.agent.journal_ok and not is_told:
        found.append("the journal cannot be written: harm is withheld")
    if not view.agent.config_ok:
        found.append(f"the new configuration was refused: {view.agent.config_error}")
    found += [finding.summary for finding in view.findings if finding.severity >= Severity.ERROR]
    told = {finding.device for finding in view.findings if finding.rule == "sight"}
    found += [
        f"GPU {device.index} is {device.sight}"
        for device in view.snapshot.devices
        if device.sight is not Sight.OK and device.id not in told
    ]
    red = {finding.service for finding in view.findings if finding.rule == "slo"}
    found += [
        f"service {state.service} is red"
        for state in view.snapshot.services
        if state.health is Health.RED and state.service not in red
    ]
    found += [f"{gap.subject}: {gap.detail or gap.kind}" for gap in gaps(view) if _is_trouble(gap)]
    claimed = {(finding.rule, finding.tenant, finding.device) for finding in view.findings}
    found += [
        f"incident {incident.id} is open: {incident.summary}"
        for incident in view.incidents
        if incident.closed_at is None
        and (incident.rule, incident.tenant, incident.device) not in claimed
    ]
    return [*found, *view.agent.degraded]


def gaps(view: View) -> list[Gap]:
    """What cannot be seen, but for the devices, which say so themselves, and the journal's own line."""
    devices = {device.id for device in view.snapshot.devices}
    return [g for g in view.snapshot.gaps if g.subject not in devices and g.source != "journal"]


def _is_trouble(gap: Gap) -> bool:
    """What this host can never tell is no trouble; what it does not tell now is."""
    return gap.kind is not GapKind.UNSUPPORTED


def gap_table(view: View, out: Out) -> Part:
    """One row a gap."""
    columns = (Column("NOT SEEN"), Column("WHY", may_wrap=True))
    return out.table(columns, [[g.subject, g.detail or g.kind.value] for g in gaps(view)])


def header(view: View, now: float) -> list[Part]:
    """Who answers, in which mode, since when."""
    agent = view.agent
    up_s = view.snapshot.wall - agent.started_wall
    mode = Styled(agent.mode, "bold green" if agent.mode == "enforce" else "bold yellow")
    parts: list[Part] = [
        Styled(
            f"gpuwarden {agent.version}  {mode.text}  pid {agent.pid}  up {span(up_s)}", mode.style
        )
    ]
    driver = f"driver {agent.driver_version}" if agent.driver_version else "no driver seen"
    parts.append(f"{driver}  limiter {agent.limiter}  {kernel_log(agent.kernel_log)}")
    if agent.policy_version:
        until = f"until {clock(agent.policy_not_after_wall)}"
        style = "bold red" if agent.policy_expired else ""
        parts.append(Styled(f"policy {agent.policy_version} of the fleet {until}", style))
    if now - view.at > TICK_LATE_S:
        parts.append(Styled(f"no tick for {span(now - view.at)}: what follows is old", "bold red"))
    return parts


def kernel_log(source: str) -> str:
    """Where kernel lines come from, in words."""
    said = {"none": "not read", "kernel": "read"}.get(source, source)
    return f"kernel log {said}"


def gpu_table(view: View, out: Out) -> Part:
    """One row a device, slices below their GPU."""
    columns = (
        Column("GPU"),
        Column("NAME", max_width=18),
        Column("MEMORY", min_width=24),
        Column("UTIL", is_number=True),
        Column("TEMP", is_number=True),
        Column("POWER", is_number=True, from_width=76),
        Column("TENANTS", is_number=True, from_width=100),
        Column("STATE", min_width=10),
        Column("UUID", from_width=140),
    )
    holders: dict[DeviceId, int] = {}
    for use in view.snapshot.uses:
        holders[use.device] = holders.get(use.device, 0) + 1
    rows: list[list[Cell]] = []
    for device in view.snapshot.devices:
        details = view.device_details.get(device.id, {})
        is_seen = device.sight is Sight.OK
        util, temperature, power = (
            details.get(key) if is_seen else None
            for key in ("utilization_ratio", "temperature_c", "power_w")
        )
        rows.append(
            [
                str(device.index) if device.parent is None else " └" if out.is_unicode else " -",
                device.name.removeprefix("NVIDIA "),
                _memory(device, out),
                share(util) if isinstance(util, float | int) else "-",
                f"{temperature:.0f} C" if isinstance(temperature, float | int) else "-",
                f"{power:.0f} W" if isinstance(power, float | int) else "-",
                str(holders.get(device.id, 0)) if is_seen else "-",
                device_state(view, device),
                device.id,
            ]
        )
    return out.table(columns, rows)


def _memory(device: Device, out: Out) -> str:
    total = f"{device.total_bytes / 2**30:.1f} GiB"
    if device.used_bytes is None or device.sight is not Sight.OK or not device.total_bytes:
        return f"{'-' * 10} {'?':>4}/{total}"
    used = f"{device.used_bytes / 2**30:.1f}"
    drawn = bar(device.used_bytes / device.total_bytes, 10, is_unicode=out.is_unicode)
    return f"{drawn} {used:>4}/{total}"


def device_state(view: View, device: Device) -> Styled:
    """The worst that can be said of a device, in a word or two."""
    if device.sight is not Sight.OK:
        seen = f" {span(view.at - device.at)}" if device.at is not None else ""
        return Styled(f"{device.sight}{seen}", "bold red")
    if device.recovery_action:
        advice = _RECOVERY.get(device.recovery_action, f"action {device.recovery_action}")
        return Styled(f"needs {advice}", "red")
    mine = [finding for finding in view.findings if finding.device == device.id]
    if mine:
        worst = max(mine, key=lambda finding: finding.severity)
        return Styled(worst.rule, STYLES[worst.severity])
    return Styled("ok", "green")


def tenant_table(view: View, out: Out, *, limit: int | None = None) -> Part:
    """One row a tenant and device, most bytes first; tenants that hold none come last."""
    columns = (
        Column("TENANT", max_width=32),
        Column("CLASS"),
        Column("GPU", is_number=True, min_width=3),
        Column("USED", is_number=True, min_width=8),
        Column("QUOTA", is_number=True, min_width=8),
        Column("OF IT", is_number=True, min_width=5, from_width=90),
        Column("GROWTH", is_number=True, from_width=100),
        Column("STATE", min_width=16),
        Column("RUNTIME", from_width=110),
        Column("PROCS", is_number=True, from_width=110),
        Column("ID", from_width=150),
    )
    index = {device.id: str(device.index) for device in view.snapshot.devices}
    uses = sorted(view.snapshot.uses, key=lambda use: -use.used_bytes)
    by_id = {tenant.id: tenant for tenant in view.snapshot.tenants}
    pairs = [(by_id[use.tenant], use) for use in uses if use.tenant in by_id]
    holding = {use.tenant for use in uses}
    rows = [_tenant_row(view, tenant, use, index) for tenant, use in pairs]
    rows += [
        _tenant_row(view, tenant, None, index)
        for tenant in view.snapshot.tenants
        if tenant.id not in holding
    ]
    return out.table(columns, rows[:limit])


def _tenant_row(
    view: View, tenant: Tenant, use: Use | None, index: dict[DeviceId, str]
) -> list[Cell]:
    """``>``: some of its processes' sizes are withheld by the driver, it holds more than that."""
    quota = tenant.hard_bytes if tenant.hard_bytes is not None else tenant.soft_bytes
    used = use.used_bytes if use is not None else None
    is_over = used is not None and quota is not None and used > quota
    part = used / quota if used is not None and quota else None
    at_least = ">" if use is not None and use.unknown_rows else ""
    growth = f"{size(use.growth_bytes_s)}/s" if use is not None and use.growth_bytes_s else "-"
    state = tenant_state(view, tenant, is_over=is_over)
    if use is not None and not is_seen(view, use):
        used, part, is_over, growth, at_least = None, None, False, "-", ""
        state = Styled(f"not seen {span(view.at - use.listed_at)}", "yellow")
    return [
        tenant.name or tenant.id,
        tenant.cls.label,
        index.get(use.device, "?") if use is not None else "-",
        Styled(f"{at_least}{size(used)}", "red" if is_over else ""),
        size(quota) if quota is not None else "none",
        Styled(share(part), "red" if is_over else ""),
        growth,
        state,
        tenant.runtime,
        str(len(tenant.pids)),
        tenant.id,
    ]


def is_seen(view: View, use: Use) -> bool:
    """Whether its device is seen: an old size is not told as if it were the present one."""
    return any(d.id == use.device and d.sight is Sight.OK for d in view.snapshot.devices)


def tenant_state(view: View, tenant: Tenant, *, is_over: bool) -> Styled:
    """Where a tenant stands, in a word or two."""
    for case in view.cases:
        if case.tenant == tenant.id and case.rung not in _RESTING:
            return Styled(f"{case.rung} {span(view.at - case.since)}", "bold red")
    if is_over:
        return Styled("over quota", "red")
    if not tenant.is_described:
        return Styled("no labels yet", "yellow")
    if tenant.policy_faults:
        return Styled("bad label", "yellow")
    if tenant.is_paused:
        return Styled("paused", "yellow")
    return Styled("ok", "green")


def service_table(view: View, out: Out) -> Part:
    """One row a protected service."""
    columns = (
        Column("SERVICE", max_width=32),
        Column("STATE"),
        Column("FOR", is_number=True),
        Column("P99", is_number=True),
        Column("LIMIT", is_number=True),
    )
    styles = {Health.GREEN: "green", Health.RED: "bold red", Health.UNKNOWN: "yellow"}
    rows: list[list[Cell]] = [
        [
            state.service,
            Styled(state.health, styles[state.health]),
            span(view.at - state.since),
            "-" if state.p99_s is None else span(state.p99_s),
            "-" if state.limit_s is None else span(state.limit_s),
        ]
        for state in view.snapshot.services
    ]
    return out.table(columns, rows)


def oncall_table(view: View, out: Out) -> Part:
    """One row a sink: whether people can be told."""
    columns = (
        Column("ON-CALL"),
        Column("KIND", from_width=100),
        Column("STATE"),
        Column("WAITING", is_number=True),
        Column("LAST TAKEN", is_number=True),
        Column("WHAT IT SAID", may_wrap=True),
    )
    wall = view.snapshot.wall
    rows: list[list[Cell]] = [
        [
            sink.name,
            sink.kind,
            Styled("not used yet", "")
            if sink.ok_wall is None and sink.failing_wall is None
            else Styled("ok", "green")
            if sink.failing_wall is None
            else Styled(f"fails for {span(wall - sink.failing_wall)}", "bold red"),
            str(sink.due),
            "-" if sink.ok_wall is None else f"{span(wall - sink.ok_wall)} ago",
            sink.detail,
        ]
        for sink in view.oncall.sinks
    ]
    return out.table(columns, rows)


def finding_table(findings: Sequence[Finding], out: Out) -> Part:
    """One row a finding, worst first."""
    columns = (Column("SEVERITY"), Column("RULE"), Column("FINDING", may_wrap=True))
    worst_first = sorted(findings, key=lambda finding: -finding.severity)
    return out.table(
        columns,
        [
            [
                Styled(finding.severity.name.lower(), STYLES[finding.severity]),
                finding.rule,
                finding.summary,
            ]
            for finding in worst_first
        ],
    )


def incident_table(incidents: Sequence[Incident], out: Out) -> Part:
    """One row an incident, newest first as they come."""
    columns = (
        Column("INCIDENT"),
        Column("OPENED", min_width=14),
        Column("LASTED", is_number=True, min_width=6),
        Column("OUTCOME", may_wrap=True, max_width=16),
        Column("TENANT", from_width=100, max_width=24),
        Column("SUMMARY", may_wrap=True),
    )
    return out.table(
        columns,
        [
            [
                incident.id,
                clock(incident.opened_wall, has_year=False),
                _lasted(incident),
                Styled(incident.outcome, "bold red" if incident.closed_at is None else ""),
                incident.tenant_name or "-",
                incident.summary,
            ]
            for incident in incidents
        ],
    )


def _lasted(incident: Incident) -> str:
    """By the monotonic clock of one boot; an incident that is open has not lasted yet."""
    return "-" if incident.closed_at is None else span(incident.closed_at - incident.opened_at)


def tenant_names(view: View) -> dict[TenantId, str]:
    """What people call each tenant."""
    return {tenant.id: tenant.name or tenant.id for tenant in view.snapshot.tenants}
