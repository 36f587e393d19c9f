"""What really happened in a simulated node, in order: the truth an oracle compares the agent with."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from gpuwarden.clock import Clock
from gpuwarden.model.ids import DeviceId, Pid, TenantId

HARM = frozenset(
    {
        "throttle",
        "freeze",
        "restart-off",
        "detach",
        "term",
        "kill",
        "stop",
        "set-limit",
        "set-host-limits",
        "relocate",
        "restart-tenant",
        "roll-back",
    }
)
"""Effects on somebody else's processes. What the agent only notes (warn, cordon) has no effect here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line. ``kind`` is an action's kind for effects of the agent, else a word for an event of the
    world; ``action`` is the id of the action that was being carried out, if any."""

    serial: int
    at: float
    kind: str
    tenant: TenantId | None = None
    device: DeviceId | None = None
    pids: tuple[Pid, ...] = ()
    action: str = ""
    text: str = ""

    def __str__(self) -> str:
        parts = [f"{self.at:10.3f}", f"{self.kind:<16}"]
        parts += [str(p) for p in (self.tenant, self.device, self.text, self.action) if p]
        return "  ".join(parts)


@dataclass(slots=True)
class Ledger:
    """Append-only. ``acting``: the action being carried out now."""

    clock: Clock
    entries: list[Entry] = field(default_factory=list)
    acting: str = ""

    def note(
        self,
        kind: str,
        tenant: TenantId | None = None,
        *,
        device: DeviceId | None = None,
        pids: tuple[Pid, ...] = (),
        text: str = "",
        action: str | None = None,
    ) -> None:
        """Add a line."""
        self.entries.append(
            Entry(
                serial=len(self.entries),
                at=self.clock.now(),
                kind=kind,
                tenant=tenant,
                device=device,
                pids=pids,
                action=self.acting if action is None else action,
                text=text,
            )
        )

    def of(self, *kinds: str, tenant: TenantId | None = None) -> list[Entry]:
        """Lines of some kinds, of one tenant if it is named."""
        return [
            e for e in self.entries if e.kind in kinds and (tenant is None or e.tenant == tenant)
        ]

    def harm(self) -> Iterator[Entry]:
        """Every effect on somebody else's processes."""
        return (e for e in self.entries if e.kind in HARM)

    def timeline(self) -> str:
        """For people."""
        return "\n".join(str(e) for e in self.entries)
