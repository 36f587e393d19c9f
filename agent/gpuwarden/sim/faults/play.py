"""What one played fault is: what happens, what the operator allows, and how it has to end. Plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Part(StrEnum):
    """Who is on stage."""

    BATCH = "batch"
    """Low class, on the sick device: the one that a driver's line may name."""
    NEIGHBOUR = "neighbour"
    """Low class, on the sick device, and nobody's fault."""
    SERVICE = "service"
    """Protected, with an objective, on another device."""
    TRAINER = "trainer"
    """Low class, on the device of the protected service."""
    GUARDED = "guarded"
    """Protected, on the sick device: only where a play asks for it."""


LOW = frozenset({Part.BATCH, Part.NEIGHBOUR})
"""Who may be asked to go where the sick device has to be empty."""
LOW_OF_NODE = LOW | {Part.TRAINER}
"""Who may be asked to go where the whole node has to be."""


class By(StrEnum):
    """Who makes something happen."""

    DRIVER = "driver"
    """A command of the simulated driver, on the sick device unless it says otherwise."""
    HOST = "host"
    """Something around the driver: a service, a version, a process."""
    PERSON = "person"
    """An operator: the repair that is left to people, and ``gpuwarden set-healthy``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happens. Texts may name ``{pci}`` (the sick device's address) and ``{batch}`` (a process
    of the low tenant there)."""

    command: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    by: By = By.DRIVER


@dataclass(frozen=True, slots=True, kw_only=True)
class Play:
    """One fault. What it has to come to is what a person would want, not what the agent happens to do."""

    name: str
    help: str
    events: tuple[Event, ...]
    scope: str
    """How far the fault reaches: app, link, gpu, node."""
    rungs: tuple[str, ...] = ()
    """Remedies in the order in which they have to be taken; ``hand-over``: people."""
    verified: bool = True
    """Whether the agent itself has to find that all is well again."""
    cordoned: bool = False
    """Whether what is sick has to be out of use meanwhile."""
    pages: int = 1
    ends: frozenset[Part] = frozenset()
    """Whom the play allows to be ended; anybody else who is ended is a wrong victim."""
    heals: tuple[Event, ...] = ()
    """What people do about it, once they know of it (where nobody is paged: once it is a finding)."""
    has_service: bool = True
    """False: a node of batch work alone, which may be emptied as a whole."""
    has_guarded: bool = False
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """What the operator says otherwise: table, then key."""
    within_s: float = 60.0
    """How long all of it may take; only a hang reaches that."""
    is_slow: bool = False
    """It waits for something that is read once a minute."""


NOTHING_TO_REPAIR = False
"""``verified`` of a fault that nobody repairs, because nothing is broken for long."""


def say(text: str) -> Event:
    """A line of the kernel log."""
    return Event(command="kernel_line", arguments={"text": text})


def xid(code: int, text: str = "", **more: Any) -> Event:
    """An Xid: the driver's event and its line."""
    return Event(command="xid", arguments={"xid": code, **({"text": text} if text else {}), **more})


def recovery(action: int) -> Event:
    """The driver asks for a recovery (field 230, Xid 154)."""
    return Event(command="recovery", arguments={"action": action})


def host(command: str, **arguments: Any) -> Event:
    """Something around the driver."""
    return Event(command=command, arguments=arguments, by=By.HOST)


def person(command: str, **arguments: Any) -> Event:
    """Somebody's hand."""
    return Event(command=command, arguments=arguments, by=By.PERSON)
