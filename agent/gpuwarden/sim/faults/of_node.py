"""Faults of the node: its switches, its driver, its services, its processes."""

from __future__ import annotations

from gpuwarden.sim.faults.play import (
    LOW_OF_NODE,
    NOTHING_TO_REPAIR,
    Play,
    host,
    person,
    say,
)

PEOPLE = ("hand-over",)
ALL_STEPS = {"repair": {"allow": ["restart-services", "reset-gpu", "reload-driver"]}}
NODE_HEALTHY = person("set-healthy", subject="node", reason="looked after")

PLAYS: tuple[Play, ...] = (
    Play(
        name="sxid-fatal",
        help="A fatal error of an NVSwitch: only a reboot brings its GPUs back together, and people decide on that.",
        events=(
            say("nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): 20034, Fatal, Link 30 LTSSM Fault Up"),
        ),
        scope="link",
        rungs=PEOPLE,
        cordoned=True,
        heals=(NODE_HEALTHY,),
    ),
    Play(
        name="sxid-fabric",
        help="A switch whose service has to be started again: on a node of batch work it is emptied first.",
        events=(
            say(
                "nvidia-nvswitch0: SXid (PCI:0000:c1:00.0): 10003, Fatal, Link 00 Host unhandled interrupt"
            ),
        ),
        scope="node",
        rungs=("restart-services",),
        cordoned=True,
        ends=LOW_OF_NODE,
        has_service=False,
    ),
    Play(
        name="sxid-nonfatal",
        help="A non-fatal error of an NVSwitch: on record, and nobody is woken.",
        events=(
            say(
                "nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): 11012, Non-fatal, Link 35 NCISOC HDR ECC limit"
            ),
        ),
        scope="link",
        verified=NOTHING_TO_REPAIR,
        pages=0,
    ),
    Play(
        name="fabric-manager",
        help="The fabric manager does not run: it is started again under those who work, who stay.",
        events=(host("end-service"),),
        scope="node",
        rungs=("restart-services",),
    ),
    Play(
        name="mismatch",
        help="The driver's library was upgraded under the loaded module: emptying the node is left to people.",
        events=(host("old-module"),),
        scope="node",
        rungs=PEOPLE,
        cordoned=True,
        heals=(host("new-module"),),
    ),
    Play(
        name="mismatch-reload",
        help="The same on a node of batch work, where the operator allows the driver to be loaded anew.",
        events=(host("old-module"),),
        scope="node",
        rungs=("reload-driver",),
        cordoned=True,
        ends=LOW_OF_NODE,
        has_service=False,
        settings=ALL_STEPS,
        within_s=90.0,
    ),
    Play(
        name="zombie",
        help="A process has ended and its memory stays: who has to collect it is named, nobody is ended.",
        events=(host("hold", how="zombie"),),
        scope="gpu",
        heals=(host("let-go"),),
    ),
    Play(
        name="stuck",
        help="A task that holds the device is stuck in the kernel: nothing is ended or reset over it.",
        events=(host("hold", how="stuck"),),
        scope="node",
        heals=(host("let-go"),),
    ),
)
