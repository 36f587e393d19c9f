"""The kernel log of a simulated node."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from gpuwarden.errors import Unavailable
from gpuwarden.model.kernel_line import KernelLine
from gpuwarden.model.kernel_record import KernelForgery, KernelRecord, KernelTrust
from gpuwarden.model.snapshot import Gap
from gpuwarden.model.views import KernelView
from gpuwarden.sim.node.clock import SimClock

FORGERY_EVERY_S = 60.0


@dataclass(slots=True)
class SimKernelLog:
    """Implements ``ports.KernelLog``. Lines belong to the kernel: they outlive an agent, and what one has
    not settled is the next one's again.
    """

    clock: SimClock
    trust: KernelTrust = KernelTrust.SIMULATED
    is_down: bool = False
    reads: Callable[[str], KernelLine | None] = lambda text: None
    """How a line is understood: the agent's own reader, given by whoever attaches one."""
    gaps: tuple[Gap, ...] = ()
    lines: list[KernelRecord] = field(default_factory=list)
    _next: int = 0
    _settled: int = 0
    _forged: list[KernelForgery] = field(default_factory=list)
    _told_at: float = -FORGERY_EVERY_S

    def say(self, text: str, *, level: int = 4, facility: int = 0) -> None:
        """A line is printed; of another facility it is a forgery."""
        if facility:
            self._forged.append(KernelForgery(count=1, text=text, facility=facility))
            return
        now = self.clock.now()
        self.lines.append(
            KernelRecord(
                text=text,
                source="simulated",
                trust=self.trust,
                seen_at=now,
                sequence=len(self.lines),
                boot_us=int(now * 1e6),
                facility=0,
                level=level,
                line=self.reads(text),
            )
        )

    @property
    def has_news(self) -> bool:
        return self._next < len(self.lines)

    def restart(self) -> None:
        """Another agent begins to read."""
        self._next = self._settled
        self._told_at = -FORGERY_EVERY_S

    def rewind(self, heard: int) -> None:
        """An agent that knows of records up to a number reads what follows it again."""
        self._next = min(self._next, heard + 1)

    def reboot(self) -> None:
        """Another kernel begins with an empty log."""
        self.lines.clear()
        self._next = self._settled = 0

    def drain(self, now: float) -> KernelView:
        if self.is_down:
            raise Unavailable("the kernel log cannot be read")
        fresh = tuple(replace(line, seen_at=now) for line in self.lines[self._next :])
        self._next = len(self.lines)
        forgery = None
        if self._forged and now - self._told_at >= FORGERY_EVERY_S:
            forgery = replace(self._forged[0], count=len(self._forged))
            self._forged, self._told_at = [], now
        return KernelView(records=fresh, trust=self.trust, gaps=self.gaps, forgery=forgery)

    def settle(self) -> None:
        self._settled = self._next

    def filenos(self) -> Sequence[int]:
        return ()

    def counters(self) -> Mapping[tuple[str, str], int]:
        return {}

    def close(self) -> None:
        return
