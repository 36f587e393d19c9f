"""PolicyService: people look at the fleet's policies, try one out, publish it, go back, halt and resume."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import grpc

from gpuwarden.aggregator.ingest import Ingest
from gpuwarden.aggregator.policies import Policies
from gpuwarden.clock import Clock
from gpuwarden.config import Config
from gpuwarden.config_policy import Tree, checked, parsed
from gpuwarden.errors import ConfigError, GpuwardenError, Refused, Unavailable
from gpuwarden.model.fleet import Identity
from gpuwarden.model.policy import Holding, Policy, PolicyHead, Touch
from gpuwarden.policy.fleet import difference, drift, preview, rollout
from gpuwarden.wire import convert_policy_query as convert
from gpuwarden.wire import fleet_check as check
from gpuwarden.wire.convert_fleet import SCHEMA_VERSION
from gpuwarden.wire.policy_text import SETTINGS_MAX_BYTES
from gpuwarden.wire.v1 import policy_pb2 as pb
from gpuwarden.wire.v1.policy_pb2_grpc import PolicyServiceServicer

NODES_AT_ONCE = 32
TOUCHES_MAX = 1000
CHANGES_MAX = 1000
DRIFTED_MAX = 1000


class MustConfirm(Refused):
    """Publishing it needs somebody's word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trial:
    """What a policy would change."""

    changes: list[Any]
    touches: list[Touch]
    holdings: list[Holding]
    unseen: int
    must_confirm: str


