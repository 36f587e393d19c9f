"""What the agent remembers of its GPUs' health between two samples."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from gpuwarden.model.finding import Finding
from gpuwarden.model.ids import DeviceId


@dataclass(frozen=True, slots=True, kw_only=True)
class Sign:
    """One fault on its way in, standing, or on its way out. Monotonic seconds."""

    finding: Finding
    since: float
    """Since when every sample has shown it."""
    seen_at: float
    """The newest sample that showed it."""
    looked_at: float
    """The newest sample that could have shown it."""
    speaks_s: float
    """How long a sample speaks for the present."""
    grace_s: float
    probation_s: float
    stands_since: float | None = None
    clear_since: float | None = None
    """Of a standing one: since when no sample has shown it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Counters over a stretch of time. A rate needs two samples: the one it began with is kept here."""

    at: float
    """When the present stretch began."""
    base: tuple[float | None, ...]
    """The counters then, in the order of ``policy.health.window``."""
    span_s: float = 0.0
    """How long the stretch before it lasted; 0: there was none yet."""
    grown: Mapping[str, float] = field(default_factory=dict)
    """What grew in it, by how much. A counter that went back began anew, and has not grown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceHistory:
    """One GPU's past, as far as its rules need it."""

    judged: tuple[float | None, ...] = (None, None, None, None)
    """Times of the samples judged last: vitals, errors, setup, deep."""
    vitals: Window | None = None
    errors: Window | None = None
    links_up_mask: int = 0
    """Every link that has been up since the host was started."""
    pages: tuple[tuple[float, int], ...] = ()
    """(wall seconds, pages retired for double-bit errors) whenever that number rose."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthMemory:
    """All of it. Mappings are replaced, never changed in place."""

    signs: Mapping[str, Sign] = field(default_factory=dict)
    """By finding key."""
    devices: Mapping[DeviceId, DeviceHistory] = field(default_factory=dict)
    host_judged_at: float | None = None
    """When the rules on the host were asked last."""
    surroundings_at: float | None = None
    """The sample of the surroundings they were asked about."""
