"""Records of the kernel log, and how far they may be trusted."""

from dataclasses import dataclass
from enum import StrEnum

from gpuwarden.model.kernel_line import KernelLine


class KernelTrust(StrEnum):
    """Where kernel lines come from. ``KERNEL``: facility 0 of the character device, which no process can
    write. ``SIMULATED``: the simulated driver's stream. ``UNTRUSTED``: a file or a syslog journal, where
    others may write. ``NONE``: nothing is read."""

    KERNEL = "kernel"
    SIMULATED = "simulated"
    UNTRUSTED = "untrusted"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelRecord:
    """One record, decoded and not judged. ``text`` may have several lines; of a source that is not
    ``UNTRUSTED`` it begins with the words of the driver, or of the kernel about a task.

    ``None`` is what a source does not tell: a file knows neither number, time, facility nor level.
    """

    text: str
    source: str
    """kmsg, simulated, file or journal."""
    trust: KernelTrust
    seen_at: float
    """Monotonic seconds at which it was read."""
    sequence: int | None = None
    boot_us: int | None = None
    """Microseconds since boot by the kernel's own stamp: close to the monotonic clock, not equal."""
    facility: int | None = None
    level: int | None = None
    is_backlog: bool = False
    """It was there before the agent began to read: ``boot_us`` says how old it is."""
    continues: int | None = None
    """The number of an earlier record whose line this text goes on with."""
    line: KernelLine | None = None
    """The text as it was understood; ``None``: it says nothing of a GPU."""
    details: tuple[tuple[str, str], ...] = ()
    """The dictionary that drivers of devices add: ``DEVICE``, ``SUBSYSTEM``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelForgery:
    """Lines that pretend to be the driver's, since this was last told: at most once a minute."""

    count: int
    text: str
    """The first of them, cut."""
    facility: int | None = None
    """Of that one; 0: a true kernel line that quotes the driver's words (a file name, say)."""
