"""The faults that can be played: what happens to the device, what the operator allows, how it has to end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

LINE = "NVRM: Xid (PCI:{pci}): "


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happens to device 0. ``command`` is the driver's; text may name ``{pci}``,
    ``{batch}`` (a process of the low tenant there)."""

    command: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Play:
    """One fault. What it has to come to is what a person would want, not what the agent happens to do."""

    name: str
    help: str
    events: tuple[Event, ...]
    scope: str
    rungs: tuple[str, ...]
    """Remedies in the order in which they have to be taken; ``hand-over``: people."""
    verified: bool
    """Whether the agent has to find the device well again by itself."""
    cordoned: bool
    pages: int
    heals: tuple[Event, ...] = ()
    """What a person does once it was handed over."""
    is_listed: bool = True
    """Whether the device can still be listed: who is on it can then be asked to go."""


def _say(text: str) -> Event:
    return Event(command="kernel_line", arguments={"text": text})


def _xid(code: int, text: str = "", **more: Any) -> Event:
    said = {"xid": code, **({"text": text} if text else {}), **more}
    return Event(command="xid", arguments=said)


def _recovery(action: int) -> Event:
    return Event(command="recovery", arguments={"action": action})


RESET = ("reset-gpu",)
PEOPLE = ("hand-over",)
RESTORED = (Event(command="restore"),)

PLAYS: Mapping[str, Play] = MappingProxyType(
    {
        play.name: play
        for play in (
            Play(
                name="application",
                help="Xid 31: an application touched an address that is not its own.",
                events=(_xid(31, pid="{batch}"),),
                scope="app",
                rungs=(),
                verified=False,
                cordoned=False,
                pages=0,
            ),
            Play(
                name="contained",
                help="Xid 94: a memory error that only its application felt.",
                events=(_xid(94, "Contained: SM (0x1). RST: No, D-RST: No", pid="{batch}"),),
                scope="app",
                rungs=(),
                verified=False,
                cordoned=False,
                pages=0,
            ),
            Play(
                name="gsp",
                help="Xid 119: the GPU's own processor does not answer; the driver asks for a reset.",
                events=(_xid(119), _recovery(1)),
                scope="gpu",
                rungs=RESET,
                verified=True,
                cordoned=True,
                pages=1,
            ),
            Play(
                name="uncontained",
                help="Xid 95: an uncontained memory error; the driver asks for drain and reset.",
                events=(
                    _xid(95, "Uncontained: LTC TAG (0x2,0x0). RST: Yes, D-RST: No"),
                    _recovery(4),
                ),
                scope="gpu",
                rungs=RESET,
                verified=True,
                cordoned=True,
                pages=1,
            ),
            Play(
                name="double-bit",
                help="Xid 48 with 63: an uncorrectable memory error, and its row is to be replaced.",
                events=(_xid(48), _xid(63), _recovery(4)),
                scope="gpu",
                rungs=RESET,
                verified=True,
                cordoned=True,
                pages=1,
            ),
            Play(
                name="fallen-off",
                help="Xid 79: the device is gone from the bus, with a burst of 45 after it.",
                events=(
                    Event(command="lose"),
                    *(
                        _say(LINE + f"45, pid={9000 + n}, name=python3, Ch 0000000{n}")
                        for n in range(5)
                    ),
                ),
                scope="node",
                rungs=PEOPLE,
                verified=True,
                cordoned=True,
                pages=1,
                heals=RESTORED,
                is_listed=False,
            ),
            Play(
                name="lost-silently",
                help="The device falls off the bus, and the kernel says so in words alone.",
                events=(
                    Event(command="lose"),
                    _say("NVRM: GPU at PCI:{pci}: GPU has fallen off the bus."),
                ),
                scope="node",
                rungs=PEOPLE,
                verified=True,
                cordoned=True,
                pages=1,
                heals=RESTORED,
                is_listed=False,
            ),
            Play(
                name="sxid-fatal",
                help="A fatal error of an NVSwitch: the fabric, and with it the node.",
                events=(
                    _say(
                        "nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): 20034, Fatal, Link 30 LTSSM Fault Up"
                    ),
                ),
                scope="link",
                rungs=PEOPLE,
                verified=False,
                cordoned=False,
                pages=1,
            ),
            Play(
                name="sxid-nonfatal",
                help="The same number, called non-fatal by the line: told, and nobody is woken.",
                events=(
                    _say(
                        "nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): 11004, Non-fatal, Link 35 Ingress invalid ACL"
                    ),
                ),
                scope="link",
                rungs=(),
                verified=False,
                cordoned=False,
                pages=0,
            ),
            Play(
                name="unknown",
                help="Xid 999: a number that the vendor has not published.",
                events=(_xid(999),),
                scope="gpu",
                rungs=PEOPLE,
                verified=False,
                cordoned=True,
                pages=1,
            ),
        )
    }
)
