"""What `scripts/install-test` runs."""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import roots
from at_rest import AtRest
from debs import Debs, debs, found
from life import Life
from place import Container
from rpm_life import RpmLife
from steps import Failed, Steps
from vm import PACKAGES, Vm
from vm_life import VmLife

ROOT = Path(__file__).resolve().parents[2]
SUITES = ("bullseye", "bookworm", "trixie")
WHOLE = ("bullseye", "trixie")
"""The oldest systemd and the newest."""
TIERS = ("fast", "rpm", "vm", "rest")


def fast(steps: Steps, dist: Path, suites: list[str]) -> None:
    """Side by side: most of a life is waiting."""
    with tempfile.TemporaryDirectory(prefix="gpuwarden-debs-", dir="/var/tmp") as name:
        folder = Path(name)
        built = debs(dist, folder)
        with ThreadPoolExecutor(len(suites)) as pool:
            list(pool.map(lambda suite: one(steps, dist, folder, built, suite), suites))


def one(steps: Steps, dist: Path, folder: Path, built: Debs, suite: str) -> None:
    with contextlib.suppress(Failed), contextlib.ExitStack() as stack:
        with steps.step(suite, "its root file system"):
            root = roots.root(suite, roots.PLAIN)
        with steps.step(suite, "boot"):
            place = Container(suite, root, (dist, folder))
        stack.callback(place.close)
        Life(place, steps, built).run(is_whole=suite in WHOLE)


def only(package: Path) -> Debs:
    """For a life with one package and no other version of it."""
    return Debs(
        agent=package,
        aggregator=package,
        older=package,
        newer=package,
        newer_aggregator=package,
    )


def rpm(steps: Steps, dist: Path) -> None:
    package = found(dist, "gpuwarden-[0-9]*.x86_64.rpm")
    with contextlib.suppress(Failed), contextlib.ExitStack() as stack:
        with steps.step("rpm", "its root file system"):
            root = roots.root("bookworm", roots.WITH_RPM)
        with steps.step("rpm", "boot"):
            place = Container("rpm", root, (dist,))
        stack.callback(place.close)
        RpmLife(place, steps, only(package)).walk(package)


def vm(steps: Steps, dist: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="gpuwarden-vm-", dir="/var/tmp") as name:
        folder = Path(name)
        built = debs(dist, folder, is_agents_alone=True)
        with contextlib.suppress(Failed), contextlib.ExitStack() as stack:
            with steps.step("vm", "its root file system"):
                roots.root("bookworm", PACKAGES)
            with steps.step("vm", "boot, emulated"):
                place = Vm(folder, (built.agent, built.older, built.newer))
            stack.callback(place.close)
            VmLife(place, steps, built.at(Path("/debs"))).run()


def rest(steps: Steps, dist: Path, minutes: float) -> None:
    agent = found(dist, "gpuwarden_*_amd64.deb")
    with contextlib.suppress(Failed), contextlib.ExitStack() as stack:
        with steps.step("rest", "boot"):
            place = Container("rest", roots.root("bookworm", roots.PLAIN), (dist,))
        stack.callback(place.close)
        AtRest(place, steps, only(agent)).measure(minutes)


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/install-test")
    parser.add_argument("--tier", default="fast", choices=[*TIERS, "all"])
    parser.add_argument("--root", action="append", choices=SUITES)
    parser.add_argument("--dist", type=Path, default=ROOT / "dist")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    steps = Steps()
    try:
        if options.tier in ("fast", "all"):
            fast(steps, options.dist.resolve(), options.root or list(SUITES))
        if options.tier in ("rpm", "fast", "all"):
            rpm(steps, options.dist.resolve())
        if options.tier == "rest":
            rest(steps, options.dist.resolve(), options.minutes)
        if options.tier in ("vm", "all"):
            vm(steps, options.dist.resolve())
    finally:
        steps.show(as_json=options.json)
    return 0 if steps.is_ok else 1


if __name__ == "__main__":
    sys.exit(main())
