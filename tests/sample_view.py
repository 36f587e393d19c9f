"""A node in the middle of an incident, as readers get it: eight devices, one of them blind, a hog."""

from dataclasses import replace

from gpuwarden.model.action import Kind, Outcome, Result, Target, Withheld
from gpuwarden.model.decision import Incident, IncidentStep
from gpuwarden.model.device import Device, DriverEvent, Sight
from gpuwarden.model.finding import Finding, Severity
from gpuwarden.model.ids import CgroupId, DeviceId, IncidentId, Pid, TenantId
from gpuwarden.model.memory import Case, Debt, Rung, Tombstone
from gpuwarden.model.snapshot import (
    Gap,
    GapKind,
    Health,
    HostSample,
    LimitReading,
    ServiceState,
    Snapshot,
)
from gpuwarden.model.status import AgentInfo, View
from gpuwarden.model.tenant import HostLimits, Tenant, TenantClass, Use

GIB = 2**30
AT = 5_000.0
WALL = 1_770_000_000.0
INCIDENT = IncidentId("inc-0b1f3c2a-7")
HOG = TenantId("docker:" + "c0ffee" * 10 + "beef")
RISK = TenantId("docker:" + "ab" * 32)
JOB = TenantId("slurm:4711")


def device_id(number: int) -> DeviceId:
    return DeviceId(f"GPU-{number:08x}-1111-2222-3333-444455556666")


def devices() -> tuple[Device, ...]:
    healthy = [
        Device(
            id=device_id(number),
            index=number,
            name="NVIDIA A100-SXM4-40GB",
            total_bytes=40 * GIB,
            reserved_bytes=GIB // 2,
            used_bytes=(37 * GIB if number == 0 else number * GIB),
            at=AT - 0.05,
            listed_at=AT - 0.3,
            pci=f"00000000:{number + 16:02X}:00.0",
            recovery_action=0,
        )
        for number in range(8)
    ]
    healthy[3] = replace(healthy[3], sight=Sight.BLIND, used_bytes=None, at=AT - 42.0)
    healthy[5] = replace(healthy[5], recovery_action=1)
    return tuple(healthy)


def tenants() -> tuple[Tenant, ...]:
    hog = Tenant(
        id=HOG,
        runtime="docker",
        name="batch-embed-nightly",
        cls=TenantClass.LOW,
        soft_bytes=8 * GIB,
        hard_bytes=8 * GIB,
        grace_s=1.0,
        owner_key="compose:batch/embed",
        cgroup=CgroupId(path="/docker/c0ffee", inode=4711, hierarchy="freezer"),
        pids=(Pid(pid=4242, start=99), Pid(pid=4243, start=100)),
        first_seen=AT - 300,
        restart_policy="always",
    )
    risk = Tenant(
        id=RISK,
        runtime="docker",
        name="risk-control",
        cls=TenantClass.PROTECTED,
        soft_bytes=12 * GIB,
        hard_bytes=12 * GIB,
        host=HostLimits(memory_bytes=32 * GIB, cpu_cores=4.0),
        service="risk",
        owner_key="compose:trading/risk",
        pids=(Pid(pid=4000, start=7),),
        first_seen=AT - 90_000,
    )
    job = Tenant(
        id=JOB,
        runtime="slurm",
        name="train\x1b[2J-\u202egnp.exe",
        cls=TenantClass.NORMAL,
        soft_bytes=30 * GIB,
        hard_bytes=30 * GIB,
        pids=tuple(Pid(pid=5000 + number, start=number) for number in range(12)),
        first_seen=AT - 4_000,
        policy_faults=('label gpuwarden.memory: expected a size such as 8GiB, got "lots"',),
    )
    return (hog, risk, job)


