"""The shares that the operator's router is told, and the one gate that all of them go through: a rollout's, a bandit's,
a person's. How far an arm may move is judged by every split that was ever told, so that a restart, another
aggregator, or a clock that is set, gives nobody a second day."""

from collections.abc import Callable, Mapping, Sequence

from gpuwarden.clock import Clock
from gpuwarden.errors import Refused
from gpuwarden.log import get_log
from gpuwarden.model.ramp import ArmShare, Freeze, Shares, Steady
from gpuwarden.policy.fleet import calm, shares
from gpuwarden.ports_evaluation import Document, Documents
from gpuwarden.wire.convert_rollout import from_body, to_body

KIND, STEADY, FREEZE = "shares", "steady", "freeze"
FLEET = "fleet"
HISTORY = 1000
BEAT_S = 60.0
"""How often the steady clock is put on disk: at most so much of a day is counted twice after a kill."""
LEAST = 0.005
"""A rollout or a bandit that would move every arm by less tells nothing new."""
EVERYWHERE = "*"
"""The key under which the freeze of all services is kept."""

Tell = Callable[[Shares], None]


class ShareDesk:
    """Blocks while it writes; any one thread at a time."""

    def __init__(self, documents: Documents, clock: Clock, tell: Tell = lambda told: None) -> None:
        """``tell``: whoever hands what was told to routers; it is on disk by then."""
        self._documents = documents
        self._clock = clock
        self._tell = tell
        self._base = 0.0
        self._since: float | None = None
        self._beaten_at = float("-inf")

    # --- the steady clock ---

    def beat(self, *, leads: bool) -> float:
        """Seconds of the fleet's steady clock. Only who leads moves it on; a leader that was stopped and wakes late
        finds its document written by the next one, and takes that."""
        now = self._clock.now()
        if not leads:
            self._since = None
            return self._read().steady_s
        if self._since is None:
            self._base, self._since, self._beaten_at = self._read().steady_s, now, now
            return self._base
        steady = self._base + (now - self._since)
        if now - self._beaten_at >= BEAT_S:
            try:
                document = self._documents.get(STEADY, FLEET)
                kept = 0.0 if document is None else from_body(Steady, document.body).steady_s
                steady = max(steady, kept)
                self._put(STEADY, FLEET, to_body(Steady(steady_s=steady)), "gpuwarden", document)
                self._beaten_at = now
            except Refused:
                self._since = None
        return steady

    def _read(self) -> Steady:
        document = self._documents.get(STEADY, FLEET)
        return Steady() if document is None else from_body(Steady, document.body)

    # --- shares ---

    def now(self, service: str) -> tuple[Shares, Document] | None:
        """What was told last; None: nothing ever."""
        document = self._documents.get(KIND, service)
        return None if document is None else (from_body(Shares, document.body), document)

    def every(self) -> list[Shares]:
        """The present split of every service."""
        return [from_body(Shares, document.body) for document in self._documents.every(KIND)]

    def history(self, service: str) -> list[Shares]:
        """Every split that counts for the cap. ``Refused`` when there were so many within a day that the first
        are not to be had."""
        documents = self._documents.history(KIND, service, HISTORY)
        told = [from_body(Shares, document.body) for document in documents]
        if len(told) >= HISTORY:
            span = max(s.steady_s for s in told) - min(s.steady_s for s in told)
            if span < shares.DAY_S:
                raise Refused(f"the shares of {service} were told {HISTORY} times within a day")
        return told

    def set(
        self, service: str, arms: Sequence[ArmShare], *, who: str, why: str, now_s: float
    ) -> Shares:
        """By hand: exactly these. ``Refused`` where they are no split, somebody has frozen them, or an arm would
        move too far."""
        wrong = shares.faults(arms)
        frozen = calm.holds(self.freezes(), service)
        if frozen:
            wrong.append(f"the shares of {service} are {frozen}")
        document = self._documents.get(KIND, service)
        told = self.history(service) if document is not None else []
        wrong = wrong or shares.too_far(told, arms, now_s)
        if wrong:
            raise Refused("; ".join(wrong[:8]))
        return self._write(service, tuple(arms), why, who, now_s, document)

    def move(
        self,
        service: str,
        wanted: Mapping[str, float],
        *,
        who: str,
        why: str,
        now_s: float,
        versions: Mapping[str, str] | None = None,
    ) -> Shares:
        """By a rollout or a bandit: as far towards these as every arm may go now. What was told last, where that
        is no step worth telling."""
        document = self._documents.get(KIND, service)
        if document is None:
            raise Refused(f"{service} has no shares to move")
        present = from_body(Shares, document.body)
        if calm.holds(self.freezes(), service):
            return present
        to = shares.toward(self.history(service), wanted, now_s)
        versions = {**{each.arm: each.version for each in present.arms}, **(versions or {})}
        arms = tuple(
            ArmShare(arm=arm, version=versions.get(arm, ""), share=share)
            for arm, share in to.items()
        )
        far = max(abs(each.share - present.of(each.arm)) for each in arms)
        ends = any(to[arm] in (0.0, 1.0) and present.of(arm) != to[arm] for arm in to)
        if far < 1e-9 or (far < LEAST and not ends):
            return present
        return self._write(service, arms, why, who, now_s, document)

    def _write(
        self,
        service: str,
        arms: tuple[ArmShare, ...],
        why: str,
        who: str,
        now_s: float,
        before: Document | None,
    ) -> Shares:
        told = Shares(service=service, arms=arms, steady_s=now_s, why=why)
        self._put(KIND, service, to_body(told), who, before)
        said = ", ".join(f"{each.arm} {each.share:.1%}" for each in arms)
        get_log().info("shares", service=service, by=who, shares=said, why=why)
        self._tell(told)
        return told

    # --- freezes ---

    def freezes(self) -> dict[str, Freeze]:
        """By service; the empty one is of all."""
        found = [from_body(Freeze, document.body) for document in self._documents.every(FREEZE)]
        return {each.service: each for each in found}

    def freeze(self, freeze: Freeze, who: str) -> Freeze:
        """On disk when this returns."""
        key = freeze.service or EVERYWHERE
        document = self._documents.get(FREEZE, key)
        self._put(FREEZE, key, to_body(freeze), who, document)
        get_log().info(
            "shares_frozen" if freeze.is_on else "shares_thawed",
            service=freeze.service or "all",
            by=freeze.by,
            why=freeze.why,
        )
        return freeze

    def _put(self, kind: str, key: str, body: bytes, who: str, before: Document | None) -> None:
        after = 0 if before is None else before.revision
        self._documents.put(kind, key, body, who=who, wall=self._clock.wall(), after=after)
