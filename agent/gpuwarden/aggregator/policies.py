"""The fleet's policies at the aggregator: kept as they were signed, rolled out, delivered; it cannot make any.

Touched by the event loop's thread alone. Several aggregators on one store each deliver to their own nodes; whoever
is first moves a roll-out on, and the others read that.
"""

import asyncio
import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from gpuwarden.aggregator.committer import Committer
from gpuwarden.aggregator.ingest import Ingest
from gpuwarden.aggregator.loop import Fleet
from gpuwarden.aggregator.store import KeptPolicy, Store
from gpuwarden.clock import Clock
from gpuwarden.config_aggregator import PolicyConfig
from gpuwarden.errors import Refused
from gpuwarden.log import get_log
from gpuwarden.model.fleet import FleetClaim, Identity, NodeStanding, NodeState
from gpuwarden.model.policy import (
    Before,
    Drift,
    Policy,
    PolicyHead,
    PolicyReport,
    PolicyStanding,
    Rollout,
    RolloutState,
    Stage,
)
from gpuwarden.policy.fleet import drift, rollout
from gpuwarden.wire.v1 import fleet_pb2 as pb

LOOK_S = 1.0
REFRESH_S = 5.0
COMMIT_S = 10.0
RESEND_S = 60.0
REFUSED_S = 600.0
"""What a node has refused it is sent again now and then: its disk, or its own files, may have been the reason."""
KEPT_MAX = 100
"""The newest so many are known; going back reaches so far."""
LOST = frozenset({NodeState.SILENT, NodeState.BLIND})


