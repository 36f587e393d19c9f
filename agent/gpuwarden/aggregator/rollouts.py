"""Rollouts and experiments at the aggregator: one pass a second reads what services say, takes each rollout a step
on, counts each experiment's new periods, and has the shares told. Who does not lead only shows them.
"""

import asyncio
import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace

from gpuwarden.aggregator.campaigns import Campaigns
from gpuwarden.aggregator.experiments import Experiments
from gpuwarden.aggregator.judges import Judges
from gpuwarden.aggregator.numbers import Numbers
from gpuwarden.aggregator.share_desk import ShareDesk
from gpuwarden.clock import Clock
from gpuwarden.config_ramp import RampConfig
from gpuwarden.errors import GpuwardenError, Refused
from gpuwarden.log import get_log
from gpuwarden.model.ramp import (
    OVER,
    ArmShare,
    CampaignState,
    Experiment,
    Freeze,
    Ramp,
    Shares,
    Stage,
    Way,
)
from gpuwarden.policy.fleet import calm, ramp, split
from gpuwarden.policy.fleet.calm import Air
from gpuwarden.policy.fleet.ramp import Back, Look
from gpuwarden.policy.rollback import How
from gpuwarden.ports_evaluation import Document, Documents
from gpuwarden.wire.convert_rollout import from_body, to_body

RAMP = "rollout"
LOOK_S = 1.0
BASE_ARM, NEW_ARM = "base", "new"
OWN = "gpuwarden"
KEEP_S = 30.0
"""How often what only counts on is put on disk: so much of a soak is lost with an aggregator, at most."""


