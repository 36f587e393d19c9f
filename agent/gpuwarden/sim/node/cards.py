"""The GPUs of a simulated node: what they hold, and what ails them."""

from dataclasses import dataclass, field
from typing import Any

from gpuwarden.model.ids import DeviceId, TenantId
from gpuwarden.sim.node.kernel import MIB, Kernel
from gpuwarden.sim.node.ledger import Ledger
from gpuwarden.sim.node.process import Process


@dataclass(slots=True, eq=False, kw_only=True)
class Card:
    """One GPU or MIG slice."""

    id: DeviceId
    index: int
    total_bytes: int
    pci: str = ""
    """Its address, ``0000:3b:00``; empty: where its index puts it (``place``).
    """
    floor_bytes: int = 0
    """Held by nobody (display, firmware)."""
    leaked_bytes: int = 0
    """Held by nobody, and not at first."""
    parent: DeviceId | None = None
    is_mig_parent: bool = False
    hangs_since: float | None = None
    """Calls on it do not return since then."""
    is_blamed: bool = False
    """The probe has found out that it hangs."""
    is_lost: bool = False
    is_there: bool = True
    recovery_action: int | None = 0
    locked_by: TenantId | None = None
    """Whose doing it is that it does no work; free again when the culprit is gone, if ``heals``."""
    is_locked: bool = False
    heals: bool = True
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What it tells of its health, by class (``vitals``, ``errors``, ``setup``, ``deep``) and field; a
    class that is missing is not told."""
    heals_by: frozenset[str] = frozenset({"reset-gpu", "reload-driver", "reboot"})
    """Steps of a repair that end what ails it."""

    @property
    def place(self) -> str:
        """Its PCI address, as kernel lines have it."""
        return self.pci or f"0000:{0x10 + self.index:02x}:00"

    def heal(self, step: str) -> None:
        """What a repair's step does to it."""
        if step not in self.heals_by:
            return
        self.is_lost, self.is_locked, self.locked_by = False, False, None
        self.hangs_since, self.recovery_action, self.leaked_bytes = None, 0, 0

    def tell(self, part: str, **values: Any) -> None:
        """Change what it tells of one class, from its next sample on."""
        self.facts[part] = {**self.facts.get(part, {}), **values}


@dataclass(slots=True)
class Cards:
    """All of them, with what the kernel's processes hold on them."""

    kernel: Kernel
    ledger: Ledger
    cards: dict[DeviceId, Card] = field(default_factory=dict)
    limits: dict[tuple[str, DeviceId], int] = field(default_factory=dict)
    """Hard limits in force, by cgroup path and device."""
    denied: int = 0

    def __post_init__(self) -> None:
        self.kernel.room = self.room

    def add(self, card: Card) -> Card:
        """Put one in."""
        self.cards[card.id] = card
        return card

    def split(self, device: DeviceId, sizes_mib: list[int]) -> list[Card]:
        """MIG: the card becomes a parent and its slices are cards of their own."""
        whole = self.cards[device]
        whole.is_mig_parent = True
        return [
            self.add(
                Card(
                    id=DeviceId(f"MIG-{whole.index}-{n}"),
                    index=whole.index * 10 + n,
                    total_bytes=size * MIB,
                    parent=device,
                )
            )
            for n, size in enumerate(sizes_mib)
        ]

    def holders(self, device: DeviceId) -> list[Process]:
        """Whoever holds bytes on a card that the driver would list: the dead too."""
        return [p for p in self.kernel.everyone() if p.holds.get(device, 0) > 0]

    def used_bytes(self, card: Card) -> int:
        """What the driver would say."""
        held = sum(
            p.holds.get(card.id, 0) + p.hides.get(card.id, 0) for p in self.kernel.everyone()
        )
        return min(card.total_bytes, card.floor_bytes + card.leaked_bytes + held)

    def room(self, process: Process, device: DeviceId) -> int:
        """Bytes a process may still allocate: the card's, and under a limit in force its group's."""
        card = self.cards.get(device)
        if card is None or card.is_lost or not card.is_there or card.is_locked:
            return 0
        free = card.total_bytes - self.used_bytes(card)
        hard = self.limits.get((process.group.path, device))
        if hard is None or process.habit.is_hidden:
            return free
        mine = sum(p.holds.get(device, 0) for p in self.kernel.members(process.group))
        if mine >= hard:
            self.denied += 1
        return min(free, hard - mine)

    def lock(self, device: DeviceId, by: TenantId | None = None, *, heals: bool = True) -> None:
        """It stops doing work; the bytes stay."""
        card = self.cards[device]
        card.is_locked, card.locked_by, card.heals = True, by, heals
        self.ledger.note("locked", by, device=device, action="")

    def heal(self) -> None:
        """A lock whose culprit holds nothing on the card any more is over, if it is of that kind."""
        for card in self.cards.values():
            if not (card.is_locked and card.heals and card.locked_by is not None):
                continue
            if self.kernel.bytes_of(card.locked_by, card.id) == 0:
                card.is_locked, card.locked_by, card.recovery_action = False, None, 0
                self.ledger.note("unlocked", device=card.id, action="")
