"""A play of a simulated fleet, set up and taken away again."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from gpuwarden.clock import SystemClock
from gpuwarden.log import configure_log
from gpuwarden.sim.fleet.centre import SimCentre, foreign_centre, own_centre
from gpuwarden.sim.fleet.load import Load, run_load
from gpuwarden.sim.fleet.mass import run_mass, settings
from gpuwarden.sim.fleet.mass_verdict import Mass
from gpuwarden.sim.incident.interrupt import terminated_as_interrupt


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """``xid`` None: a load at ``rate``. ``address`` and ``state`` None: an aggregator of its own."""

    nodes: int
    rate: float = 1.0
    batch: int = 1
    seconds: float = 10.0
    xid: int | None = None
    within_s: float = 30.0
    address: str | None = None
    state: Path | None = None


def play(wanted: Wanted) -> dict[str, Any]:
    """What came of it as plain data; ``missed`` names the bounds that were. Only for the main thread."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    configure_log("console", level=logging.ERROR)
    clock = SystemClock()
    with terminated_as_interrupt(), TemporaryDirectory(prefix="gpuwarden-pages-") as folder:
        pages = Path(folder) / "pages.jsonl"
        more = "" if wanted.xid is None else settings(pages)
        with _centre(clock, wanted, more) as centre:
            if wanted.xid is None:
                load = Load(
                    nodes=wanted.nodes,
                    rate=wanted.rate,
                    seconds=wanted.seconds,
                    batch=wanted.batch,
                )
                return asyncio.run(run_load(centre, clock, load))
            mass = Mass(nodes=wanted.nodes, xid=wanted.xid, within_s=wanted.within_s)
            return asyncio.run(run_mass(centre, clock, mass, pages))


@contextlib.contextmanager
def _centre(clock: SystemClock, wanted: Wanted, more: str) -> Iterator[SimCentre]:
    if wanted.address is not None and wanted.state is not None:
        with foreign_centre(clock, wanted.address, wanted.state) as centre:
            yield centre
    else:
        with own_centre(clock, more) as centre:
            yield centre
