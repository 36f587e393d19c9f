"""Rule arrival: a container that has started on a cordoned device is stopped; whoever was there before stays.

Docker asks nobody before it starts a container, so its start is answered: what it was given tells, whether or
not it has used any of it.
"""

from dataclasses import replace

from gpuwarden.config import Config
from gpuwarden.model.action import Kind, Withheld
from gpuwarden.model.device import Device
from gpuwarden.model.finding import Finding, Severity
from gpuwarden.model.memory import IN_FLIGHT, DeviceMemory, Memory, Rung
from gpuwarden.model.snapshot import Guest
from gpuwarden.policy import cordon, guard, ladder
from gpuwarden.policy.desk import Desk
from gpuwarden.policy.evict import holdings, new_case
from gpuwarden.policy.scene import Scene

RULE = "arrival"
SETTLE_S = 1.0
"""Started within this after the cordon began, by two clocks that are read apart: it was there before."""


def find(cfg: Config, memory: Memory, scene: Scene) -> list[Finding]:
    """One finding a container that started on a device, or a node, which was cordoned by then."""
    cordons = cordon.standing(memory.devices)
    if not (cfg.cordon.refuse_containers and cordons and scene.snap.guests):
        return []
    findings = []
    for guest in scene.snap.guests:
        for device in scene.snap.devices:
            state = cordons.get(device.id) or cordons.get(cordon.NODE_ITSELF)
            if state is None or device.parent is not None:
                continue
            if _has_come_after(guest, state) and is_given(guest, device):
                findings.append(_finding(guest, device, state))
                break
    return findings


def _has_come_after(guest: Guest, state: DeviceMemory) -> bool:
    started = guest.tenant.started_wall
    return started is not None and started > state.cordoned_wall + SETTLE_S


def is_given(guest: Guest, device: Device) -> bool:
    """Whether a device is among those the container was given: by no restriction, index, UUID or CDI name;
    a slice is of the device it is cut from."""
    for word in guest.devices:
        # nvidia.com/gpu=0, nvidia.com/gpu=all, GPU-5693d3e0-..., 0, 0:1 (the second slice of the first)
        name = word.rpartition("=")[2]
        if name == "all" or name.startswith("MIG-"):
            return True
        if name.partition(":")[0] == str(device.index) or (
            len(name) >= 8 and device.id.startswith(name)
        ):
            return True
    return False


def _finding(guest: Guest, device: Device, state: DeviceMemory) -> Finding:
    tenant = guest.tenant
    return Finding(
        rule=RULE,
        key=f"{RULE} {tenant.id}",
        severity=Severity.WARNING,
        summary=(
            f"{tenant.name} has started on GPU {device.index}, which is cordoned ({state.cordoned_by})"
        ),
        tenant=tenant.id,
        device=device.id,
        evidence=(("given", ", ".join(guest.devices)[:200]),),
    )


def turn_away(desk: Desk, findings: list[Finding]) -> None:
    """Stop each tenant that has come where it must not, in its runtime, with its grace; what is withheld is
    said once."""
    for finding in findings:
        if finding.tenant is None or finding.device is None:
            continue
        tenant = desk.scene.tenants[finding.tenant]
        case = desk.cases.get(tenant.id)
        is_over = case is not None and case.rung in (*IN_FLIGHT, Rung.STUCK)
        if is_over or not tenant.is_described:
            continue
        uses = desk.scene.uses_of(tenant.id)
        case = case or new_case(desk, tenant, finding, finding.rule, is_emergency=False)
        stopped = replace(
            ladder.enter(case, Rung.STOPPED, desk.scene.snap.at),
            reason=finding.rule,
            **holdings(desk, finding.device, uses),
            began_at=desk.scene.snap.at,
        )
        refusal = guard.permit(desk.cfg, desk.memory, desk.scene, stopped, Kind.STOP, desk.busy())
        if refusal is not None:
            if finding.key not in desk.memory.claims:
                desk.withheld.append(
                    Withheld(
                        kind=Kind.STOP,
                        incident=case.incident,
                        tenant=tenant.id,
                        device=finding.device,
                        budget=refusal.budget,
                        detail=refusal.detail,
                    )
                )
            continue
        desk.cases[tenant.id] = stopped
        desk.order(
            Kind.STOP,
            stopped.incident,
            finding.summary,
            target=stopped.target,
            device=stopped.device,
            params=(("grace_s", f"{stopped.grace_s:.3f}"),),
        )
