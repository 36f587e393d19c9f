"""Whose bytes are these: rows of process lists become uses of tenants."""

from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace

from gpuwarden.model.device import Device, Listing, ProcessUse
from gpuwarden.model.ids import DeviceId, Pid, TenantId
from gpuwarden.model.owner import ProcessFacts
from gpuwarden.model.tenant import Use
from gpuwarden.ports import Processes

MAX_POINTS = 64
MAX_GONE = 4096
"""Processes that are remembered after their last row: a driver tells of a fault after who caused it."""


Key = tuple[int, int]
"""A pid as listed, and the start of the process the row belongs to."""


@dataclass(slots=True)
class Row:
    """One row with its owner."""

    pid: Pid | None
    raw_pid: int
    used_bytes: int | None
    tenant: TenantId
    seen_at: float | None = None
    """When a list last had it, if the newest left it out: until then its size counts, not longer."""
    is_mps: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Folded:
    """What came of a list. The probe hands the very same ``rows`` over while they do not change."""

    rows: tuple[ProcessUse, ...]
    known_bytes: int | None
    """Sum of the rows; ``None`` when the driver withheld a size."""
    sizes: dict[TenantId, tuple[int, int]]
    clients: frozenset[TenantId]
    """Whose processes are clients of an MPS server."""
    left_out: dict[TenantId, float]
    """Whose rows the newest list left out, and when one last had them."""


