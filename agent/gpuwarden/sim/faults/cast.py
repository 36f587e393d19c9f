"""Who is on stage while a fault is played: sizes and names drawn from one seed."""

from __future__ import annotations

import random
from collections.abc import Mapping

from gpuwarden.sim.faults.play import Part, Play
from gpuwarden.sim.incident.cast import GIB, MIB, Member, Role

SLO_LIMIT_S = 1.0  # a bucket bound; how fast the service is on a busy machine is not what is played
SICK = 0
"""The device that falls ill."""
DEVICES = 3
PROFILE = "H100-80"
NAMES = {
    Part.BATCH: ("nightly-embed", "backfill", "grid-search", "feature-build"),
    Part.NEIGHBOUR: ("notebook", "ci-smoke", "warm-cache", "corpus-index"),
    Part.SERVICE: ("risk-scoring", "fraud-check", "quote-engine", "order-router"),
    Part.TRAINER: ("finetune-xl", "pretrain", "distill"),
    Part.GUARDED: ("ranker", "speech-to-text", "moderation"),
}
ROLES = {
    Part.BATCH: Role.OFFENDER,
    Part.NEIGHBOUR: Role.LARGE,
    Part.SERVICE: Role.SERVICE,
    Part.TRAINER: Role.LARGE,
    Part.GUARDED: Role.GUARDED,
}
ON = {Part.BATCH: SICK, Part.NEIGHBOUR: SICK, Part.GUARDED: SICK, Part.SERVICE: 1, Part.TRAINER: 1}
PROTECTED = frozenset({Part.SERVICE, Part.GUARDED})


def draw(play: Play, seed: int, service_port: int) -> Mapping[Part, Member]:
    """The members of a play, in the order they start."""
    rng = random.Random(f"fault {play.name} {seed}")
    parts = [Part.BATCH, Part.NEIGHBOUR, Part.TRAINER]
    if play.has_service:
        parts.append(Part.SERVICE)
    if play.has_guarded:
        parts.append(Part.GUARDED)
    rng.shuffle(parts)
    return {part: _member(rng, part, service_port) for part in parts}


def _member(rng: random.Random, part: Part, service_port: int) -> Member:
    name = rng.choice(NAMES[part])
    held = rng.randint(1 * GIB // MIB, 4 * GIB // MIB) * MIB
    quota = held + GIB
    tenant_class = "protected" if part in PROTECTED else "low"
    labels = [("gpuwarden.class", tenant_class), ("gpuwarden.memory", _size(quota))]
    if part is Part.SERVICE:
        labels.append(("gpuwarden.service", name))
    return Member(
        role=ROLES[part],
        name=name,
        image=f"registry.local/{name}:{rng.randint(1, 30)}",
        tenant_class=tenant_class,
        quota_bytes=quota,
        held_bytes=held,
        arguments=_arguments(rng, part, held, service_port),
        labels=tuple(labels),
        device=ON[part],
    )


def _arguments(rng: random.Random, part: Part, held: int, service_port: int) -> tuple[str, ...]:
    size = ("--size", _size(held))
    if part is Part.SERVICE:
        pace = ("--interval-ms", "40", "--demand", str(rng.randint(60, 90)))
        limit = ("--slo-ms", str(int(SLO_LIMIT_S * 1000)))
        return ("serve", *size, "--port", str(service_port), *pace, *limit)
    if part is Part.BATCH:
        return ("hog", "--start-size", _size(held), *size, "--load", str(rng.randint(100, 300)))
    return ("hold", *size, "--load", str(rng.randint(20, 120)))


def _size(value: int) -> str:
    return f"{value // MIB}MiB"
