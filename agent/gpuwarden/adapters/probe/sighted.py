"""What the parent knows of each device: newest memory, newest list, slow facts, and whether it is seen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gpuwarden.adapters.probe import decode, health, layout
from gpuwarden.adapters.probe.decode import Entry, MemoryReading
from gpuwarden.model.device import Device, Listing, Sight
from gpuwarden.model.health import DeviceHealth
from gpuwarden.model.ids import DeviceId
from gpuwarden.model.snapshot import Gap, GapKind

LOST_CODES = frozenset({layout.GPU_IS_LOST, layout.GPU_NOT_FOUND, layout.NOT_FOUND, layout.UNKNOWN})
"""UNKNOWN is what HandleByIndex and everything after it say of a board that fell off the bus."""
_KINDS = {
    layout.NOT_SUPPORTED: GapKind.UNSUPPORTED,
    layout.FUNCTION_NOT_FOUND: GapKind.UNSUPPORTED,
    layout.NO_PERMISSION: GapKind.DENIED,
    layout.GPU_IS_LOST: GapKind.GONE,
    layout.UNKNOWN: GapKind.GONE,
    layout.NOT_FOUND: GapKind.GONE,
    layout.GPU_NOT_FOUND: GapKind.GONE,
    layout.DRIVER_NOT_LOADED: GapKind.GONE,
}
_COLLECTORS = {layout.FACTS: "facts", layout.GPM: "gpm"}
"""What comes in classes, by the frame that brings it; field values come with the facts."""
_TODO = {
    layout.NO_PERMISSION: "run the agent as root, outside any device cgroup",
    layout.GPU_IS_LOST: "read the kernel log for its Xid; it needs a reset or a reboot",
    layout.RESET_REQUIRED: "nvidia-smi --gpu-reset once nothing runs on it",
    layout.DRIVER_NOT_LOADED: "load the driver: modprobe nvidia",
    layout.LIBRARY_NOT_FOUND: "install the NVIDIA driver's libnvidia-ml.so.1 or set nvml.library",
    layout.LIB_RM_VERSION_MISMATCH: "library and kernel module differ: reboot or reload the driver",
}


def kind_of(code: int) -> GapKind:
    """What sort of gap a return code makes."""
    return _KINDS.get(code, GapKind.UNAVAILABLE)


def advice(code: int) -> str:
    """The driver's word and, where there is one, what to do about it."""
    todo = _TODO.get(code)
    return layout.code_name(code) + (f": {todo}" if todo else "")


@dataclass(slots=True)
class FactSet:
    """The slow facts that come together."""

    raw: bytes
    values: Mapping[str, float | str | None]
    at: float
    until: float
    """Monotonic seconds after which they are withdrawn."""
    failed: Sequence[tuple[str, int]] = ()
    """Calls of this look that failed, each with its code."""


