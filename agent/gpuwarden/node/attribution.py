"""Whose bytes are these: rows of process lists become uses of tenants."""

from collections.abc import Callable
from dataclasses import dataclass, field

from gpuwarden.model.device import Device, Listing, ProcessUse
from gpuwarden.model.ids import DeviceId, Pid, TenantId
from gpuwarden.model.owner import ProcessFacts
from gpuwarden.model.tenant import Use
from gpuwarden.ports import Processes

MAX_HISTORY = 4096
MAX_POINTS = 64


@dataclass(slots=True)
class Row:
    """One row with its owner; ``misses`` counts lists in a row that left it out while it lived."""

    pid: Pid | None
    raw_pid: int
    used_bytes: int | None
    tenant: TenantId
    misses: int = 0


@dataclass(slots=True)
class Attribution:
    """Keeps who held what by the last list of every device. The loop's thread only."""

    processes: Processes
    tenant_of: Callable[[ProcessFacts], TenantId]
    growth_window_s: float
    rows: dict[DeviceId, dict[int, Row]] = field(default_factory=dict)
    listed_at: dict[DeviceId, float] = field(default_factory=dict)
    unattributed: dict[DeviceId, int] = field(default_factory=dict)
    facts_of: dict[TenantId, ProcessFacts] = field(default_factory=dict)
    history: dict[int, tuple[Pid, TenantId]] = field(default_factory=dict)
    """Who a pid was when last seen: bytes may stay listed under a dead pid."""
    traces: dict[tuple[TenantId, DeviceId], list[tuple[float, int]]] = field(default_factory=dict)
    _uses: tuple[Use, ...] | None = None

    def take(self, listing: Listing) -> bool:
        """Fold one list in; False when it was known already."""
        if listing.at <= self.listed_at.get(listing.device, -1.0):
            return False
        old = self.rows.get(listing.device, {})
        rows: dict[int, Row] = {}
        known_bytes = 0
        is_complete = True
        for entry in listing.rows:
            known_bytes += entry.used_bytes or 0
            is_complete &= entry.used_bytes is not None
            row = self._row(entry)
            if row is not None:
                rows[entry.raw_pid] = row
        for raw_pid, row in old.items():
            # The driver's list is known to leave a live process out now and then: absence counts
            # only the second time, or once the process itself has gone.
            if raw_pid in rows or row.pid is None or row.misses > 0:
                continue
            if self.processes.is_alive(row.pid):
                rows[raw_pid] = Row(
                    pid=row.pid,
                    raw_pid=raw_pid,
                    used_bytes=row.used_bytes,
                    tenant=row.tenant,
                    misses=row.misses + 1,
                )
                known_bytes += row.used_bytes or 0
        self._uses = None
        self.rows[listing.device] = rows
        self.listed_at[listing.device] = listing.at
        if is_complete:
            self.unattributed[listing.device] = max(0, listing.used_bytes - known_bytes)
        else:
            self.unattributed.pop(listing.device, None)
        self._trace(listing)
        return True

    def _row(self, entry: ProcessUse) -> Row | None:
        """The row's owner; a pid that is gone keeps the tenant it was last seen as."""
        facts = self.processes.facts(entry.raw_pid)
        if facts is None:
            last = self.history.get(entry.raw_pid)
            if last is None:
                return None
            return Row(
                pid=last[0], raw_pid=entry.raw_pid, used_bytes=entry.used_bytes, tenant=last[1]
            )
        tenant = self.tenant_of(facts)
        self.facts_of[tenant] = facts
        self.history[entry.raw_pid] = (facts.pid, tenant)
        if len(self.history) > MAX_HISTORY:
            self.history.pop(next(iter(self.history)))
        return Row(pid=facts.pid, raw_pid=entry.raw_pid, used_bytes=entry.used_bytes, tenant=tenant)

    def _trace(self, listing: Listing) -> None:
        sizes: dict[TenantId, int] = {}
        for row in self.rows[listing.device].values():
            sizes[row.tenant] = sizes.get(row.tenant, 0) + (row.used_bytes or 0)
        for key in [k for k in self.traces if k[1] == listing.device and k[0] not in sizes]:
            del self.traces[key]
        for tenant, size in sizes.items():
            points = self.traces.setdefault((tenant, listing.device), [])
            points.append((listing.at, size))
            start = listing.at - self.growth_window_s
            while len(points) > MAX_POINTS or (len(points) > 2 and points[1][0] < start):
                points.pop(0)

    def keep_only(self, devices: list[Device]) -> None:
        """Forget devices that are no more."""
        known = {d.id for d in devices}
        for device in [d for d in self.rows if d not in known]:
            self._uses = None
            self.rows.pop(device, None)
            self.listed_at.pop(device, None)
            self.unattributed.pop(device, None)
        holding = {r.tenant for rows in self.rows.values() for r in rows.values()}
        for tenant in [t for t in self.facts_of if t not in holding]:
            del self.facts_of[tenant]

    def uses(self) -> tuple[Use, ...]:
        """One use a tenant and device, by the newest lists."""
        if self._uses is None:
            self._uses = self._summed()
        return self._uses

    def _summed(self) -> tuple[Use, ...]:
        uses = []
        for device, rows in self.rows.items():
            sums: dict[TenantId, list[int]] = {}
            for row in rows.values():
                total = sums.setdefault(row.tenant, [0, 0])
                if row.used_bytes is None:
                    total[1] += 1
                else:
                    total[0] += row.used_bytes
            for tenant, (used, unknown) in sums.items():
                points = self.traces.get((tenant, device), [])
                uses.append(
                    Use(
                        tenant=tenant,
                        device=device,
                        used_bytes=used,
                        listed_at=self.listed_at[device],
                        grown_bytes=points[-1][1] - points[0][1] if points else 0,
                        growth_bytes_s=_rate(points),
                        unknown_rows=unknown,
                    )
                )
        return tuple(uses)

    def pids(self) -> dict[TenantId, tuple[Pid, ...]]:
        """Every tenant's processes that hold bytes."""
        found: dict[TenantId, set[Pid]] = {}
        for rows in self.rows.values():
            for row in rows.values():
                pids = found.setdefault(row.tenant, set())
                if row.pid is not None:
                    pids.add(row.pid)
        return {tenant: tuple(sorted(pids)) for tenant, pids in found.items()}


def _rate(points: list[tuple[float, int]]) -> float:
    if len(points) < 2:
        return 0.0
    (before, less), (after, more) = points[-2], points[-1]
    return (more - less) / max(after - before, 1e-3)
