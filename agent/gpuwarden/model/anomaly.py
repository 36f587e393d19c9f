"""What is odd of a service's series, or of a GPU beside its peers: plain values, for whoever tells people."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

SLOT_S = 900.0
"""A series has one value for each quarter of an hour, and is usual or odd for that quarter of the day."""
SLOTS_A_DAY = 96

SERIES = (
    "requests_per_s",
    "error_ratio",
    "latency_p50_s",
    "latency_p95_s",
    "gpu_utilization",
    "queue_length",
)
"""Of every service, all of its versions, arms and segments together; one that is not told is never judged."""
TOGETHER = "together"
"""In the place of a series: all of them at once."""


class Layer(StrEnum):
    """Which detector speaks; cheap and sharp first."""

    POINT = "point"
    """One value, far off what is usual at its hour."""
    WINDOW = "window"
    """A stretch that is a little off for long."""
    CLUSTER = "cluster"
    """All series together are far from every state the service has been in."""
    RECONSTRUCTION = "reconstruction"
    """Series do not fit together as they used to: each of them may be usual by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Oddity:
    """One finding on one service. Values are in the series' own unit, None where it is of all series together."""

    series: str
    layer: Layer
    since_wall: float
    """When the first odd quarter of an hour began."""
    wall: float
    """When the newest odd one ended."""
    value: float | None = None
    """Of the newest odd quarter; of a stretch, its middle."""
    usual: float | None = None
    """The same, as it is at that hour."""
    sigmas: float = 0.0
    """How far off, in deviations that are usual at that hour; below 0 where it is less than usual."""
    detail: str = ""
    """Which series are furthest off, of a finding of all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceOddities:
    """Of one service. ``days`` of ``days_min``: below that nothing is judged yet."""

    service: str
    days: int
    days_min: int
    series: tuple[str, ...] = ()
    """Which are judged."""
    findings: tuple[Oddity, ...] = ()
    recent: tuple[Oddity, ...] = ()
    """Those that ended within the last day."""

    @property
    def is_learning(self) -> bool:
        return self.days < self.days_min


@dataclass(frozen=True, slots=True, kw_only=True)
class OddDevice:
    """A GPU that is unlike its peers in one series (``temperature_c`` or ``power_w``)."""

    node: str
    index: int
    device: str
    """Its UUID."""
    model: str
    series: str
    since_wall: float
    value: float
    """Its median of the newest half hour."""
    peers: float
    """Theirs."""
    count: int
    """How many peers."""
    sigmas: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AnomalyView:
    """The newest of every service and of all GPUs, replaced whole; ``serial`` grows with each."""

    serial: int
    wall: float
    services: Mapping[str, ServiceOddities] = field(default_factory=dict)
    devices: tuple[OddDevice, ...] = ()
    devices_compared: int = 0
    """How many GPUs had enough peers at work to be compared."""