class Policies:
    """``keep`` lives as long as the aggregator; ``publish`` and ``steer`` are what people ask."""

    def __init__(
        self,
        cfg: PolicyConfig,
        fleet_name: str,
        store: Store,
        committer: Committer,
        clock: Clock,
        verify: Callable[[bytes], Policy],
    ) -> None:
        """``verify`` raises ``Refused`` for what none of the configured keys has signed."""
        self.cfg = cfg
        self.fleet_name = fleet_name
        self.verify = verify
        self._store = store
        self._committer = committer
        self._clock = clock
        self.known: dict[int, Policy] = {}
        self.kept: dict[int, KeptPolicy] = {}
        self.rollouts: dict[int, Rollout] = {}
        self.drifted: list[Drift] = []
        self._since: dict[str, float] = {}
        self._sent: dict[str, tuple[int, int, float]] = {}
        """By node: the stream, the version, and when."""
        self._read: dict[int, tuple[int, Rollout]] = {}
        self._refreshed_at = float("-inf")
        self._claims: tuple[FleetClaim, ...] = ()
        self._unusable: set[int] = set()
        self.fleet: Fleet | None = None
        self.ingest: Ingest | None = None
        """Who has the nodes and the streams; set before the first look."""
        self.delivered = 0
        self.failures = 0

    def claims(self) -> tuple[FleetClaim, ...]:
        """For the fleet's picture; any thread."""
        return self._claims

    @property
    def heads(self) -> dict[int, PolicyHead]:
        """Newest first."""
        return rollout.newest_first({v: policy.head for v, policy in self.known.items()})

    @property
    def digests(self) -> dict[int, str]:
        """Of what was published, by version."""
        return {version: policy.digest for version, policy in self.known.items()}

    def standings(self) -> list[PolicyStanding]:
        """The nodes, as roll-outs see them."""
        view = None if self.fleet is None else self.fleet.view
        return [] if view is None else [_standing(node) for node in view.nodes]

    async def keep(self) -> None:
        """For ever."""
        while True:
            try:
                await self.look()
            except Exception as error:  # noqa: BLE001  the boundary: the next look sees the same again
                self.failures += 1
                get_log().error("policies_failed", reason=repr(error))
            await asyncio.sleep(LOOK_S if self.known else REFRESH_S)

    async def look(self) -> None:
        """One pass: read, move roll-outs on, see who drifts, deliver."""
        now, wall = self._clock.now(), self._clock.wall()
        if now - self._refreshed_at >= REFRESH_S:
            await self.refresh()
        nodes = self.standings()
        for version, before in list(self.rollouts.items()):
            after = rollout.step(self.cfg, self.known[version].head, before, nodes, wall)
            if after != before:
                await self._move(after, "the aggregator")
        self._judge(nodes, now, wall)
        self._deliver(now)

    async def refresh(self) -> None:
        """What the store has, by whomever it was put there."""
        kept = await asyncio.to_thread(self._store.policies, KEPT_MAX)
        for each in kept:
            if each.version not in self.known and each.version not in self._unusable:
                bundle = await asyncio.to_thread(self._store.policy_bundle, each.version)
                self._learn(each.version, bundle or b"")
        self._read = {v: (each.serial, self.rollouts[v]) for v, each in self.kept.items()}
        self.kept = {each.version: each for each in kept if each.version in self.known}
        self.known = {version: self.known[version] for version in self.kept}
        self.rollouts = {version: self._rollout_of(each) for version, each in self.kept.items()}
        self._refreshed_at = self._clock.now()

    def _rollout_of(self, kept: KeptPolicy) -> Rollout:
        """Read once: one that runs holds a line for every node."""
        serial, known = self._read.get(kept.version, (-1, None))
        return known if known is not None and serial == kept.serial else rollout_of(kept.rollout)

    def _learn(self, version: int, bundle: bytes) -> None:
        """A store that was written to by somebody else does not make a policy."""
        try:
            policy = self.verify(bundle)
            if policy.head.version != version:
                raise Refused(f"it is version {policy.head.version}")
        except Refused as refused:
            self._unusable.add(version)
            get_log().error("policy_unusable", version=version, reason=str(refused))
            return
        self.known[version] = policy

    def _judge(self, nodes: Sequence[PolicyStanding], now: float, wall: float) -> None:
        heads = self.heads
        self.drifted = drift.drifts(heads, self.rollouts, nodes, wall, self.digests)
        names = {each.node for each in self.drifted}
        self._since = {name: self._since.get(name, now) for name in names}
        self._claims = drift.claims(
            self.cfg, heads, self.rollouts, self.drifted, self._since, len(nodes), now, wall
        )

    def _deliver(self, now: float) -> None:
        """So many a pass: each is up to 128 KiB, and a fleet has thousands of nodes."""
        ingest = self.ingest
        if ingest is None:
            return
        left = self.cfg.deliveries_per_s
        for node in self.drifted:
            version, stream = node.wanted, ingest.streams.by_node.get(node.node)
            if stream is None or left <= 0 or version <= node.version:
                continue
            number, sent, at = self._sent.get(node.node, (0, 0, 0.0))
            again_s = REFUSED_S if node.state == "refused" else RESEND_S
            if (number, sent) == (stream.number, version) and now - at < again_s:
                continue
            self._sent[node.node] = (stream.number, version, now)
            directive = pb.Directive(policy_version=version, policy=self.known[version].bundle)
            if ingest.direct(node.node, directive):
                self.delivered += 1
                left -= 1

    async def publish(
        self, policy: Policy, stages: Sequence[Stage], soak_s: float, who: str
    ) -> None:
        """On disk when this returns. ``Refused`` when it is not newer than every other."""
        await self.refresh()
        wall, head = self._clock.wall(), policy.head
        fresh = rollout.begun(head, stages, soak_s, self.standings(), wall)
        older = [
            (rollout.superseded(each, head.version), self.kept[version].serial)
            for version, each in self.rollouts.items()
        ]
        kept = KeptPolicy(
            version=head.version,
            wall=wall,
            who=who,
            rollout=rollout_text(fresh),
            bundle=policy.bundle,
        )
        verb = f"policy roll back to {head.restores}" if head.restores else "policy publish"

        def deed(store: Store) -> None:
            store.add_policy(kept)
            for each, serial in older:
                store.move_policy(each.version, rollout_text(each), serial)
            store.audit(wall, who, verb, f"version {head.version} {policy.digest} {head.note}")

        await asyncio.wait_for(asyncio.wrap_future(self._committer.do(deed)), COMMIT_S)
        get_log().info("policy_published", version=head.version, by=who)
        await self.refresh()

    async def steer(self, version: int, *, is_halt: bool, reason: str, who: Identity) -> Rollout:
        """Halt a roll-out, or let it go on. ``Refused`` when there is none that could."""
        await self.refresh()
        version = version or max(self.rollouts, default=0)
        before = self.rollouts.get(version)
        if before is None:
            raise Refused(f"no policy {version} was published")
        by = f"{who.name} ({who.role})"
        if is_halt and before.state is RolloutState.RUNNING:
            return await self._move(rollout.halted(before, reason or f"by {by}"), by)
        if not is_halt and before.state is RolloutState.HALTED:
            head = self.known[version].head
            fresh = rollout.resumed(head, before, self.standings(), self._clock.wall())
            self._sent.clear()  # who has refused it is given it anew
            return await self._move(fresh, by)
        raise Refused(f"the roll-out of policy {version} is {before.state.value}")

    async def _move(self, after: Rollout, who: str) -> Rollout:
        """Keep where a roll-out is now; where somebody else was first, theirs counts."""
        before, serial = self.rollouts[after.version], self.kept[after.version].serial
        wall = self._clock.wall()
        is_told = (before.state, before.released) != (after.state, after.released)

        def deed(store: Store) -> bool:
            is_ours = store.move_policy(after.version, rollout_text(after), serial)
            if is_ours and is_told:
                detail = f"version {after.version} stage {after.released}/{len(after.stages)}"
                store.audit(wall, who, f"rollout {after.state.value}", f"{detail} {after.why}")
            return is_ours

        future = asyncio.wrap_future(self._committer.do(deed))
        if not await asyncio.wait_for(future, COMMIT_S):
            await self.refresh()
            return self.rollouts[after.version]
        self.rollouts[after.version] = after
        kept = self.kept[after.version]
        self.kept[after.version] = replace(kept, serial=kept.serial + 1)
        if is_told:
            get_log().info(
                "rollout",
                version=after.version,
                state=after.state.value,
                stage=after.released,
                why=after.why,
            )
        return after


def _standing(node: NodeStanding) -> PolicyStanding:
    report = node.report
    return PolicyStanding(
        node=node.greeting.node,
        group=node.greeting.group,
        is_connected=node.is_connected,
        is_lost=node.state in LOST,
        report=node.policy or PolicyReport(version=node.greeting.policy_version),
        findings=None if report is None else report.findings,
        withheld=None if report is None else report.withheld,
    )


def rollout_text(each: Rollout) -> str:
    return json.dumps(dataclasses.asdict(each))


def rollout_of(text: str) -> Rollout:
    said: dict[str, Any] = json.loads(text)
    return Rollout(
        **{
            **said,
            "state": RolloutState(said["state"]),
            "stages": tuple(
                Stage(groups=tuple(each["groups"]), percent=each["percent"])
                for each in said["stages"]
            ),
            "before": tuple(Before(**each) for each in said["before"]),
        }
    )