class PolicyDesk(PolicyServiceServicer):
    """Answers from what was published and from what nodes last reported."""

    def __init__(
        self,
        policies: Policies,
        ingest: Ingest,
        clock: Clock,
        identity_of: Callable[[Any], Identity],
    ) -> None:
        self._policies = policies
        self._ingest = ingest
        self._clock = clock
        self._identity_of = identity_of

    async def Policies(self, request: pb.PoliciesRequest, context: Any) -> pb.PoliciesResponse:
        policies = self._policies
        try:
            await policies.refresh()
        except GpuwardenError as error:
            await _end(context, error)
        nodes, wall = policies.standings(), self._clock.wall()
        heads, rollouts = policies.heads, policies.rollouts
        counts = {version: [0, 0] for version in heads}
        for node in nodes:
            version = rollout.wanted(heads, rollouts, node.node, node.group, wall)
            if version:
                counts[version][0] += 1
                counts[version][1] += node.report.version == version
        drifted = drift.drifts(heads, rollouts, nodes, wall, self._policies.digests)
        most = min(request.nodes_max or 100, DRIFTED_MAX)
        return pb.PoliciesResponse(
            schema_version=SCHEMA_VERSION,
            policies=[
                convert.to_published(
                    heads[version], kept.wall, kept.who, rollouts[version], *counts[version]
                )
                for version, kept in sorted(policies.kept.items(), reverse=True)
            ],
            drifted=[convert.to_drifted(each) for each in drifted[:most]],
            left_out=max(0, len(drifted) - most),
            nodes=len(nodes),
            current=len(nodes) - len(drifted),
        )

    async def PolicyText(
        self, request: pb.PolicyTextRequest, context: Any
    ) -> pb.PolicyTextResponse:
        try:
            await self._policies.refresh()
        except GpuwardenError as error:
            await _end(context, error)
        known = self._policies.known
        policy = known.get(request.version or max(known, default=0))
        if policy is None:
            text = f"no policy {request.version or ''} was published".replace("  ", " ")
            await context.abort(grpc.StatusCode.NOT_FOUND, text)
            raise AssertionError("abort() returned")
        return pb.PolicyTextResponse(schema_version=SCHEMA_VERSION, bundle=policy.bundle)

    async def PreviewPolicy(
        self, request: pb.PreviewPolicyRequest, context: Any
    ) -> pb.PreviewPolicyResponse:
        try:
            await self._policies.refresh()
            if request.bundle:
                policy = self._accepted(request.bundle)
                trial = await self._trial(policy.head.groups, policy.settings)
            else:
                check.length("groups", request.groups, convert.GROUPS_MAX)
                trial = await self._trial(tuple(request.groups), _text(request.settings))
        except GpuwardenError as error:
            await _end(context, error)
        return pb.PreviewPolicyResponse(
            schema_version=SCHEMA_VERSION,
            changes=[convert.to_change(each) for each in trial.changes[:CHANGES_MAX]],
            touches=[convert.to_touch(each) for each in trial.touches[:TOUCHES_MAX]],
            touches_left_out=max(0, len(trial.touches) - TOUCHES_MAX),
            nodes=len(trial.holdings),
            nodes_unseen=trial.unseen,
            must_confirm=trial.must_confirm,
        )

    async def PublishPolicy(
        self, request: pb.PublishPolicyRequest, context: Any
    ) -> pb.PublishPolicyResponse:
        try:
            await self._policies.refresh()
            policy = self._accepted(request.bundle)
            stages = convert.from_stages(request.stages) if request.stages else ()
            soak_s = check.number("soak_s", request.soak_s, 0.0, convert.SOAK_MAX_S)
            trial = await self._trial(policy.head.groups, policy.settings)
            if trial.must_confirm and not request.is_confirmed:
                raise MustConfirm(trial.must_confirm)
            await self._publish(policy, stages, soak_s or self._policies.cfg.soak_s, context)
        except (GpuwardenError, TimeoutError) as error:
            await _end(context, error)
        return pb.PublishPolicyResponse(schema_version=SCHEMA_VERSION, version=policy.head.version)

    async def RollBackPolicy(
        self, request: pb.RollBackPolicyRequest, context: Any
    ) -> pb.RollBackPolicyResponse:
        try:
            await self._policies.refresh()
            policy = self._accepted(request.bundle)
            self._goes_back(policy)
            await self._publish(policy, (), self._policies.cfg.soak_s, context)
        except (GpuwardenError, TimeoutError) as error:
            await _end(context, error)
        return pb.RollBackPolicyResponse(schema_version=SCHEMA_VERSION, version=policy.head.version)

    async def SteerRollout(
        self, request: pb.SteerRolloutRequest, context: Any
    ) -> pb.SteerRolloutResponse:
        try:
            check.text("reason", request.reason, 400)
            now = await self._policies.steer(
                request.version,
                is_halt=request.is_halt,
                reason=request.reason,
                who=self._identity_of(context),
            )
        except (GpuwardenError, TimeoutError) as error:
            await _end(context, error)
        return pb.SteerRolloutResponse(
            schema_version=SCHEMA_VERSION, version=now.version, state=now.state.value
        )

    async def _publish(
        self, policy: Policy, stages: Sequence[Any], soak_s: float, context: Any
    ) -> None:
        who = self._identity_of(context)
        await self._policies.publish(policy, stages, soak_s, f"{who.name} ({who.role})")

    def _accepted(self, bundle: bytes) -> Policy:
        """A bundle that could be published; ``Refused`` says why it could not."""
        policy = self._policies.verify(bundle)
        head = policy.head
        if head.fleet != self._policies.fleet_name:
            raise Refused(f"it is for the fleet {head.fleet}, this is {self._policies.fleet_name}")
        if self._clock.wall() >= head.not_after_wall:
            raise Refused("it has run out already")
        newest = max(self._policies.kept, default=0)
        if head.version <= newest:
            raise Refused(f"version {head.version} is not after {newest}, which was published")
        return policy

    def _goes_back(self, policy: Policy) -> None:
        """``Refused`` unless it brings back what was in force before, and nothing else."""
        head = policy.head
        old = self._policies.known.get(head.restores)
        if old is None:
            raise Refused(f"it restores policy {head.restores}, which is not known here")
        if (old.settings, old.head.groups) != (policy.settings, head.groups):
            raise Refused(f"it does not say what policy {head.restores} said")

    async def _trial(self, groups: tuple[str, ...], settings: str) -> _Trial:
        policies, wall = self._policies, self._clock.wall()
        tree, policy = checked(settings)
        nodes = policies.standings()
        base = drift.in_force(policies.heads, policies.rollouts, groups, nodes, wall)
        before_tree, before = self._settings(base)
        holdings, unseen = await self._holdings(groups)
        said = difference.said(tree)
        touches = await asyncio.to_thread(preview.touches, policy, before, said, holdings)
        return _Trial(
            changes=difference.changes(before_tree, tree),
            touches=touches,
            holdings=holdings,
            unseen=unseen,
            must_confirm=preview.must_confirm(policies.cfg, touches, holdings),
        )

    def _settings(self, version: int) -> tuple[Tree, Config | None]:
        policy = self._policies.known.get(version)
        if policy is None:
            return {}, None
        try:
            return checked(policy.settings)
        except ConfigError:  # published by another version of the program
            return parsed(policy.settings), None

    async def _holdings(self, groups: tuple[str, ...]) -> tuple[list[Holding], int]:
        """What the nodes of these groups hold, and of how many nothing is known now."""
        probe = PolicyHead(version=1, fleet="", groups=groups, issued_wall=0.0, not_after_wall=0.0)
        fleet = self._policies.fleet
        found, unseen = [], 0
        for number, node in enumerate(() if fleet is None else fleet.view.nodes):
            if number % NODES_AT_ONCE == 0:
                await asyncio.sleep(0)  # streams are served in between
            name, group = node.greeting.node, node.greeting.group
            if not rollout.is_for(probe, group):
                continue
            sample = self._ingest.shown(name)
            if sample is None:
                unseen += 1
            else:
                found.append(convert.holding_of(name, group, sample.mode, sample))
        return found, unseen


def _text(settings: bytes) -> str:
    if len(settings) > SETTINGS_MAX_BYTES:
        raise Refused(f"settings: {len(settings)} bytes, at most {SETTINGS_MAX_BYTES}")
    try:
        return settings.decode()
    except UnicodeDecodeError as error:
        raise Refused("settings: not UTF-8") from error


async def _end(context: Any, error: GpuwardenError | TimeoutError) -> NoReturn:
    """The call ends with what the error means to the caller."""
    code = grpc.StatusCode.INVALID_ARGUMENT
    if isinstance(error, MustConfirm):
        code = grpc.StatusCode.FAILED_PRECONDITION
    elif isinstance(error, Unavailable | TimeoutError):
        code = grpc.StatusCode.UNAVAILABLE
    said = str(error) or "the store is slow"
    await context.abort(code, said[:4000])
    raise AssertionError("abort() returned")
