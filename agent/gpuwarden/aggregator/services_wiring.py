"""Services of the aggregator, put together: a part of wiring."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from gpuwarden.aggregator import device_readings
from gpuwarden.aggregator.anomalies import Anomalies
from gpuwarden.aggregator.arrivals import Arrival
from gpuwarden.aggregator.committer import Committer
from gpuwarden.aggregator.documents import StoreDocuments
from gpuwarden.aggregator.drifts import Drifts
from gpuwarden.aggregator.ingest import Ingest
from gpuwarden.aggregator.label_desk import LabelDesk
from gpuwarden.aggregator.lead import Leadership
from gpuwarden.aggregator.on_services import asked, of_whole
from gpuwarden.aggregator.picture import Bounds, Picture
from gpuwarden.aggregator.reviews import Reviews
from gpuwarden.aggregator.service_causes import Causes
from gpuwarden.aggregator.service_numbers import ServiceNumbers
from gpuwarden.aggregator.services import Services
from gpuwarden.aggregator.store import Store
from gpuwarden.aggregator.window_relay import WindowRelay
from gpuwarden.clock import Clock
from gpuwarden.config_aggregator import AggregatorConfig
from gpuwarden.config_guardrails import pack
from gpuwarden.model.fleet import FleetClaim, FleetView

ASK_S = 30.0
"""A pass of the services over thousands of cohorts may take seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What judges services, says why, and takes what becomes known of predictions."""

    services: Services
    causes: Causes
    labels: LabelDesk
    numbers: ServiceNumbers
    """For rollouts."""
    reviews: Reviews
    notes: list[Callable[[str], Sequence[str]]] = field(default_factory=list)
    """What else is to be read in a service's report."""
    drifts: Drifts
    anomalies: Anomalies

    def start(self) -> None:
        self.services.start()
        self.drifts.start()
        self.anomalies.start()

    def stop(self) -> None:
        self.anomalies.stop()
        self.drifts.stop()
        self.services.stop()

    def claims(self) -> tuple[FleetClaim, ...]:
        return (*self.services.claims(), *self.drifts.claims(), *self.anomalies.claims())

    def counters(self) -> dict[str, int]:
        judges = (self.services, self.drifts, self.anomalies, self.reviews)
        mine = (each.counters() for each in judges)
        return {name: count for each in mine for name, count in each.items()}

    async def keep(self, ingest: Ingest) -> None:
        """For ever, on the loop that serves nodes: what they tell of their GPUs is compared."""
        await device_readings.keep(ingest, self.anomalies.hear)

    def attach(self, ingest: Ingest) -> None:
        """Hear what nodes tell of services, and acknowledge it."""
        ingest.hear_services, self.services.taken = self._hear, ingest.windows_kept
        self.reviews.kept = partial(ingest.soon, ingest.streams.reviews_kept)

    def _hear(self, arrival: Arrival) -> None:
        if arrival.windows or arrival.verdicts:
            self.services.hear(arrival)
        if arrival.reviews:
            self.reviews.hear(arrival)

    def adopt(self, cfg: AggregatorConfig) -> None:
        """Judge by it from now on."""
        self.services.adopt(cfg.evaluation, pack(cfg.guardrail))
        self.reviews.bytes_max = cfg.evaluation.review_mib * 2**20
        self.drifts.cfg = cfg.drift
        self.anomalies.cfg = cfg.anomaly


def make_evaluation(
    cfg: AggregatorConfig,
    clock: Clock,
    store: Store,
    committer: Committer,
    name: str,
    leadership: Leadership,
    view: Callable[[], FleetView],
) -> Evaluation:
    """``name``: of this life of this aggregator."""
    said = cfg.evaluation
    picture = Picture(
        Bounds(
            cohorts_max=said.cohorts_max,
            fine_bytes=said.fine_mib * 2**20,
            archive_bytes=said.archive_mib * 2**20,
            keep_s=said.keep_s,
        )
    )
    relay = WindowRelay(
        store,
        committer,
        picture,
        name,
        leadership.lead,
        is_shared=cfg.aggregator.store is not None,
    )
    services = Services(said, pack(cfg.guardrail), picture, relay, clock, leadership.lead)
    causes = Causes(services, store, clock, lambda: connected(view()))
    services.explain = causes.red
    labels = LabelDesk(picture, name, store, committer, leadership.lead)

    def epoch() -> int | None:
        lead = leadership.lead()
        return lead.epoch if lead.is_ours else None

    drifts = Drifts(
        cfg.drift,
        picture,
        lambda job: asked(services, lambda: of_whole(services, job), ASK_S),
        StoreDocuments(store, committer),
        clock,
        lambda: leadership.lead().is_ours,
        StoreDocuments(store, committer, epoch),
    )
    services.beside = drifts.beside
    anomalies = Anomalies(
        cfg.anomaly,
        picture,
        lambda job: asked(services, lambda: of_whole(services, job), ASK_S),
        lambda job: asked(services, lambda: of_whole(services, job), ASK_S),
        StoreDocuments(store, committer, epoch),
        clock,
        lambda: leadership.lead().is_ours,
    )
    return Evaluation(
        services=services,
        drifts=drifts,
        anomalies=anomalies,
        causes=causes,
        labels=labels,
        numbers=ServiceNumbers(services, causes, clock),
        reviews=Reviews(store, committer, clock, labels, services.do, said.review_mib * 2**20),
    )


def connected(view: FleetView) -> frozenset[str]:
    """Nodes that are heard now: their incidents are known."""
    return frozenset(each.greeting.node for each in view.nodes if each.is_connected)