def incident() -> Incident:
    """The one of the design's first page: noticed, decided, held, ended, bytes back."""
    opened = AT - 2.0
    sizes = [6, 7, 8, 11, 16, 23, 29, 29, 29, 12, 0, 0]
    steps = (
        (0.00, "opened", "hard overrun of batch-embed-nightly on GPU 0", "", ""),
        (0.11, "decided", "confirmed by a second list: 16.0 GiB of 8.0 GiB", "", ""),
        (0.12, "restart-off", "restart policy always -> no", "done", "act-1"),
        (0.14, "freeze", "hold while its neighbour is harmed", "done", "act-2"),
        (0.20, "term", "SIGTERM to 2 processes", "done", "act-3"),
        (0.31, "withheld", "kill withheld: train is within its quota", "", "within_quota"),
        (1.21, "kill", "cgroup.kill: 1 process hit", "done", "act-4"),
        (1.62, "closed", "the group is empty and 29.0 GiB are back", "", ""),
    )
    return Incident(
        id=INCIDENT,
        rule="quota",
        summary="batch-embed-nightly held 29.0 GiB of its 8.0 GiB on GPU 0 while risk was red",
        opened_at=opened,
        opened_wall=WALL - 2.0,
        tenant=HOG,
        tenant_name="batch-embed-nightly",
        tenant_class="low",
        runtime="docker",
        device=device_id(0),
        quota_bytes=8 * GIB,
        peak_bytes=29 * GIB,
        noticed_at=opened + 0.04,
        decided_at=opened + 0.11,
        closed_at=opened + 1.62,
        closed_wall=WALL - 0.38,
        outcome="evicted",
        mode="enforce",
        kernel_log="simulated",
        advice=(
            "Raise gpuwarden.memory of batch/embed to 32GiB if the size is right, or cap its batch.",
            "Its restart policy is owed back: gpuwarden gives it back in 10 min.",
        ),
        harmed=("risk",),
        evidence=(
            ("image", "registry.example/batch/embed:7"),
            ("user", "alice"),
            ("owner", "compose:batch/embed"),
            ("pids", "4242, 4250"),
            ("used", "16.0 GiB by the list at +0.04 s"),
            ("xid", "13 on GPU 0 (pid 4242)"),
            ("slo", "risk p99 1.02 s of 0.50 s"),
        ),
        points=tuple(
            (opened - 0.6 + number * 0.2, size * GIB) for number, size in enumerate(sizes)
        ),
        steps=tuple(
            IncidentStep(
                at=opened + after,
                wall=WALL - 2.0 + after,
                kind=kind,
                text=text,
                result=result,
                action=action,
            )
            for after, kind, text, result, action in steps
        ),
    )


def open_incident() -> Incident:
    return Incident(
        id=IncidentId("inc-0b1f3c2a-9"),
        rule="sight",
        summary="GPU 3 has not answered for 42 s: nvmlDeviceGetMemoryInfo_v2 hangs",
        opened_at=AT - 41.5,
        opened_wall=WALL - 41.5,
        device=device_id(3),
        mode="enforce",
        kernel_log="simulated",
        advice=("Look for Xid lines of GPU 3 in the kernel log.",),
        steps=(
            IncidentStep(at=AT - 41.5, wall=WALL - 41.5, kind="opened", text="GPU 3 went blind"),
        ),
    )


def snapshot() -> Snapshot:
    return Snapshot(
        at=AT,
        wall=WALL,
        boot_id="boot-1",
        devices=devices(),
        tenants=tenants(),
        uses=(
            Use(
                tenant=HOG,
                device=device_id(0),
                used_bytes=23 * GIB,
                listed_at=AT - 0.3,
                growth_bytes_s=9.5 * GIB,
            ),
            Use(tenant=RISK, device=device_id(0), used_bytes=11 * GIB, listed_at=AT - 0.3),
            Use(tenant=JOB, device=device_id(1), used_bytes=GIB, listed_at=AT - 0.3),
            Use(
                tenant=JOB,
                device=device_id(2),
                used_bytes=2 * GIB,
                listed_at=AT - 0.3,
                unknown_rows=1,
            ),
        ),
        events=(DriverEvent(kind="xid", at=AT - 1.9, device=device_id(0), code=13, pid=4242),),
        services=(
            ServiceState(
                service="risk",
                tenant=RISK,
                health=Health.RED,
                since=AT - 1.5,
                p99_s=1.02,
                limit_s=0.5,
                at=AT - 0.1,
            ),
        ),
        host=HostSample(
            at=AT - 2.0,
            cpu_ratio=0.37,
            memory_total_bytes=512 * GIB,
            memory_available_bytes=300 * GIB,
            swap_used_bytes=0,
            disk_read_bytes_total=123,
            disk_write_bytes_total=456,
            network_receive_bytes_total=789,
            network_transmit_bytes_total=1011,
            filesystem_free_ratio=0.42,
            memory_full_avg10=1.5,
            memory_some_avg10=2.25,
            cpu_some_avg10=10.0,
            io_full_avg10=0.0,
        ),
        limits=(
            LimitReading(
                tenant=RISK,
                device=device_id(0),
                hard_bytes=12 * GIB,
                used_bytes=11 * GIB,
                backend="nvml-memory-limits",
            ),
        ),
        limiter="nvml-memory-limits",
        gaps=(
            Gap(
                source="nvml",
                subject=device_id(3),
                kind=GapKind.HUNG,
                detail="nvmlDeviceGetMemoryInfo_v2 since 42 s",
            ),
            Gap(source="docker", subject="/var/run/docker.sock", kind=GapKind.UNAVAILABLE),
        ),
        unattributed=((device_id(0), 3 * GIB),),
    )


