"""Services as people, load balancers and pipelines are told of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from gpuwarden.model.evaluation import Colour, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """One service in one line. What could not be had is None."""

    service: str
    colour: Colour
    why: str
    since_wall: float
    age_s: float | None = None
    """Since the end of the newest window."""
    versions: tuple[str, ...] = ()
    nodes: int = 0
    """That told of it in the newest minute."""
    requests_per_s: float | None = None
    queue_length: float | None = None
    gpu_utilization: float | None = None
    verdicts: tuple[Verdict, ...] = ()
    is_fit: bool | None = None
    """Whether requests may be sent there; None: not known."""

    def count(self, colour: Colour) -> int:
        return sum(verdict.colour is colour for verdict in self.verdicts)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServicesView:
    """One picture of all services. ``serial`` grows with each."""

    serial: int
    wall: float
    services: Mapping[str, Standing] = field(default_factory=dict)
    is_leader: bool = False
    note: str = ""
    """What stands in the way of judging; empty: nothing."""
