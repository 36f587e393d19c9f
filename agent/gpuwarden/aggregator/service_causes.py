"""Why a service is red: which nodes make it so, which say so themselves, and what the GPUs have to do with it.

On the services' thread, where the picture is; incidents of nodes are read from the store now and then.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from gpuwarden.aggregator.services import Services
from gpuwarden.aggregator.store import KeptIncident, Store
from gpuwarden.clock import Clock
from gpuwarden.errors import GpuwardenError
from gpuwarden.log import get_log
from gpuwarden.model.evaluation import Cohort, Colour, Verdict
from gpuwarden.policy.fleet.cause import LEAD_S, Cause, CauseKind, Trouble, cause_of
from gpuwarden.policy.fleet.fitness import Red, named
from gpuwarden.policy.fleet.parts import Part, carriers_of, parts_of
from gpuwarden.wire.v1 import node_pb2

FRESH_S = 5.0
"""So long an explanation stands, and what was read of incidents."""
INCIDENTS_MAX = 1000
EXPLAINED_MAX = 32
"""Of how many red verdicts nodes and cause are looked for in one pass: of a hundred the first say it."""
OBJECTIVE = "objective"
"""On a node a service's own objective takes the place of guardrails on its latency."""
BEFORE_S = 600.0
"""How much of the time before a breach is compared with."""
NEWEST = (1e12, "\U0010ffff", "\U0010ffff")


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """What is known of a verdict."""

    verdict: Verdict
    parts: tuple[Part, ...]
    said_by: frozenset[str]
    cause: Cause | None = None
    """None: it is not red."""
    narrative: str = ""


class Causes:
    """``red`` is what ``Services.explain`` is to be."""

    def __init__(
        self,
        services: Services,
        store: Store,
        clock: Clock,
        connected: Callable[[], Collection[str]],
    ) -> None:
        """``connected``: nodes that are heard now."""
        self._services = services
        self._store = store
        self._clock = clock
        self._connected = connected
        self._told: dict[tuple[str, Cohort], tuple[float, Red]] = {}
        self._troubles: tuple[Trouble, ...] = ()
        self._heard: frozenset[str] = frozenset()
        self._read_at = float("-inf")

    def red(self, verdict: Verdict) -> Red:
        """For a claim."""
        now, key = self._clock.now(), (verdict.guardrail, verdict.cohort)
        for old in [k for k, (at, _) in self._told.items() if now - at >= FRESH_S]:
            del self._told[old]
        known = self._told.get(key)
        if known is not None:
            return known[1]
        if len(self._told) >= EXPLAINED_MAX:
            return Red(verdict=verdict)
        found = self.explain(verdict)
        cause = found.cause
        red = Red(
            verdict=verdict,
            bad=tuple(part.node for part in found.parts if part.is_bad),
            said_by=found.said_by,
            cause=cause.summary if cause is not None and cause.is_gpu else "",
        )
        self._told[key] = (now, red)
        return red

    def explain(self, verdict: Verdict) -> Explained:
        """Of any verdict."""
        spec = self._services.specs.get(verdict.guardrail)
        subject = next((s for s in self._services.subjects if s.cohort == verdict.cohort), None)
        if spec is None or subject is None:
            return Explained(verdict=verdict, parts=(), said_by=frozenset())
        picture, wall = self._services.picture, self._clock.wall()
        recent = wall - spec.over_s - 2 * FRESH_S
        windows = picture.parts(subject.made_of, recent)
        shares = picture.shares(subject.made_of, recent)
        parts = tuple(parts_of(spec, verdict, windows, shares))
        said_by = self._said_by(verdict)
        if verdict.colour is not Colour.RED:
            return Explained(verdict=verdict, parts=parts, said_by=said_by)
        self._read()
        history = picture.shares(subject.made_of, verdict.since_wall - BEFORE_S)
        carriers = carriers_of(verdict, parts, history, self._heard)
        cause = cause_of(verdict, self._troubles, carriers)
        return Explained(
            verdict=verdict,
            parts=parts,
            said_by=said_by,
            cause=cause,
            narrative=narrative(verdict, parts, said_by, cause),
        )

    def _said_by(self, verdict: Verdict) -> frozenset[str]:
        """Nodes whose own verdict on the same is red. A node judges what it sees: a version is a version there."""
        spec, names = self._services.specs.get(verdict.guardrail), {verdict.guardrail}
        if spec is not None and "latency_s" in spec.expression:
            names.add(OBJECTIVE)
        return frozenset(
            node
            for node, verdicts in self._services.node_verdicts.items()
            if any(
                v.colour is Colour.RED
                and v.guardrail in names
                and v.cohort.service == verdict.cohort.service
                and verdict.cohort.version in ("", v.cohort.version)
                for v in verdicts.values()
            )
        )

    def _read(self) -> None:
        if self._clock.now() - self._read_at < FRESH_S:
            return
        try:
            kept = self._store.incidents(
                is_open_only=False, node="", rule="", limit=INCIDENTS_MAX, after=NEWEST
            )
        except GpuwardenError as error:
            get_log().warning("service_incidents_unread", reason=str(error))
            self._troubles, self._heard = (), frozenset()  # then nothing is ruled out
            return
        since = self._clock.wall() - LEAD_S - 86_400.0
        self._troubles = tuple(
            trouble
            for each in kept
            if each.opened_wall >= since and (trouble := trouble_of(each)) is not None
        )
        self._heard = frozenset(self._connected())
        self._read_at = self._clock.now()


def trouble_of(kept: KeptIncident) -> Trouble | None:
    """A node's incident as a cause may be; None: it cannot be read."""
    try:
        said = node_pb2.Incident.FromString(kept.payload)
    except DecodeError:
        return None
    return Trouble(
        node=kept.node,
        incident=kept.id,
        rule=kept.rule,
        opened_wall=kept.opened_wall,
        closed_wall=kept.closed_wall,
        device=said.device,
        tenant=said.tenant,
        tenant_name=said.tenant_name,
        summary=said.summary,
    )


def narrative(
    verdict: Verdict, parts: Collection[Part], said_by: Collection[str], cause: Cause
) -> str:
    """For people: what, of which version and segment, by how much, where, and why."""
    part = named(verdict.cohort)
    text = f"service {verdict.cohort.service}{f', {part}' if part else ''}: "
    text += f"{verdict.guardrail} is {verdict.colour.value}: {verdict.summary}"
    bad = [each for each in parts if each.is_bad]
    if bad:
        text += f". Of {len(parts)} nodes {len(bad)} {'is' if len(bad) == 1 else 'are'} bad"
        text += f", worst {bad[0].node} ({bad[0].value:.4g})"
    elif parts:
        text += f". No single one of {len(parts)} nodes breaks the limit"
    if said_by:
        names = sorted(said_by)
        text += f"; {', '.join(names[:3])} {'says' if len(names) == 1 else 'say'} so too"
    if cause.is_gpu:
        return f"{text}. GPU cause ({cause.kind.value}): {cause.summary}; no version is to blame"
    if cause.kind is CauseKind.UNKNOWN:
        return f"{text}. A GPU cause is not ruled out: {cause.summary}"
    if cause.kind is CauseKind.NONE:
        return f"{text}. GPU cause ruled out: {cause.summary}"
    return f"{text}. A GPU cause does not explain it: {cause.summary}"
