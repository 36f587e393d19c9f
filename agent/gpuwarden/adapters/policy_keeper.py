"""The fleet's policy on this node: checked, put on disk, handed to the configuration; and what was refused, and why.

A policy is taken when one of the pinned keys has signed it, it is newer than all before it, is for this fleet and
this node's group, has not run out, and makes a valid configuration here. Anything else leaves the old one in force.
One that runs out is not replaced by nothing: its settings stay, and the agent only observes (the safe set). What has
run out stays so, whatever the clock says later.
"""

import json
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

from gpuwarden.adapters.pki.names import replace_file
from gpuwarden.adapters.pki.policy_check import checked
from gpuwarden.clock import Clock
from gpuwarden.config_fleet import FleetConfig
from gpuwarden.errors import ConfigError, GpuwardenError, Refused, Unavailable
from gpuwarden.log import get_log
from gpuwarden.model.policy import Policy, PolicyHead, PolicyLayer, PolicyRefusal, PolicyReport
from gpuwarden.wire.policy_text import BUNDLE_MAX_BYTES, policy_of

REFUSALS_MAX = 8
WHY_MAX_CHARS = 400
MARK_EVERY_S = 600.0
"""How often the latest wall time that was seen is put on disk: a clock that is set back revives nothing."""
BUNDLE, MEMORY = "policy.bundle", "policy.json"