def view(serial: int = 1, *, at: float = AT) -> View:
    """The picture; ``at`` moves the tick only (its samples keep their times)."""
    case = Case(
        incident=INCIDENT,
        tenant=HOG,
        device=device_id(0),
        rung=Rung.TERMED,
        since=AT - 1.0,
        opened_at=AT - 2.0,
        reason="quota-hard",
        is_emergency=True,
        target=Target(tenant=HOG, runtime="docker", pids=(Pid(pid=4242, start=99),), name="hog"),
        grace_s=1.0,
        bytes_at_open=16 * GIB,
        limit_bytes=8 * GIB,
        frozen_since=AT - 1.2,
    )
    return View(
        serial=serial,
        at=at,
        agent=AgentInfo(
            version="0.1.0",
            pid=321,
            mode="enforce",
            started_wall=WALL - 3_600,
            boot_id="boot-1",
            config_loaded_wall=WALL - 3_600,
            kernel_log="simulated",
            limiter="nvml-memory-limits",
            driver_version="560.35.03",
            nvml_version="12.560.35.03",
            degraded=("docker: unavailable",),
        ),
        snapshot=replace(snapshot(), at=at),
        findings=(
            Finding(
                rule="quota",
                key="quota/hog",
                severity=Severity.CRITICAL,
                summary="batch-embed-nightly: 23.0 GiB of 8.0 GiB on GPU 0",
                tenant=HOG,
                device=device_id(0),
                used_bytes=23 * GIB,
                limit_bytes=8 * GIB,
            ),
            Finding(
                rule="sight",
                key="sight/3",
                severity=Severity.ERROR,
                summary="GPU 3 has not answered for 42 s",
                device=device_id(3),
            ),
            Finding(
                rule="labels",
                key="labels/train",
                severity=Severity.WARNING,
                summary="train claims what it may not",
                tenant=JOB,
            ),
        ),
        withheld=(
            Withheld(
                kind=Kind.KILL,
                incident=INCIDENT,
                tenant=JOB,
                device=device_id(0),
                budget="one_per_device",
                detail="an eviction is in flight",
            ),
        ),
        cases=(case,),
        debts=(
            Debt(
                tenant=HOG,
                kind=Kind.RESTART_BACK,
                target=case.target,
                incident=INCIDENT,
                old=(("restart_policy", "always"),),
                since_wall=WALL - 1.9,
                due_wall=WALL + 600,
            ),
        ),
        tombstones=(Tombstone(owner_key="compose:batch/embed", evicted_wall=(WALL - 0.4,)),),
        incidents=(incident(), open_incident()),
        outcomes=(
            Outcome(
                action="act-3",
                kind=Kind.TERM,
                incident=INCIDENT,
                tenant=HOG,
                device=device_id(0),
                result=Result.DONE,
                at=AT - 1.8,
                wall=WALL - 1.8,
                detail="2 processes",
            ),
        ),
        device_details={
            device_id(0): {
                "temperature_c": 61.0,
                "power_w": 312.5,
                "utilization_ratio": 0.97,
                "fan_ratio": 0.4,
                "serial": 'S"1\\\n',
                "clock_event_mask": 4.0,
                "encoder_ratio": None,
            },
            device_id(3): {"temperature_c": 55.0},
        },
        counters={
            ("ticks", ""): 36_000,
            ("xid_events", f"{device_id(0)}/13"): 2,
            ("actions", "term/done"): 1,
            ("made_up_elsewhere", "x"): 5,
        },
        durations={
            "tick_wall_s": 0.0004,
            "rss_bytes": 41_000_000.0,
            "cpu_s_total": 12.5,
        },
    )