class Rollouts:
    """``keep`` lives as long as the aggregator; the rest blocks and is for ``to_thread``."""

    def __init__(
        self,
        cfg: RampConfig,
        documents: Documents,
        desk: ShareDesk,
        campaigns: Campaigns,
        numbers: Numbers,
        judges: Judges,
        clock: Clock,
        leads: Callable[[], bool],
    ) -> None:
        self.cfg = cfg
        self.desk = desk
        self.experiments = Experiments(cfg, documents, desk, numbers, judges, clock)
        self.campaigns = campaigns
        self._documents = documents
        self._numbers = numbers
        self._judges = judges
        self._clock = clock
        self._leads = leads
        self._air = Air()
        self._live: dict[str, tuple[int, Ramp]] = {}
        """By service, the revision of its document and how far it has come since that was written."""
        self.failures = 0
        self.conflicts = 0
        """Writes that another aggregator, or a person, was before: the next pass reads theirs."""

    async def keep(self) -> None:
        """For ever."""
        while True:
            leads = self._leads()
            for is_own in (True, False):
                try:
                    if is_own:
                        await asyncio.to_thread(self.look, leads)
                    else:
                        await self.campaigns.look(leads=leads)
                except Refused as error:
                    self.conflicts += 1
                    get_log().info("rollouts_conflict", reason=str(error))
                except Exception as error:  # noqa: BLE001  the boundary: the next pass sees the same again
                    self.failures += 1
                    get_log().error("rollouts_failed", reason=repr(error))
            await asyncio.sleep(LOOK_S)

    @property
    def is_leading(self) -> bool:
        return self._leads()

    def attach(self, numbers: Numbers) -> None:
        """Whoever knows what services say; before the first pass."""
        self._numbers = numbers
        self.experiments.attach(numbers)

    # --- what people ask ---

    def ramps(self, service: str = "") -> list[Ramp]:
        """As far as this aggregator has taken each; one that does not lead tells what is on disk."""
        found = []
        for document in self._documents.every(RAMP):
            revision, live = self._live.get(document.key, (0, None))
            is_ours = live is not None and revision == document.revision
            found.append(live if live is not None and is_ours else from_body(Ramp, document.body))
        return [each for each in found if service in ("", each.service)]

    def start(
        self, service: str, version: str, base: str, way: Way, may_undo: bool | None, who: str
    ) -> Ramp:
        """A version begins with nothing. ``Refused`` while another one is on its way, or while shares are frozen."""
        if not service or not version or not base or version == base:
            raise Refused("expected a service, a version, and another version before it")
        document = self._documents.get(RAMP, service)
        known = None if document is None else from_body(Ramp, document.body)
        if known is not None and known.stage not in OVER:
            raise Refused(f"{known.version} of {service} is on its way ({known.stage.value})")
        frozen = calm.holds(self.desk.freezes(), service)
        if frozen:
            raise Refused(f"shares are {frozen}")
        now_s = self.desk.beat(leads=self._leads())
        self._arms(service, base, version, now_s, who)
        fresh = Ramp(
            id=secrets.token_hex(6),
            service=service,
            version=version,
            base=base,
            way=way,
            since_s=now_s,
            looked_s=now_s,
            may_undo=self.cfg.may_undo if may_undo is None else may_undo,
        )
        self._put(RAMP, service, to_body(fresh), who, document)
        if way is Way.GATEKEEPER:
            arms = (
                ArmShare(arm=BASE_ARM, version=base, share=1.0 - self.cfg.first),
                ArmShare(arm=NEW_ARM, version=version, share=self.cfg.first),
            )
            self.experiments.create(service, fresh.id, arms, who, None)
        get_log().info("rollout_started", service=service, version=version, way=way.value, by=who)
        return fresh

    def _arms(self, service: str, base: str, version: str, now_s: float, who: str) -> None:
        """Both arms are there, the new one with nothing where it has nothing yet."""
        known = self.desk.now(service)
        if known is None:
            arms = (
                ArmShare(arm=BASE_ARM, version=base, share=1.0),
                ArmShare(arm=NEW_ARM, version=version, share=0.0),
            )
        else:
            told = known[0]
            full = [each for each in told.arms if each.share >= 1.0 - 1e-9]
            if len(full) != 1:
                raise Refused(
                    f"the traffic of {service} is still shared out: one arm has to have all of it"
                )
            # The arm that has all is the base from now on, whatever it was called before.
            names = (BASE_ARM, NEW_ARM) if full[0].arm == BASE_ARM else (NEW_ARM, BASE_ARM)
            arms = (
                ArmShare(arm=names[0], version=base, share=1.0),
                ArmShare(arm=names[1], version=version, share=0.0),
            )
        self.desk.set(service, arms, who=who, why=f"rollout of {version} begins", now_s=now_s)

    def steer(self, service: str, verb: str, who: str, reason: str) -> Ramp:
        """Pause, resume or abort. ``Refused`` where there is nothing to."""
        document = self._documents.get(RAMP, service)
        if document is None:
            raise Refused(f"no rollout of {service[:80]}")
        now = from_body(Ramp, document.body)
        if now.stage in OVER:
            raise Refused(f"the rollout of {now.version} is over ({now.stage.value})")
        if verb == "pause":
            now = replace(now, is_paused=True, paused_by=who)
        elif verb == "resume":
            now = replace(now, is_paused=False, paused_by="")
        elif verb == "abort":
            now = replace(now, is_wanted_back=True, why=f"{who}: {reason or 'no reason given'}")
        else:
            raise Refused(f"expected pause, resume or abort, got {verb[:40]}")
        self._put(RAMP, service, to_body(now), who, document)
        return now

    def freeze(self, service: str, is_on: bool, for_s: float, who: str, reason: str) -> Freeze:
        now_s = self.desk.beat(leads=self._leads())
        until = now_s + for_s if is_on and for_s else 0.0
        word = Freeze(
            service=service, is_on=is_on, by=who, why=reason, since_s=now_s, until_s=until
        )
        return self.desk.freeze(word, who)

    def experiment(
        self, service: str, ident: str, arms: Sequence[ArmShare], who: str
    ) -> Experiment:
        now_s = self.desk.beat(leads=self._leads())
        return self.experiments.create(service, ident, arms, who, now_s)

    def set_shares(self, service: str, arms: Sequence[ArmShare], who: str, reason: str) -> Shares:
        """By hand, and within what every arm may move a day."""
        now_s = self.desk.beat(leads=self._leads())
        return self.desk.set(service, arms, who=who, why=reason, now_s=now_s)

    # --- one pass ---

    def look(self, leads: bool) -> None:
        now_s = self.desk.beat(leads=leads)
        if not leads:
            return
        self._environment(now_s)
        self.experiments.count()
        for document in self._documents.every(RAMP):
            try:
                self._step(document, now_s)
            except GpuwardenError as error:
                self.conflicts += 1
                get_log().warning("rollout_waits", service=document.key, reason=str(error))

    def _environment(self, now_s: float) -> None:
        freezes = self.desk.freezes()
        before = freezes.get("", Freeze())
        air = calm.recalled(self._air, before, now_s)
        self._air, why = calm.told(self.cfg, air, self._numbers.weather(now_s))
        after = calm.frozen(self.cfg, before, self._air, why, now_s)
        if after.is_on != before.is_on:
            self.desk.freeze(after, OWN)
        for service, each in freezes.items():
            if service and each.is_on and 0 < each.until_s <= now_s:
                self.desk.freeze(replace(each, is_on=False, why="its time is over"), OWN)

    def _step(self, document: Document, now_s: float) -> None:
        before = from_body(Ramp, document.body)
        if before.stage is Stage.DONE:
            return
        revision, live = self._live.get(before.service, (0, before))
        kept_s, before = before.looked_s, live if revision == document.revision else before
        known = self.desk.now(before.service)
        told = None if known is None else known[0]
        if before.stage is Stage.UNDONE and (told is None or self._new(told, before) <= 0.0):
            return
        look = self._look(before, told, now_s)
        after = ramp.step(self.cfg, before, look)
        if after.stage is Stage.UNDOING and not after.campaign:
            after = replace(after, campaign=self._begin(after))
        revision = document.revision
        if _is_told(before, after) or now_s - kept_s >= KEEP_S:
            revision = self._put(RAMP, after.service, to_body(after), OWN, document)
        self._live[after.service] = (revision, after)
        if after.stage is not before.stage:
            get_log().warning(
                "rollout_stage",
                service=after.service,
                version=after.version,
                stage=after.stage.value,
                why=after.why,
            )
        share = ramp.wanted(self.cfg, after, look)
        if share is not None and told is not None:
            self._move(after, told, share, now_s)

    def _look(self, now: Ramp, told: Shares | None, now_s: float) -> Look:
        arm = _arm_of(told, now)
        word, why = self._numbers.word(now.service, now.version, arm)
        look = Look(
            now_s=now_s,
            word=word,
            why=why,
            share=0.0 if told is None else told.of(arm),
            is_frozen=bool(calm.holds(self.desk.freezes(), now.service)),
        )
        if now.stage is Stage.BREACHED:
            found = self._numbers.cause(now.service, now.version)
            look = replace(look, is_gpu=found.is_gpu, cause=found.summary)
        if now.stage is Stage.UNDOING and now.campaign:
            look = replace(look, back=self._back(now))
        return self._tested(now, look) if now.way is Way.GATEKEEPER else look

    def _tested(self, now: Ramp, look: Look) -> Look:
        found = self.experiments.of(now.service)
        if found is None or found.id != now.id:
            return look
        if not split.is_readable(found):
            return replace(look, is_trusted=False)
        arms = {each.arm: each for each in found.arms}
        base, new = arms.get(BASE_ARM), arms.get(NEW_ARM)
        if base is None or new is None or not base.units or not new.units:
            return look
        look = replace(look, test=self._judges.trial(base, new, self.cfg.alpha))
        weighed = self._judges.weights(base, new, self.cfg.floor, found.looks)
        return look if weighed is None else replace(look, weights=weighed[0], sure=weighed[1])

    def _begin(self, now: Ramp) -> str:
        """The rollback of its containers; by the rollout's own id, so that who was killed here begins no second."""
        how = How.ASKED if now.is_wanted_back else How.AUTO
        begun = self.campaigns.begin(
            now.service, now.base, how, "rollout", now.why or "a guardrail is red", f"ro-{now.id}"
        )
        return begun.id

    def _back(self, now: Ramp) -> Back:
        found = self.campaigns.of(now.service)
        if found is None or found.id != now.campaign:
            return Back.NONE
        return {
            CampaignState.RUNNING: Back.RUNNING,
            CampaignState.DONE: Back.DONE,
            CampaignState.HALTED: Back.FAILED,
        }[found.state]

    def _new(self, told: Shares, now: Ramp) -> float:
        return told.of(_arm_of(told, now))

    def _move(self, now: Ramp, told: Shares, share: float, now_s: float) -> None:
        arm = _arm_of(told, now)
        others = {each.arm: each.share for each in told.arms if each.arm != arm}
        total = sum(others.values())
        rest = {
            name: (1.0 - share) * (has / total if total > 0 else 1.0 / len(others))
            for name, has in others.items()
        }
        why = f"rollout of {now.version}: {now.stage.value}"
        self.desk.move(now.service, {arm: share, **rest}, who=OWN, why=why, now_s=now_s)

    def _put(self, kind: str, key: str, body: bytes, who: str, before: Document | None) -> int:
        """The new revision."""
        after = 0 if before is None else before.revision
        wall = self._clock.wall()
        return self._documents.put(kind, key, body, who=who, wall=wall, after=after).revision


def _arm_of(told: Shares | None, now: Ramp) -> str:
    """Which arm the version has."""
    if told is None:
        return NEW_ARM
    return next((each.arm for each in told.arms if each.version == now.version), NEW_ARM)


def _is_told(before: Ramp, after: Ramp) -> bool:
    """Whether a step is worth a line on disk at once: what only counts on is kept now and then."""
    return after != replace(before, held_s=after.held_s, looked_s=after.looked_s, why=after.why)
