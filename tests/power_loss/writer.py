"""python -m tests.power_loss.writer KIND FOLDER: writes without end and says each number once it counts as kept."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

from gpuwarden.adapters.uplink_spool import DiskSpool
from gpuwarden.aggregator.store import Entry
from gpuwarden.aggregator.store_sqlite import SqliteStore
from gpuwarden.model.action import Kind
from gpuwarden.model.fleet import Permit, Told
from gpuwarden.node.journal import FileJournal
from tests.policy.builders import memory, outcome, tenant

FILES = {"store": "fleet.sqlite", "spool": "spool.sqlite"}
PADDING = b"x" * 3000
SPOOL_MAX_BYTES = 2**30


def told(number: int) -> Told:
    return Told(sequence=number, wall=1.0, kind="note", payload=PADDING)


def permit(number: int) -> Permit:
    return Permit(
        id=f"p{number}",
        node="n1",
        boot_id="b",
        ask=f"a{number}",
        kind="cordon",
        subject="GPU-0",
        group="g",
        granted_wall=1.0,
        epoch=1,
    )


def store_of(folder: Path) -> Callable[[int], object]:
    store = SqliteStore(folder / FILES["store"])
    with store.transaction():
        store.next_epoch()

    def write(number: int) -> None:
        with store.transaction():
            store.put([Entry(node="n1", log_id="log", wall=1.0, events=(told(number),))])
            store.grant([permit(number)])

    return write


def spool_of(folder: Path) -> Callable[[int], object]:
    spool = DiskSpool(folder / FILES["spool"], SPOOL_MAX_BYTES)
    return lambda number: spool.append(b"%d " % number + PADDING)


def journal_of(folder: Path) -> Callable[[int], object]:
    journal = FileJournal(folder, 2**30)
    journal.begin("{}", memory())

    def write(number: int) -> None:
        journal.conclude((outcome(Kind.THROTTLE, tenant("hog"), old={"number": str(number)}),))

    return write


MAKERS = {"store": store_of, "spool": spool_of, "journal": journal_of}


def main() -> None:
    kind, folder = sys.argv[1:]
    write = MAKERS[kind](Path(folder))
    number = 0
    while True:
        number += 1
        write(number)
        os.write(1, b"%d\n" % number)


if __name__ == "__main__":
    main()
