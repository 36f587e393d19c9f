"""Who plays in the incident: sizes, rates, names and order, all drawn from one seed.

The seed decides everything that a run may vary; the same seed plays the same scene on any machine.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from enum import StrEnum

MIB = 2**20
GIB = 2**30

SLO_LIMIT_S = 0.3  # a bucket bound of the service's histogram, twice what a request takes alone
TRIP_MARGIN = (64 * MIB, 0.02)  # the agent's defaults: hard trips at 100 % + max(64 MiB, 2 %)


class Trigger(StrEnum):
    """What the agent has to go by."""

    QUOTA = "quota"
    """The offender overruns its quota, and locks the device up."""
    SLO = "slo"
    """It stays within its quota and breaks nothing: it grows, and takes the device's time. Only the service's
    own latency tells."""


class Role(StrEnum):
    """What somebody does in the scene."""

    SERVICE = "service"
    """The protected service whose latency counts."""
    OFFENDER = "offender"
    GUARDED = "guarded"
    """Protected, within its quota."""
    LARGE = "large"
    """Low class, within its quota, and larger than the offender: the wrong one to blame."""
    PASSING = "passing"
    """Starts and ends by itself while the incident lasts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """What the user asked for on the command line."""

    trigger: Trigger = Trigger.QUOTA
    is_stubborn: bool = False
    """The offender ignores TERM."""
    has_no_grace: bool = False
    """The offender's policy leaves nothing between decision and KILL."""
    is_persistent: bool = False
    """The device stays locked up after the offender is gone."""
    allows_restart: bool = False
    """The operator lets the agent restart the protected service on another device."""
    slowness: float = 1.0
    """So many times more the scene waits, and is granted: of a host that is emulated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One tenant of the scene."""

    role: Role
    name: str
    """Of its container, and of its program: what a plain process is called."""
    image: str
    tenant_class: str
    """What the operator means it to be; labels may claim something else."""
    quota_bytes: int
    held_bytes: int
    """What it holds when the scene is set."""
    arguments: tuple[str, ...]
    """Of the workload program."""
    labels: tuple[tuple[str, str], ...] = ()
    restart: str = "no"
    """Docker's restart policy."""
    device: int = 0
    """The one it is given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cast:
    """One drawn scene."""

    seed: int
    variant: Variant
    profile: str
    members: tuple[Member, ...]
    """All but the passing one, in the order they start."""
    passing: Member
    passing_after_s: float
    """When the passing one is started, counted from the moment the offender is let go."""
    rate_bytes_s: int
    trip_bytes: int
    lock_up_bytes: int
    """The offender locks the device up once it holds this much."""
    xid: int

    @property
    def onset_bytes(self) -> int:
        """More than this of the offender begins the incident."""
        offender = self.of(Role.OFFENDER)
        is_within = self.variant.trigger is Trigger.SLO
        return offender.held_bytes if is_within else offender.quota_bytes

    def of(self, role: Role) -> Member:
        """The member with a role."""
        return next(m for m in (*self.members, self.passing) if m.role is role)


SERVICES = ("risk-scoring", "fraud-check", "quote-engine", "credit-limit", "order-router")
OFFENDERS = ("nightly-embed", "backfill", "grid-search", "feature-build", "report-batch")
GUARDED = ("ranker", "speech-to-text", "search-embed", "moderation")
LARGE = ("finetune-xl", "pretrain", "corpus-index", "distill")
PASSING = ("ci-smoke", "notebook", "unit-bench", "warm-cache")
REGISTRIES = ("registry.local", "images.local/ml", "hub.local/team-a")
LOCKING_XIDS = (46, 62, 109, 119)  # each stops the device; see policy/fault/catalogue.py


def draw(seed: int, variant: Variant, *, go_file: str, service_port: int) -> Cast:
    """The scene of a seed. ``go_file`` lets the offender go once it exists."""
    rng = random.Random(f"incident {seed}")
    registry = rng.choice(REGISTRIES)
    rate = rng.randint(1 * GIB, 4 * GIB)
    quota = rng.randint(2 * GIB // MIB, 4 * GIB // MIB) * MIB
    trip = quota + max(TRIP_MARGIN[0], int(TRIP_MARGIN[1] * quota))
    lock_up = trip + rng.randint(8, 48) * MIB
    xid = rng.choice(LOCKING_XIDS)
    image = _images(rng, registry)
    if variant.trigger is Trigger.SLO:
        offender = _greedy(rng, variant, rate, go_file, image)
    else:
        offender = _offender(rng, variant, quota, rate, lock_up, xid, go_file, image)
    members = [
        _service(rng, service_port, image),
        offender,
        _guarded(rng, image),
        _large(rng, image),
    ]
    rng.shuffle(members)
    return Cast(
        seed=seed,
        variant=variant,
        profile=rng.choice(("A100-40", "H100-80")),
        members=tuple(members),
        # On the other device, where only one may have grown.
        passing=replace(_passing(rng, image), device=int(variant.trigger is Trigger.SLO)),
        passing_after_s=rng.uniform(0.0, 0.6),
        rate_bytes_s=rate,
        trip_bytes=trip,
        lock_up_bytes=lock_up,
        xid=xid,
    )


def _images(rng: random.Random, registry: str) -> str:
    """A pattern for image names: ``{}`` is the program."""
    return f"{registry}/{{}}:{rng.randint(1, 30)}.{rng.randint(0, 12)}"


def _size(value: int) -> str:
    return f"{value // MIB}MiB"


def _service(rng: random.Random, port: int, image: str) -> Member:
    name = rng.choice(SERVICES)
    held = rng.randint(2 * GIB // MIB, 4 * GIB // MIB) * MIB
    return Member(
        role=Role.SERVICE,
        name=name,
        image=image.format(name),
        tenant_class="protected",
        quota_bytes=held + GIB,
        held_bytes=held,
        arguments=(
            *(
                "serve",
                "--size",
                _size(held),
                "--port",
                str(port),
                "--seed",
                str(rng.randrange(99)),
            ),
            *("--interval-ms", str(rng.randint(25, 40)), "--demand", str(rng.randint(80, 100))),
            *("--base-low-ms", "40", "--base-high-ms", "150"),
            *("--slo-ms", str(int(SLO_LIMIT_S * 1000))),
        ),
        labels=(
            ("gpuwarden.class", "protected"),
            ("gpuwarden.service", name),
            ("gpuwarden.memory", _size(held + GIB)),
        ),
        restart=rng.choice(("no", "always", "on-failure")),
    )


def _offender(
    rng: random.Random,
    variant: Variant,
    quota: int,
    rate: int,
    lock_up: int,
    xid: int,
    go_file: str,
    image: str,
) -> Member:
    name = rng.choice(OFFENDERS)
    held = int(quota * rng.uniform(0.25, 0.8)) // MIB * MIB
    most = min(quota + 8 * GIB, quota + 3 * rate)
    children = rng.choice((0, 0, 0, 2))
    labels = [("gpuwarden.memory", _size(quota))]
    claim = rng.choice(("low", "protected", None))  # the second is a lie, and refused
    if claim is not None:
        labels.append(("gpuwarden.class", claim))
    if variant.has_no_grace:
        labels.append(("gpuwarden.grace", "0s"))
    return Member(
        role=Role.OFFENDER,
        name=name,
        image=image.format(name),
        tenant_class="low",
        quota_bytes=quota,
        held_bytes=held,
        arguments=(
            *("hog", "--start-size", _size(held), "--size", _size(most), "--rate", _size(rate)),
            *("--start-when", go_file, "--load", str(rng.randint(100, 300)), "--step-ms", "5"),
            *("--lock-up-at", str(lock_up), "--xid", str(xid), "--children", str(children)),
            *(("--persistent",) if variant.is_persistent else ()),
            *(("--ignore-term",) if variant.is_stubborn else ()),
        ),
        labels=tuple(labels),
        restart=rng.choice(("no", "always", "on-failure")),
    )


def _greedy(rng: random.Random, variant: Variant, rate: int, go_file: str, image: str) -> Member:
    """Within its quota at all times: it loads more, and asks for several times what the device can do."""
    name = rng.choice(OFFENDERS)
    held = rng.randint(1 * GIB // MIB, 3 * GIB // MIB) * MIB
    most = held + rng.randint(3 * GIB // MIB, 6 * GIB // MIB) * MIB
    quota = most + rng.randint(512, 2048) * MIB
    labels = [("gpuwarden.memory", _size(quota)), ("gpuwarden.class", "low")]
    if variant.has_no_grace:
        labels.append(("gpuwarden.grace", "0s"))
    return Member(
        role=Role.OFFENDER,
        name=name,
        image=image.format(name),
        tenant_class="low",
        quota_bytes=quota,
        held_bytes=held,
        arguments=(
            *("hog", "--start-size", _size(held), "--size", _size(most), "--rate", _size(rate)),
            *("--start-when", go_file, "--load", str(rng.randint(100, 300)), "--step-ms", "5"),
            *("--late-load", str(rng.randint(4000, 6000))),
            *(("--ignore-term",) if variant.is_stubborn else ()),
        ),
        labels=tuple(labels),
        restart=rng.choice(("no", "always", "on-failure")),
    )


def _guarded(rng: random.Random, image: str) -> Member:
    name = rng.choice(GUARDED)
    held = rng.randint(1 * GIB // MIB, 3 * GIB // MIB) * MIB
    return Member(
        role=Role.GUARDED,
        name=name,
        image=image.format(name),
        tenant_class="protected",
        quota_bytes=held + rng.randint(128, 1024) * MIB,
        held_bytes=held,
        arguments=("hold", "--size", _size(held), "--load", str(rng.randint(20, 80))),
        labels=(("gpuwarden.class", "protected"),),
        restart=rng.choice(("no", "always")),
    )


def _large(rng: random.Random, image: str) -> Member:
    name = rng.choice(LARGE)
    held = rng.randint(13 * GIB // MIB, 16 * GIB // MIB) * MIB
    quota = held + rng.randint(256, 2048) * MIB
    return Member(
        role=Role.LARGE,
        name=name,
        image=image.format(name),
        tenant_class="low",
        quota_bytes=quota,
        held_bytes=held,
        arguments=("hold", "--size", _size(held), "--load", str(rng.randint(20, 120))),
        labels=(("gpuwarden.memory", _size(quota)), ("gpuwarden.class", "low")),
        restart=rng.choice(("no", "on-failure")),
    )


def _passing(rng: random.Random, image: str) -> Member:
    name = rng.choice(PASSING)
    held = rng.randint(256, 1024) * MIB
    return Member(
        role=Role.PASSING,
        name=name,
        image=image.format(name),
        tenant_class="low",
        quota_bytes=2 * GIB,
        held_bytes=held,
        arguments=("hold", "--size", _size(held), "--exit-after-ms", str(rng.randint(300, 900))),
        labels=(("gpuwarden.memory", "2GiB"),),
    )
