"""Of a kernel record: whether it was heard before, when it was printed, and which device it is about."""

from collections.abc import Iterator

from gpuwarden.model.ids import DeviceId
from gpuwarden.model.kernel_record import KernelRecord
from gpuwarden.model.memory import Memory
from gpuwarden.policy.scene import Scene


def unheard(memory: Memory, scene: Scene) -> Iterator[KernelRecord]:
    """Records that no earlier agent of this boot has folded in: a line that is read again after its agent was
    killed says nothing new. A source without numbers remembers its place by itself."""
    return (r for r in scene.snap.kernel if not _is_heard(memory, r))


def _is_heard(memory: Memory, record: KernelRecord) -> bool:
    mark = memory.kernel_heard
    if mark is None or record.sequence is None:
        return False
    # A stream that began anew (the simulated driver's) counts from zero again, later.
    return record.sequence <= mark[0] and (record.boot_us or 0) <= mark[1]


def heard(memory: Memory, scene: Scene) -> tuple[int, int] | None:
    """The newest record heard by now: its number, and the latest stamp (two processors' may be out of order)."""
    mark = memory.kernel_heard
    for record in scene.snap.kernel:
        if record.sequence is None or _is_heard(memory, record):
            continue
        stamp_us = record.boot_us or 0
        mark = (record.sequence, stamp_us if mark is None else max(mark[1], stamp_us))
    return mark


def said_at(record: KernelRecord) -> float:
    """Monotonic seconds at which a line was printed: of an old one only the kernel's stamp tells that."""
    if record.is_backlog and record.boot_us is not None:
        return min(record.seen_at, record.boot_us / 1e6)
    return record.seen_at


def device_at(memory: Memory, scene: Scene, pci: str | None) -> DeviceId | None:
    """The device at an address, however it is written: ``0000:3b:00``, ``00000000:3B:00.0``. One that is gone
    from the driver is not counted any more: where it was is remembered."""
    wanted = place_of(pci)
    if wanted is None:
        return None
    for device in scene.snap.devices:
        if device.parent is None and place_of(device.pci) == wanted:
            return device.id
    gone = (d for d in memory.devices if d not in scene.devices)
    return next((d for d in gone if place_of(memory.devices[d].pci) == wanted), None)


def place_of(pci: str | None) -> tuple[int, int, int] | None:
    """Domain, bus and device of an address; ``None``: it is none."""
    if not pci:
        return None
    parts = pci.lower().removeprefix("pci:").partition(".")[0].split(":")
    if not 2 <= len(parts) <= 3:
        return None
    try:
        numbers = [int(part, 16) for part in parts]
    except ValueError:
        return None
    domain = numbers[0] if len(numbers) == 3 else 0
    return domain, numbers[-2], numbers[-1]