Check = Callable[[PolicyLayer], None]
"""Raises ``ConfigError`` where the whole configuration with this layer is not valid."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """What outlives a restart beside the bundle."""

    floor: int = 0
    """The highest version that was ever taken."""
    expired: int = 0
    """Every version up to this has run out."""
    seen_wall: float = 0.0


class PolicyKeeper:
    """``offer`` and ``look`` from any thread; one thread of its own checks, one bundle at a time, the newest."""

    def __init__(
        self, cfg: FleetConfig, domain: str, clock: Clock, check: Check, reload: Callable[[], None]
    ) -> None:
        """``reload`` asks the loop to take over ``layer`` by the path of every reload."""
        self._cfg = cfg
        self._domain = domain
        self._clock = clock
        self._check = check
        self._reload = reload
        self._folder = cfg.identity_dir / "policy"
        self._wake = threading.Condition()
        self._writing = threading.Lock()
        """What is remembered changes and is written under it: a floor never sinks."""
        self._waiting: bytes | None = None
        self._is_stopping = False
        self._refusals: list[PolicyRefusal] = []
        self._kept: Policy | None = None
        self._deadline = float("inf")
        self._marked_at = clock.now()
        self._applied: PolicyLayer | None = None
        self._fault = ""
        self._thread = threading.Thread(target=self._run, name="gpuwarden-policy", daemon=True)
        self.offered = 0
        self.refused = 0
        self._memory = self._remember()
        self._load()

    # --- what lies on disk ---

    def _remember(self) -> Remembered:
        try:
            said = json.loads((self._folder / MEMORY).read_bytes())
            return Remembered(
                floor=int(said["floor"]),
                expired=int(said["expired"]),
                seen_wall=float(said["seen_wall"]),
            )
        except FileNotFoundError:
            return Remembered()
        except (OSError, ValueError, KeyError, TypeError) as error:
            self._fault = f"{self._folder / MEMORY}: {error}"
            return Remembered()

    def _load(self) -> None:
        """The policy of the agent's last life, judged anew."""
        path = self._folder / BUNDLE
        try:
            with path.open("rb") as file:
                bundle = file.read(BUNDLE_MAX_BYTES + 1)
            policy = checked(bundle, self._cfg.policy_keys)
            self._fits(policy)
            if policy.head.version < self._memory.floor:
                raise Refused(f"{policy.head.version} is older than {self._memory.floor}")
        except FileNotFoundError:
            if self._memory.floor:
                self._fault = f"{path}: policy {self._memory.floor} was here and is gone"
            return
        except (OSError, GpuwardenError) as error:
            self._fault = f"{path}: {error}"
            get_log().error("policy_unusable", reason=str(error))
            return
        self._keep(policy)

    def _write(self, memory: Remembered, bundle: bytes | None = None) -> None:
        """On disk when this returns, the bundle first: its version is a floor by itself."""
        said = {name: getattr(memory, name) for name in ("floor", "expired", "seen_wall")}
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if bundle is not None:
                replace_file(self._folder / BUNDLE, bundle, 0o600)
            replace_file(self._folder / MEMORY, json.dumps(said).encode(), 0o600)
            _sync(self._folder)
        except OSError as error:
            raise Unavailable(f"{self._folder}: {error.strerror}") from error
        self._memory = memory

    # --- its life ---

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        with self._wake:
            self._is_stopping = True
            self._wake.notify_all()
        if self._thread.is_alive():
            self._thread.join(5.0)

    def offer(self, bundle: bytes) -> None:
        """Have one looked at; what has not been looked at before it never is."""
        with self._wake:
            self.offered += 1
            self._waiting = bundle
            self._wake.notify_all()

    def _run(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._waiting is not None or self._is_stopping)
                if self._is_stopping:
                    return
                bundle, self._waiting = self._waiting, None
            if bundle is not None:
                self.consider(bundle)

    def consider(self, bundle: bytes) -> None:
        """Take one, or say why not. Never raises."""
        kept = self._kept
        if kept is not None and bundle == kept.bundle:
            return
        version = 0
        try:
            policy = checked(bundle, self._cfg.policy_keys)
            version = policy.head.version
            self._judge(policy)
            with self._writing:
                fresh = replace(self._memory, floor=version, seen_wall=self._clock.wall())
                self._write(fresh, bundle)
        except Unavailable as error:
            get_log().error("policy_not_taken", reason=str(error))
            self._refuse(version, str(error))
            return
        except ConfigError as error:
            self._refuse(version, f"not valid here: {'; '.join(error.faults[:5])}")
            return
        except Refused as error:
            self._refuse(version, str(error))
            return
        self._keep(policy)
        get_log().info("policy_taken", version=version, note=policy.head.note)
        self._reload()

    def _judge(self, policy: Policy) -> None:
        head = policy.head
        self._fits(policy)
        if head.version <= self._memory.floor:
            raise Refused(f"version {head.version} is not after {self._memory.floor}")
        if self._at_least(head) >= head.not_after_wall:
            raise Refused("it has run out already")
        self._check(PolicyLayer(version=head.version, settings=policy.settings))

    def _fits(self, policy: Policy) -> None:
        head = policy.head
        if head.fleet != self._domain:
            raise Refused(f"it is for the fleet {head.fleet}, and this is {self._domain}")
        if head.groups and not any(fnmatchcase(self._cfg.group, each) for each in head.groups):
            raise Refused(f"it is for other groups than {self._cfg.group}")

    def _at_least(self, head: PolicyHead) -> float:
        """How late it is for a new policy: not before it, nor the one in force, was signed. What this clock once
        said does not count: a clock that was wrong for a moment would keep every later policy out."""
        kept = self._kept
        signed = head.issued_wall if kept is None else max(head.issued_wall, kept.head.issued_wall)
        return max(self._clock.wall(), signed)

    def _keep(self, policy: Policy) -> None:
        left_s = policy.head.not_after_wall - max(self._now(), self._at_least(policy.head))
        with self._wake:
            self._kept = policy
            self._deadline = self._clock.now() + left_s
            self._fault = ""
            version = policy.head.version
            self._refusals = [each for each in self._refusals if each.version != version]
        with self._writing:
            self._memory = replace(self._memory, floor=max(self._memory.floor, version))

    def _refuse(self, version: int, why: str) -> None:
        get_log().error("policy_refused", version=version, reason=why)
        with self._wake:
            self.refused += 1
            said = PolicyRefusal(version=version, why=why[:WHY_MAX_CHARS], wall=self._clock.wall())
            others = [e for e in self._refusals if (e.version, e.why) != (version, said.why)]
            self._refusals = [*others, said][-REFUSALS_MAX:]

    # --- time ---

    def _now(self) -> float:
        """For the policy in force: the wall time, and never one before what was seen."""
        return max(self._clock.wall(), self._memory.seen_wall)

    def look(self) -> None:
        """Now and then: has it run out? The stricter of the wall clock and of its age."""
        kept = self._kept
        if kept is None or kept.head.version <= self._memory.expired:
            return
        now, wall = self._clock.now(), self._now()
        is_over = wall >= kept.head.not_after_wall or now >= self._deadline
        if not is_over and now - self._marked_at < MARK_EVERY_S:
            return
        self._marked_at = now
        with self._writing:
            expired = kept.head.version if is_over else self._memory.expired
            fresh = replace(self._memory, expired=expired, seen_wall=wall)
            try:
                self._write(fresh)
            except Unavailable as error:
                self._memory = fresh
                get_log().error("policy_not_kept", reason=str(error))
        if is_over:
            get_log().error("policy_expired", version=kept.head.version)
            self._reload()

    # --- what is in force ---

    def layer(self) -> PolicyLayer | None:
        """For the configuration. A policy that is lost or run out is the safe set, never none."""
        with self._wake:
            kept = self._kept
            if kept is None:
                floor = self._memory.floor
                return lost(floor) if floor or self._fault else None
            return PolicyLayer(
                version=kept.head.version,
                settings=kept.settings,
                is_safe_set=kept.head.version <= self._memory.expired
                or self._now() >= kept.head.not_after_wall,
            )

    def adopted(self, layer: PolicyLayer | None) -> None:
        """The loop runs under it."""
        with self._wake:
            self._applied = layer
            if layer is not None and not layer.is_lost:
                self._refusals = [r for r in self._refusals if r.version != layer.version]

    def rejected(self, layer: PolicyLayer | None, why: str) -> None:
        """The loop could not take it over: the configuration has changed in between."""
        if layer is not None and layer != self._applied:
            self._refuse(layer.version, f"not in force: {why}")

    def report(self) -> PolicyReport:
        """For the aggregator."""
        with self._wake:
            kept, applied = self._kept, self._applied
            is_same = kept is not None and applied is not None
            is_same = is_same and kept.head.version == applied.version  # type: ignore[union-attr]  # both are there
            return PolicyReport(
                version=0 if applied is None or applied.is_lost else applied.version,
                digest=kept.digest if kept is not None and is_same else "",
                not_after_wall=kept.head.not_after_wall if kept is not None and is_same else 0.0,
                is_expired=applied is not None and applied.is_safe_set,
                refusals=tuple(self._refusals),
            )

    def complaints(self) -> list[str]:
        """What an operator on this host should know."""
        with self._wake:
            found = []
            if self._fault:
                fix = f"fix: remove {self._folder} to go by this host's own files alone"
                found.append(f"the fleet's policy cannot be used: {self._fault}; {fix}")
            applied = self._applied
            if applied is not None and applied.is_safe_set:
                found.append(
                    f"the fleet's policy {applied.version} has run out or is lost: observing only"
                )
            if self._refusals:
                last = self._refusals[-1]
                name = f"policy {last.version}" if last.version else "a policy"
                found.append(f"{name} of the fleet was refused: {last.why}")
            return found


def stored(cfg: FleetConfig, wall: float) -> PolicyLayer | None:
    """What a running agent would have in force of the policy on this host's disk, for people who look: its signature
    is not checked again. ``Unavailable`` where it cannot be read."""
    folder = cfg.identity_dir / "policy"
    if not cfg.aggregator:
        return None
    try:
        policy = policy_of((folder / BUNDLE).read_bytes())
        expired = int(json.loads((folder / MEMORY).read_bytes())["expired"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, Refused) as error:
        raise Unavailable(f"{folder}: {error}") from error
    head = policy.head
    is_over = head.version <= expired or wall >= head.not_after_wall
    return PolicyLayer(version=head.version, settings=policy.settings, is_safe_set=is_over)


def lost(version: int) -> PolicyLayer:
    """In the place of a policy that was in force and cannot be had."""
    return PolicyLayer(version=version, settings="", is_safe_set=True, is_lost=True)


def _sync(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
