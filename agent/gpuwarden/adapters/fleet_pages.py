"""What the aggregator tells Prometheus: its own page, and where every agent's page is (HTTP discovery)."""

import gzip
import json
from collections import Counter
from collections.abc import Callable, Mapping

from gpuwarden.adapters.exposition import Page, label, labels
from gpuwarden.adapters.service_pages import of_services
from gpuwarden.errors import Unavailable
from gpuwarden.model.finding import Severity
from gpuwarden.model.fitness import ServicesView
from gpuwarden.model.fleet import FleetView, NodeStanding, NodeState

STALE_S = 30.0
"""A picture older than this is no answer to "is the aggregator well": its loop makes one a second."""
SINCE = "since the aggregator started"
GAUGES = frozenset(
    {
        "anomaly_devices_compared",
        "anomaly_devices_odd",
        "anomaly_findings",
        "anomaly_services",
        "anomaly_services_crowded",
        "anomaly_services_learning",
        "streams",
    }
)
"""Counts of what is so now; all others only grow."""


class FleetPages:
    """Implements ``metrics_http.Pages`` of the fleet's newest picture, and ``targets`` beside it."""

    def __init__(
        self,
        view: Callable[[], FleetView],
        counters: Callable[[], Mapping[str, int]],
        now: Callable[[], float],
        version: str,
        services: Callable[[], ServicesView] | None = None,
    ) -> None:
        self._services = services
        self._view = view
        self._counters = counters
        self._now = now
        self._version = version

    def page(self, *, is_packed: bool = False) -> bytes:
        view, page = self._view(), Page()
        page.gauge("aggregator_info", "Always 1.", 1.0, labels((("version", self._version),)))
        _of_nodes(page, view)
        _of_the_whole(page, view, self._now())
        if self._services is not None:
            of_services(page, self._services())
        for name, count in sorted(self._counters().items()):
            is_now = name in GAUGES
            page.family(
                f"aggregator_{name}" if is_now else f"aggregator_{name}_total",
                "gauge" if is_now else "counter",
                f"{name.replace('_', ' ').capitalize()} {'now' if is_now else SINCE}.",
            ).add("", count)
        text = page.render()
        return gzip.compress(text, 1) if is_packed else text

    def health(self) -> str:
        age_s = self._now() - self._view().at
        if age_s > STALE_S:
            raise Unavailable(f"no picture of the fleet for {age_s:.0f} s: its loop hangs")
        return "ok"

    def ready(self, name: str) -> tuple[bool, bytes] | None:
        """Services are on nodes; here nobody is called so."""
        return None

    def targets(self) -> bytes:
        """Prometheus' HTTP service discovery: one group a node, silent ones too, so that their absence shows.
        A node whose page others cannot reach is left out, and counted on the metrics page."""
        found = [
            {"targets": [node.greeting.metrics_address], "labels": _of_target(node)}
            for node in self._view().nodes
            if node.greeting.metrics_address
        ]
        return json.dumps(found, ensure_ascii=True).encode("ascii") + b"\n"


def _of_target(node: NodeStanding) -> dict[str, str]:
    """``node`` and ``group`` stay on every series; the rest is for relabelling."""
    greeting = node.greeting
    said = {
        "node": greeting.node,
        "group": greeting.group,
        "__meta_gpuwarden_state": node.state.value,
        "__meta_gpuwarden_version": greeting.agent_version,
    }
    for kind, name in greeting.domains:
        word = "".join(c if c.isascii() and c.isalnum() else "_" for c in kind)
        said[f"__meta_gpuwarden_domain_{word}"] = name
    return said


def _of_nodes(page: Page, view: FleetView) -> None:
    groups: Counter[tuple[str, NodeState]] = Counter(
        (node.greeting.group, node.state) for node in view.nodes
    )
    nodes = page.family("fleet_nodes", "gauge", "Nodes by group and state.")
    for group in sorted({group for group, _ in groups}):
        for state in NodeState:
            said = labels((("group", group), ("state", state.value)))
            nodes.add(said, groups[group, state])
    for name, text, count in (
        ("connected", "Nodes with an open stream.", sum(n.is_connected for n in view.nodes)),
        (
            "unscraped",
            "Nodes whose metrics page is served on that host alone: /sd cannot name them.",
            sum(not n.greeting.metrics_address for n in view.nodes),
        ),
        (
            "events_dropped",
            "Events that nodes could not keep until they were acknowledged.",
            sum(n.events_dropped for n in view.nodes),
        ),
        (
            "incidents_open",
            "Open incidents, as nodes last told.",
            sum(n.report.incidents_open for n in view.nodes if n.report is not None),
        ),
    ):
        page.gauge(f"fleet_{name}", text, count)


def _of_the_whole(page: Page, view: FleetView, now: float) -> None:
    page.gauge("fleet_view_age_seconds", "Age of the newest picture.", max(0.0, now - view.at))
    page.gauge("fleet_epoch", "Fencing epoch of permits.", view.epoch)
    page.gauge("fleet_permits_held", "Permits that nodes hold now.", view.permits_held)
    page.gauge("fleet_permits_frozen", "1 while nobody gets leave.", bool(view.frozen))
    claims = page.family(
        "fleet_claim", "gauge", "Claims about the fleet as a whole, 1 while one stands."
    )
    for claim in view.claims:
        severity = Severity(claim.severity).name.lower()
        claims.add(f'claim="{label(claim.key)}",severity="{severity}"', 1)
