"""What clients told, on its way to the windows of their services' cohorts."""

from collections.abc import Sequence

from gpuwarden.adapters.review_desk import ReviewDesk
from gpuwarden.adapters.window_desk import NodeWindowDesk
from gpuwarden.clock import Clock
from gpuwarden.config_services import ServiceConfig
from gpuwarden.evaluate.fast.observation import Observations
from gpuwarden.evaluate.fast.tally import Tally
from gpuwarden.model.evaluation import Cohort

SERVICES_MAX = 64


class Hearing:
    """One thread: that of the socket."""

    def __init__(
        self,
        desk: NodeWindowDesk,
        clock: Clock,
        services: Sequence[ServiceConfig],
        reviews: ReviewDesk | None = None,
    ) -> None:
        """``reviews``: where somebody takes predictions for people."""
        self._desk, self._clock, self._reviews = desk, clock, reviews
        self._confidence_min = {each.name: each.confidence_min for each in services}
        self._heard: dict[str, Observations] = {}
        self.lost = 0
        """Observations that clients had no room for, and those that were not what they must be."""

    @property
    def unmatched(self) -> int:
        """Labels and scores whose prediction is not known on this node."""
        return sum(each.unmatched for each in self._heard.values())

    def take(self, service: str, rows: Sequence[object], lost: int) -> None:
        """One message of a client of ``service``."""
        heard = self._heard.get(service)
        if heard is None:
            if len(self._heard) >= SERVICES_MAX:
                self._heard.pop(next(iter(self._heard)))
            heard = self._heard[service] = Observations(self._confidence_min.get(service, 0.5))
        carrier = self._desk.carrier(service).cohort
        tallies: dict[Cohort, Tally] = {}
        refused, now = heard.refused, self._clock.now()
        for row in rows:
            cohort = heard.take(row, carrier, now, tallies)
            if self._reviews is not None and cohort is not None:
                self._reviews.look(row, cohort, heard)
        self.lost += lost + heard.refused - refused
        if lost:
            tallies.setdefault(carrier, Tally()).dropped += lost
        for cohort, tally in tallies.items():
            self._desk.observe(cohort, tally)
