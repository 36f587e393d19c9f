"""The metrics page of a view: devices, tenants, services, host, findings, the agent itself.

What could not be seen is absent, never repeated: the gauges of a blind or lost device disappear while its
sight and the age of its last sample stay; when the loop itself has not finished a tick for
``STALE_AFTER_S`` every gauge of the world disappears and every device counts as blind.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from gpuwarden.adapters.device_facts import BY_KEY, REASONS, TEXTS
from gpuwarden.adapters.exposition import PREFIX, Page, Remembered, labels, number
from gpuwarden.adapters.metrics_agent import add_agent
from gpuwarden.adapters.metrics_processes import add_processes
from gpuwarden.adapters.metrics_tenants import add_tenants
from gpuwarden.model.device import Device, Sight
from gpuwarden.model.finding import Severity
from gpuwarden.model.ids import DeviceId
from gpuwarden.model.service import ProbeReading
from gpuwarden.model.snapshot import Health, HostSample, ServiceState
from gpuwarden.model.status import View

STALE_AFTER_S = 10.0
"""Ten times the slowest fast loop (DESIGN 4.3: 1 s)."""
_UNSEEN = {Sight.BLIND: "blind", Sight.LOST: "lost"}
_SIGHTS = tuple(sight.value for sight in Sight)
_HEALTHS = tuple(health.value for health in Health)
_HEALTH_STATES = ("healthy", "warning", "critical", "blind", "lost")


@dataclass(frozen=True, slots=True, kw_only=True)
class PageOptions:
    """``process_top``: how many processes a device get series of their own; 0 is none."""

    process_top: int = 0


def render(view: View, *, now: float, options: PageOptions, remembered: Remembered) -> bytes:
    """The page as of ``now`` (monotonic seconds on the view's clock).

    ``remembered`` is kept by the caller from page to page.
    """
    page = Page()
    is_fresh = now - view.at <= STALE_AFTER_S
    add_agent(page, view, now=now)
    said = {
        device.id: labels((("gpu", str(device.index)), ("uuid", device.id)))
        for device in view.snapshot.devices
    }
    seen: dict[DeviceId, str] = {}
    pids: set[str] = set()
    health = _health(view)
    unattributed = dict(view.snapshot.unattributed)
    for device in view.snapshot.devices:
        mine = said[device.id]
        details = view.device_details.get(device.id, {})
        sight = device.sight if is_fresh else Sight.BLIND
        _add_identity(page, device, details, mine)
        page.family("gpu_sight", "gauge", "Whether the device can be seen.").states(
            mine, _SIGHTS, sight
        )
        page.family("gpu_health_state", "gauge", "Verdict on the device.").states(
            mine, _HEALTH_STATES, _UNSEEN.get(sight) or health.get(device.id, "healthy")
        )
        if _add_age(page, view, device, mine, now=now) and sight is Sight.OK:
            seen[device.id] = mine
            _add_memory(page, device, unattributed.get(device.id), mine)
            largest = _largest_processes(details, options.process_top)
            _add_facts(page, details, mine, largest, remembered)
            pids |= largest
    if is_fresh:
        add_tenants(page, view, seen, remembered)
        add_processes(page, view, pids)
        for state in view.snapshot.services:
            _add_service(page, state, now=now)
        for reading in view.snapshot.probes:
            _add_probe(page, reading, now=now)
        if view.snapshot.host is not None:
            _add_host(page, view.snapshot.host, now=now)
    return page.render()


def _add_age(page: Page, view: View, device: Device, mine: str, *, now: float) -> bool:
    """How old what is known of a device is; whether it is young enough to be told."""
    if device.at is None:
        return False
    age_s = max(0.0, now - device.at)
    page.gauge("device_sample_age_seconds", "Age of the newest memory sample.", age_s, mine)
    when = page.family(
        "collector_last_success_timestamp_seconds", "gauge", "When it was last read, by what."
    )
    since_boot = view.snapshot.wall - view.snapshot.at
    when.add(f'{mine},collector="memory"', since_boot + device.at)
    if device.listed_at is not None:
        when.add(f'{mine},collector="processes"', since_boot + device.listed_at)
    for key, at in view.device_details.get(device.id, {}).items():
        if key.startswith("collected_at:") and isinstance(at, float):
            when.add(f'{mine},collector="{key.partition(":")[2]}"', since_boot + at)
    return age_s <= STALE_AFTER_S


def _add_identity(
    page: Page, device: Device, details: Mapping[str, float | str | None], mine: str
) -> None:
    if device.parent is not None:
        info = labels((("parent", device.parent), ("model", device.name)))
        page.gauge("gpu_mig_info", "A MIG slice and the GPU it is cut from.", 1, f"{mine},{info}")
        return
    pairs = [("model", device.name), ("pci_bus_id", device.pci or "")]
    pairs += [(key, text) for key in TEXTS if isinstance(text := details.get(key), str)]
    page.gauge("gpu_info", "Identity of a device.", 1, f"{mine},{labels(pairs)}")
    page.gauge(
        "gpu_recovery_action",
        "What the driver advises: 0 none, 1 reset, 2 reboot, 3 drain P2P, 4 drain and reset.",
        device.recovery_action,
        mine,
    )


def _add_memory(page: Page, device: Device, unattributed_bytes: int | None, mine: str) -> None:
    used = device.used_bytes
    if device.parent is not None:
        sizes = page.family("gpu_mig_memory_bytes", "gauge", "Memory of a MIG slice.")
        sizes.add(f'{mine},state="total"', device.total_bytes)
        if used is not None:
            sizes.add(f'{mine},state="used"', used)
        return
    total, reserved = device.total_bytes, device.reserved_bytes
    page.gauge("gpu_memory_total_bytes", "Device memory.", total, mine)
    page.gauge("gpu_memory_reserved_bytes", "Memory the driver keeps.", reserved, mine)
    if used is not None:
        page.gauge("gpu_memory_used_bytes", "Memory in use, reserved excluded.", used, mine)
        free = max(0, total - reserved - used)
        page.gauge("gpu_memory_free_bytes", "Memory that can be allocated.", free, mine)
    page.gauge(
        "gpu_memory_unattributed_bytes",
        "Memory in use that no listed process holds.",
        unattributed_bytes,
        mine,
    )


def _add_facts(
    page: Page,
    details: Mapping[str, float | str | None],
    mine: str,
    pids: frozenset[str],
    remembered: Remembered,
) -> None:
    for key, value in details.items():
        if isinstance(value, str) or value is None or (text := number(value)) is None:
            continue
        known = remembered.get(mine, key)
        if known is None:
            known = _prefixes(mine, key)
            if known is None:
                continue
            remembered.keep(mine, key, known)
        if key.startswith("process_") and key.partition(":")[2] not in pids:
            continue
        metric, kind, help_text, *prefixes = known
        lines = page.family(metric, kind, help_text).lines
        if len(prefixes) == 1:
            lines.append(f"{prefixes[0]}{text}\n")
        else:
            mask = int(value)
            lines.extend(
                f"{prefix}{'1' if mask & bit else '0'}\n"
                for prefix, (bit, _) in zip(prefixes, REASONS, strict=True)
            )


def _largest_processes(details: Mapping[str, float | str | None], top: int) -> frozenset[str]:
    if top <= 0:
        return frozenset()
    sizes = [
        (value, key.partition(":")[2])
        for key, value in details.items()
        if key.startswith("process_memory_bytes:") and isinstance(value, float | int)
    ]
    return frozenset(pid for _, pid in sorted(sizes, reverse=True)[:top])


def _prefixes(mine: str, key: str) -> tuple[str, ...] | None:
    """Metric, kind, help, and the text before each value; ``None`` for a key in no table."""
    name, _, label_value = key.partition(":")
    fact = BY_KEY.get(name)
    if fact is None:
        return None
    said = mine
    if fact.labels:
        said += f",{labels(fact.labels)}"
    if fact.varying is not None:
        said += f",{labels(((fact.varying, label_value),))}"
    name = f"{PREFIX}{fact.metric}"
    reasons = [f'{name}{{{said},reason="{reason}"}} ' for _, reason in fact.bits]
    return (fact.metric, fact.kind, fact.help, *(reasons or [f"{name}{{{said}}} "]))


def _health(view: View) -> dict[DeviceId, str]:
    """By the worst that is said of a device: its findings, and the driver's own advice."""
    worst = {
        device.id: Severity.ERROR for device in view.snapshot.devices if device.recovery_action
    }
    for finding in view.findings:
        if finding.device is not None:
            worst[finding.device] = max(finding.severity, worst.get(finding.device, Severity.INFO))
    verdicts = {}
    for device, severity in worst.items():
        if severity >= Severity.ERROR:
            verdicts[device] = "critical"
        elif severity is Severity.WARNING:
            verdicts[device] = "warning"
    return verdicts


def _add_probe(page: Page, reading: ProbeReading, *, now: float) -> None:
    mine = labels((("service", reading.service),))
    failures = None if reading.is_well is None else reading.failures
    page.gauge("service_probe_failures", "Failures of its health probe in a row.", failures, mine)
    if reading.at is not None:
        age_s = max(0.0, now - reading.at)
        page.gauge("service_probe_age_seconds", "Age of the newest answer.", age_s, mine)


def _add_service(page: Page, state: ServiceState, *, now: float) -> None:
    mine = labels((("service", state.service),))
    page.family("service_state", "gauge", "Whether the objective is met.").states(
        mine, _HEALTHS, state.health
    )
    page.gauge("service_p99_seconds", "99th percentile over the window.", state.p99_s, mine)
    page.gauge("service_p99_max_seconds", "The objective.", state.limit_s, mine)
    if state.at is not None:
        age_s = max(0.0, now - state.at)
        page.gauge("service_sample_age_seconds", "Age of the newest scrape.", age_s, mine)


def _add_host(page: Page, host: HostSample, *, now: float) -> None:
    rows: tuple[tuple[str, str, str, float | None], ...] = (
        ("host_cpu_ratio", "gauge", "Busy share of all CPUs.", host.cpu_ratio),
        ("host_memory_total_bytes", "gauge", "Host memory.", host.memory_total_bytes),
        (
            "host_memory_available_bytes",
            "gauge",
            "Host memory that can be had without swapping.",
            host.memory_available_bytes,
        ),
        ("host_swap_used_bytes", "gauge", "Swap in use.", host.swap_used_bytes),
        (
            "host_filesystem_free_ratio",
            "gauge",
            "Free share of the filesystem that holds the state.",
            host.filesystem_free_ratio,
        ),
        ("host_disk_read_bytes_total", "counter", "Read from disks.", host.disk_read_bytes_total),
        (
            "host_disk_written_bytes_total",
            "counter",
            "Written to disks.",
            host.disk_write_bytes_total,
        ),
        (
            "host_network_receive_bytes_total",
            "counter",
            "Received, loopback excluded.",
            host.network_receive_bytes_total,
        ),
        (
            "host_network_transmit_bytes_total",
            "counter",
            "Sent, loopback excluded.",
            host.network_transmit_bytes_total,
        ),
        ("host_sample_age_seconds", "gauge", "Age of these numbers.", max(0.0, now - host.at)),
    )
    for metric, kind, help_text, value in rows:
        if value is not None:
            page.family(metric, kind, help_text).add("", value)
    pressure = page.family(
        "host_pressure_ratio", "gauge", "Share of the last 10 s in which tasks stalled (PSI)."
    )
    for resource, share, percent in (
        ("memory", "full", host.memory_full_avg10),
        ("memory", "some", host.memory_some_avg10),
        ("cpu", "some", host.cpu_some_avg10),
        ("io", "full", host.io_full_avg10),
    ):
        if percent is not None:
            pressure.add(f'resource="{resource}",share="{share}"', percent / 100)