@dataclass(slots=True)
class Attribution:
    """Keeps who held what by the last list of every device. The loop's thread only."""

    processes: Processes
    tenant_of: Callable[[ProcessFacts], TenantId]
    growth_window_s: float
    rows: dict[DeviceId, dict[Key, Row]] = field(default_factory=dict)
    listed_at: dict[DeviceId, float] = field(default_factory=dict)
    unattributed: dict[DeviceId, int] = field(default_factory=dict)
    facts_of: dict[TenantId, ProcessFacts] = field(default_factory=dict)
    dead: dict[int, tuple[Pid, TenantId]] = field(default_factory=dict)
    """Whose a pid was that an earlier agent acted on: bytes may stay listed under a dead pid."""
    gone: dict[int, TenantId] = field(default_factory=dict)
    """Whose the pids were that were listed once and are no more, oldest first; bounded."""
    doubtful: set[tuple[DeviceId, int]] = field(default_factory=set)
    """Rows that changed size together with the process behind their pid: nobody's while they last."""
    traces: dict[tuple[TenantId, DeviceId], list[tuple[float, int]]] = field(default_factory=dict)
    _uses: tuple[Use, ...] | None = None
    _uses_on: dict[DeviceId, list[Use]] = field(default_factory=dict)
    _folded: dict[DeviceId, Folded] = field(default_factory=dict)
    """By device, the newest list as long as the next one may say the same."""
    _shown: dict[DeviceId, Folded] = field(default_factory=dict)
    """By device, what its uses are made of."""
    _still: set[DeviceId] = field(default_factory=set)
    """Devices whose traces are level all along: nothing on them changes until a row does."""

    def take(self, listing: Listing) -> bool:
        """Fold one list in; False when it tells nothing new of who holds what."""
        if listing.at <= self.listed_at.get(listing.device, -1.0):
            return False
        folded = self._folded.get(listing.device)
        if folded is not None and folded.rows is listing.rows:
            self._renew(listing, folded, is_same=True)
            return False
        old = self.rows.get(listing.device, {})
        before = {raw_pid: row for (raw_pid, _), row in old.items()}
        rows: dict[Key, Row] = {}
        known_bytes = 0
        self._forget_doubts(listing)
        for entry in listing.rows:
            row = self._row(entry, before.get(entry.raw_pid))
            if row is not None:
                known_bytes += entry.used_bytes or 0
                rows[_key(row)] = row
        kept = self._left_out(listing, old, rows.keys(), known_bytes)
        rows.update(kept)
        known_bytes += sum(row.used_bytes or 0 for row in kept.values())
        self._bury(old, rows)
        self.rows[listing.device] = rows
        folded = Folded(
            rows=listing.rows,
            known_bytes=known_bytes if _is_complete(listing) else None,
            sizes=_sizes(rows.values()),
            clients=frozenset(row.tenant for row in rows.values() if row.is_mps),
            left_out={r.tenant: r.seen_at for r in rows.values() if r.seen_at is not None},
        )
        self._shown[listing.device] = folded
        if folded.left_out:
            self._folded.pop(listing.device, None)  # the next list decides about them
        else:
            self._folded[listing.device] = folded
        here = [t for t, device in self.traces if device == listing.device]
        for tenant in [t for t in here if t not in folded.sizes]:
            del self.traces[tenant, listing.device]
        self._renew(listing, folded)
        return True

    def _bury(self, old: dict[Key, Row], rows: dict[Key, Row]) -> None:
        for key in old.keys() - rows.keys():
            self.gone.pop(key[0], None)
            self.gone[key[0]] = old[key].tenant
        while len(self.gone) > MAX_GONE:
            self.gone.pop(next(iter(self.gone)))

    def owner_of(self, raw_pid: int) -> TenantId | None:
        """Whose a process is, or was, that the driver names: by the lists first, for a pid that was listed
        may be another's by now; else by what runs under it now."""
        for rows in self.rows.values():
            for (listed, _), row in rows.items():
                if listed == raw_pid:
                    return row.tenant
        if raw_pid in self.gone:
            return self.gone[raw_pid]
        facts = self.processes.facts(raw_pid)
        return None if facts is None else self.tenant_of(facts)

    def _left_out(
        self, listing: Listing, old: dict[Key, Row], listed: AbstractSet[Key], known_bytes: int
    ) -> dict[Key, Row]:
        """Rows of the list before that are kept. The driver's list is known to leave a live process out
        now and then: absence counts only the second time, or once the process itself has gone, or when
        not so much of the device is in use any more."""
        missing = {
            key: replace(row, seen_at=self.listed_at.get(listing.device))
            for key, row in old.items()
            if key not in listed
            and row.pid is not None
            and row.seen_at is None
            and self.processes.is_alive(row.pid)
        }
        size = sum(row.used_bytes or 0 for row in missing.values())
        return missing if known_bytes + size <= listing.used_bytes else {}

    def recheck(self) -> None:
        """A process has ended: its pid may be another's on the next list, however alike that looks."""
        self._folded.clear()

    def _renew(self, listing: Listing, folded: Folded, *, is_same: bool = False) -> None:
        """The same rows, or rows just folded, as of this list."""
        self._uses = None
        self._uses_on.pop(listing.device, None)
        previous, self.listed_at[listing.device] = self.listed_at.get(listing.device), listing.at
        if folded.known_bytes is not None:
            self.unattributed[listing.device] = max(0, listing.used_bytes - folded.known_bytes)
        else:
            self.unattributed.pop(listing.device, None)
        if is_same and listing.device in self._still:
            return
        self._trace(listing, folded, previous)

    def _row(self, entry: ProcessUse, before: Row | None) -> Row | None:
        """The row's owner, or ``None``: nobody's. Bytes may stay listed under a pid whose process has
        gone, and the pid may be another's by now: such a row stays with whom it belonged to."""
        facts = self.processes.facts(entry.raw_pid)
        if before is not None and (facts is None or facts.pid != before.pid):
            if facts is None or entry.used_bytes == before.used_bytes:
                return replace(before, used_bytes=entry.used_bytes, seen_at=None)
            self.doubtful.add((entry.device, entry.raw_pid))
        last = self.dead.get(entry.raw_pid)
        if facts is None:
            return None if last is None else _row(entry, *last)
        if before is None and last is not None and last[0] != facts.pid:
            self.doubtful.add((entry.device, entry.raw_pid))
        if (entry.device, entry.raw_pid) in self.doubtful:
            return None
        tenant = self.tenant_of(facts)
        self.facts_of[tenant] = facts
        return _row(entry, facts.pid, tenant)

    def _forget_doubts(self, listing: Listing) -> None:
        if self.doubtful:
            listed = {entry.raw_pid for entry in listing.rows}
            self.doubtful = {d for d in self.doubtful if d[0] != listing.device or d[1] in listed}

    def _trace(self, listing: Listing, folded: Folded, previous: float | None) -> None:
        device, start = listing.device, listing.at - self.growth_window_s
        was_still, is_still = device in self._still, True
        # Who is new since the last list has grown from nothing.
        begun = [] if previous is None else [(previous, 0)]
        for tenant, (size, _) in folded.sizes.items():
            points = self.traces.setdefault((tenant, device), list(begun))
            if was_still and previous is not None and points[-1][0] < previous:
                points[-1] = (previous, points[-1][1])  # level until the list before this one
            if len(points) > 2 and points[-1][1] == points[-2][1] == size:
                points[-1] = (listing.at, size)  # a plateau is its two ends
            else:
                points.append((listing.at, size))
            while len(points) > MAX_POINTS or (len(points) > 2 and points[1][0] < start):
                points.pop(0)
            is_still = is_still and len(points) in (2, 3) and all(s == size for _, s in points)
        (self._still.add if is_still else self._still.discard)(device)

    def keep_only(self, devices: list[Device]) -> None:
        """Forget devices that are no more."""
        known = {d.id for d in devices}
        for device in [d for d in self.rows if d not in known]:
            self._uses = None
            self.rows.pop(device, None)
            self.listed_at.pop(device, None)
            self.unattributed.pop(device, None)
            self._folded.pop(device, None)
            self._shown.pop(device, None)
            self._uses_on.pop(device, None)
            self._still.discard(device)
        holding = {r.tenant for rows in self.rows.values() for r in rows.values()}
        for tenant in [t for t in self.facts_of if t not in holding]:
            del self.facts_of[tenant]

    def uses(self) -> tuple[Use, ...]:
        """One use a tenant and device, by the newest lists."""
        if self._uses is None:
            self._uses = self._summed()
        return self._uses

    def _summed(self) -> tuple[Use, ...]:
        uses: list[Use] = []
        for device in self.rows:
            on = self._uses_on.get(device)
            if on is None:
                on = self._uses_on[device] = self._summed_on(device)
            uses += on
        return tuple(uses)

    def _summed_on(self, device: DeviceId) -> list[Use]:
        folded, at = self._shown[device], self.listed_at[device]
        left_out, clients = folded.left_out, folded.clients
        if device in self._still and not left_out and not clients:
            return [
                Use(tenant=t, device=device, used_bytes=used, listed_at=at, unknown_rows=unknown)
                for t, (used, unknown) in folded.sizes.items()
            ]
        uses = []
        for tenant, (used, unknown) in folded.sizes.items():
            points = self.traces.get((tenant, device), [])
            uses.append(
                Use(
                    tenant=tenant,
                    device=device,
                    used_bytes=used,
                    listed_at=left_out.get(tenant, at),
                    grown_bytes=points[-1][1] - points[0][1] if points else 0,
                    growth_bytes_s=_rate(points),
                    unknown_rows=unknown,
                    is_mps=tenant in clients,
                )
            )
        return uses

    def holder_of(self, device: DeviceId, raw_pid: int) -> TenantId | None:
        """Whose row a pid is on a device, by the newest list; None: nobody's, or not listed."""
        rows = self.rows.get(device, {})
        return next((row.tenant for row in rows.values() if row.raw_pid == raw_pid), None)

    def pids(self) -> dict[TenantId, tuple[Pid, ...]]:
        """Every tenant's processes that hold bytes."""
        found: dict[TenantId, set[Pid]] = {}
        for rows in self.rows.values():
            for row in rows.values():
                pids = found.setdefault(row.tenant, set())
                if row.pid is not None:
                    pids.add(row.pid)
        return {tenant: tuple(sorted(pids)) for tenant, pids in found.items()}


def _is_complete(listing: Listing) -> bool:
    """Whether the driver told the size of every row."""
    return all(entry.used_bytes is not None for entry in listing.rows)


def _key(row: Row) -> Key:
    return row.raw_pid, row.pid.start if row.pid is not None else 0


def _row(entry: ProcessUse, pid: Pid, tenant: TenantId) -> Row:
    return Row(
        pid=pid,
        raw_pid=entry.raw_pid,
        used_bytes=entry.used_bytes,
        tenant=tenant,
        is_mps=entry.is_mps,
    )


def _sizes(rows: Iterable[Row]) -> dict[TenantId, tuple[int, int]]:
    """By tenant: bytes that are told, and rows whose size is not."""
    sizes: dict[TenantId, tuple[int, int]] = {}
    for row in rows:
        used, unknown = sizes.get(row.tenant, (0, 0))
        if row.used_bytes is None:
            sizes[row.tenant] = (used, unknown + 1)
        else:
            sizes[row.tenant] = (used + row.used_bytes, unknown)
    return sizes


def _rate(points: list[tuple[float, int]]) -> float:
    if len(points) < 2:
        return 0.0
    (before, less), (after, more) = points[-2], points[-1]
    return (more - less) / max(after - before, 1e-3)