@dataclass(slots=True)
class Known:
    """One device, by its UUID, across children and index shifts."""

    id: DeviceId
    index: int
    since: float
    """When it was first heard of."""
    place: int = -1
    """Of a slice, among the slices of its GPU."""
    name: str = ""
    pci: str | None = None
    parent: DeviceId | None = None
    is_mig_parent: bool = False
    total: int = 0
    reserved: int = 0
    used: int | None = None
    at: float | None = None
    """Monotonic seconds of the newest sample that could be believed."""
    code: int = 0
    is_current: bool = False
    """The newest record was good: a pass that changed nothing renews it."""
    is_missing: bool = False
    """The driver counts its devices without this one."""
    hung: str = ""
    """The call on it that does not return, in words; empty: none."""
    fault: str = ""
    listing: Listing | None = None
    facts: dict[tuple[int, int], FactSet] = field(default_factory=dict)
    """Slow facts by the kind and class of the frame that brought them."""
    list_code: int = 0
    """What the driver said of the newest attempt to list its processes."""
    list_bytes: bytes = b""
    """Raw rows of the newest list, without a fault in them."""
    utilization: dict[int, tuple[float, float, float, float]] = field(default_factory=dict)
    cores: tuple[float, dict[int, float]] = (0.0, {})
    """When the driver last told who uses the cores, and the SM ratios by raw pid."""
    told: dict[str, object] = field(default_factory=dict)
    """The typed classes of the facts, by name; one that is new or too old is missing."""
    _health: DeviceHealth | None = None
    _health_until: float = 0.0

    def enrol(self, entry: Entry, parent: DeviceId | None, index: int) -> None:
        """Take over what a new inventory says of it; a slice carries the index of its GPU."""
        self.index, self.name, self.pci, self.parent = index, entry.name, entry.pci, parent
        self.place = entry.index if parent is not None else -1
        self.is_mig_parent = bool(entry.flags & layout.IS_MIG_PARENT)
        self.is_missing = False

    def sample(self, reading: MemoryReading, at: float) -> None:
        """Take a memory record; one that cannot be true or older than what is known changes nothing."""
        if self.at is not None and at < self.at:
            return
        self.fault = reading.fault
        self.code = reading.code
        self.is_current = reading.code == layout.SUCCESS and not reading.fault
        if self.is_current:
            self.total, self.reserved, self.used = reading.total, reading.reserved, reading.used
            self.at = at
            self.hung = ""

    def sight(self, now: float, fresh_s: float) -> Sight:
        """Whether it can be seen now: not hung, not lost, its newest sample good and young."""
        # A slice that was taken apart answers like a lost device; only its GPU can be lost.
        if self.is_missing or (self.code in LOST_CODES and self.parent is None):
            return Sight.LOST
        if self.hung or not self.is_current or self.at is None or now - self.at > fresh_s:
            return Sight.BLIND
        return Sight.OK

    def device(self, sight: Sight, now: float) -> Device:
        """As the model wants it: no size from a device that is not seen."""
        action = self.fact("recovery_action", now)
        return Device(
            id=self.id,
            index=self.index,
            name=self.name,
            total_bytes=self.total,
            reserved_bytes=self.reserved,
            used_bytes=self.used if sight is Sight.OK else None,
            at=self.at,
            sight=sight,
            pci=self.pci,
            parent=self.parent,
            is_mig_parent=self.is_mig_parent,
            recovery_action=int(action) if isinstance(action, float) else None,
            health=self._well(now) if sight is Sight.OK and self.parent is None else None,
        )

    def take_facts(self, kind: int, part: int, facts: FactSet) -> None:
        """Newer facts of a class."""
        self.facts[kind, part] = facts
        self._health_until = 0.0
        for name, _, of in health.CLASSES:
            if of == part:
                self.told.pop(name, None)

    def _well(self, now: float) -> DeviceHealth | None:
        """The typed classes; the very same object until one of them changes or grows too old."""
        if now <= self._health_until:
            return self._health
        until = float("inf")
        for name, kind, part in health.CLASSES:
            sets = [
                facts
                for frame in (layout.FACTS, layout.FIELDS)
                if (facts := self.facts.get((frame, part))) is not None and now <= facts.until
            ]
            if not sets:
                self.told.pop(name, None)
                continue
            until = min(until, *(facts.until for facts in sets))
            if name not in self.told:
                values = {key: v for facts in sets for key, v in facts.values.items()}
                self.told[name] = health.typed(kind, max(f.at for f in sets), values)
        self._health, self._health_until = health.whole(self.told), until
        return self._health

    def fact(self, key: str, now: float) -> float | str | None:
        """A slow fact, unless it has outlived its class."""
        for facts in self.facts.values():
            if key in facts.values:
                return facts.values[key] if now <= facts.until else None
        return None

    def details(self, now: float, process_top: int) -> Mapping[str, float | str | None]:
        """Every slow fact, by the keys of ``adapters.device_facts``; None once it is too old.

        With the ``process_top`` largest processes of the newest list.
        """
        found: dict[str, float | str | None] = {}
        for (kind, part), facts in self.facts.items():
            found |= facts.values if now <= facts.until else dict.fromkeys(facts.values)
            if (name := _COLLECTORS.get(kind)) is not None:
                found[f"collected_at:{name}_{part}s"] = facts.at
        if process_top and self.listing is not None:
            rows = sorted(self.listing.rows, key=lambda row: -(row.used_bytes or 0))
            for row in rows[:process_top]:
                found[f"process_memory_bytes:{row.raw_pid}"] = row.used_bytes
                if (ratios := self.utilization.get(row.raw_pid)) is not None:
                    found[f"process_sm_ratio:{row.raw_pid}"] = ratios[0]
        return found

    def gap(self, sight: Sight, now: float) -> Gap | None:
        """Why it is not seen, or who is on it is not; None when both are."""
        if sight is Sight.OK:
            if not self.list_code or self.is_mig_parent:
                return None
            detail = f"its processes cannot be listed: {advice(self.list_code)}"
            kind = kind_of(self.list_code)
            return Gap(source="nvml", subject=self.id, kind=kind, detail=detail)
        if self.hung:
            return Gap(source="nvml", subject=self.id, kind=GapKind.HUNG, detail=self.hung)
        if self.is_missing:
            detail = "the driver does not count it any more"
            return Gap(source="nvml", subject=self.id, kind=GapKind.GONE, detail=detail)
        if self.code:
            kind = kind_of(self.code)
            return Gap(source="nvml", subject=self.id, kind=kind, detail=advice(self.code))
        if self.fault:
            return Gap(source="nvml", subject=self.id, kind=GapKind.GARBAGE, detail=self.fault)
        age = "never sampled" if self.at is None else f"newest sample is {now - self.at:.1f} s old"
        if self.at is not None and not self.is_current:
            age = f"its probe child ended, {age}"
        return Gap(source="nvml", subject=self.id, kind=GapKind.STALE, detail=age)


def listing(known: Known, payload: bytes, at: float) -> tuple[Listing | None, tuple[str, ...]]:
    """The list of a LIST frame and what in it could not be believed; None: there is no list."""
    reading = decode.memory(payload)
    raw = decode.rows_part(payload)
    if known.listing is not None and raw == known.list_bytes and not reading.fault:
        same = known.listing.rows
        known.list_code = layout.SUCCESS
        return Listing(device=known.id, at=at, used_bytes=reading.used, rows=same), ()
    rows = decode.rows(known.id, payload)
    known.list_code = rows.code
    known.list_bytes = b"" if rows.faults else raw
    if rows.code != layout.SUCCESS or rows.memory.fault:
        known.list_bytes = b""
        return None, (*rows.faults, *filter(None, (rows.memory.fault,)))
    return Listing(device=known.id, at=at, used_bytes=rows.memory.used, rows=rows.rows), rows.faults
