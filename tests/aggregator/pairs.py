"""Two aggregators in this process, on one database and under one authority."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from gpuwarden.wire.v1 import fleet_pb2 as pb
from tests.aggregator.centre import Centre, Line
from tests.aggregator.databases import database

WAIT_S = 30.0


def eventually(is_so: Callable[[], object], what: str) -> None:
    """Wait for something that has to come."""
    waited = threading.Event()
    for _ in range(int(WAIT_S / 0.05)):
        if is_so():
            return
        waited.wait(0.05)
    raise AssertionError(f"not within {WAIT_S:g} s: {what}")


@contextmanager
def pair(folder: Path, **sections: dict[str, Any]) -> Iterator[tuple[Centre, Centre, str]]:
    """The first leads; and the address of their database."""
    with database() as url, ExitStack() as held:
        centres = []
        for name in ("one", "two"):
            if name == "two":
                shutil.copytree(folder / "one" / "pki", folder / "two" / "pki")
            more = {**sections, "aggregator": {"store": url, "advertise": f"{name}.example:9440"}}
            centres.append(held.enter_context(Centre(folder / name, **more)))
        yield centres[0], centres[1], url


def leads(centre: Centre) -> bool:
    return bool(centre.query().Status(pb.StatusRequest()).is_leader)


def states(centre: Centre) -> dict[str, tuple[Any, bool]]:
    """By node: its state, and whether it is connected."""
    found = centre.query().Nodes(pb.NodesRequest()).nodes
    return {each.node: (each.state, each.is_connected) for each in found}


def asked(line: Line, name: str, *, kind: str = "cordon", age_s: float = 1.0) -> None:
    ask = pb.PermitAsk(id=name, kind=kind, subject="GPU-0", incident="i", age_s=age_s)
    line.batch(asks=[ask])


def permit(line: Line, ask: str = "a1") -> pb.Permit:
    """The next for this wish."""
    while True:
        found = [permit for d in line.directives for permit in d.permits if permit.ask == ask]
        line.directives.clear()
        if found:
            return found[-1]
        line.next()


def refusal(line: Line) -> pb.PermitRefusal:
    while not any(d.refusals for d in line.directives):
        line.next()
    found = [refusal for d in line.directives for refusal in d.refusals]
    line.directives.clear()
    return found[-1]
