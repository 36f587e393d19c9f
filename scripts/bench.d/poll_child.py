"""The probe child for the poll bench: the product's own passes, one full poll a request.

The child of the agent spreads its calls over classes of 5, 15 and 60 s; a full poll makes all of them at
once. Only the waiting loop is of the bench.
"""

from __future__ import annotations

import gc
import mmap
import select
import sys
import time

from gpuwarden.adapters.probe import inventory, layout
from gpuwarden.adapters.probe.channel import Channel, frame
from gpuwarden.adapters.probe.child import Options
from gpuwarden.adapters.probe.facts import Facts
from gpuwarden.adapters.probe.fast import MemoryTable
from gpuwarden.adapters.probe.gpm import Gpm
from gpuwarden.adapters.probe.library import Library, Marks
from gpuwarden.adapters.probe.lists import Lister
from gpuwarden.adapters.probe.specs import CLASSES_S, MEDIUM_S


def main() -> None:
    gc.disable()
    options = Options(sys.argv[1:])
    channel = Channel(options.frames_fd)
    marks = Marks(mmap.mmap(options.shared_fd, layout.SHARED_BYTES), layout.FAST)
    library = Library(options.library)
    if code := inventory.start(library, marks):
        sys.exit(f"the driver says {layout.code_name(code)}")
    _, handles = inventory.devices(library, marks, None, frozenset())
    hello = inventory.hello(library, marks)
    records = b"".join(handle.record() for handle in handles)
    channel.send([frame(layout.HELLO, hello), frame(layout.INVENTORY, records)])
    table, lister = MemoryTable(library, marks, handles), Lister(library, marks)
    facts, gpm = Facts(library, marks, handles), Gpm(library, marks, handles)
    poller = select.poll()
    poller.register(options.frames_fd, select.POLLIN)
    while poller.poll():
        if not channel.receive():
            return
        at = time.monotonic()
        frames = [frame(layout.MEMORY, table.read_all(), at=at)]
        for n, handle in enumerate(handles):
            rows = lister.read(handle, n, table.record(n), is_full=True)
            frames.append(frame(layout.LIST, rows, ordinal=n, at=at))
            for every_s in CLASSES_S:
                got = facts.read(n, every_s)
                frames.append(frame(layout.FACTS, got, part=every_s, ordinal=n, at=at))
                got = facts.fields(n, every_s)
                frames.append(frame(layout.FIELDS, got, part=every_s, ordinal=n, at=at))
            got = gpm.read(n)
            frames.append(frame(layout.GPM, got, part=MEDIUM_S, ordinal=n, at=at))
            used = facts.utilization(n)
            frames.append(frame(layout.PROCESS_UTILIZATION, used, ordinal=n, at=at))
        channel.send(frames)
        marks.finish(at)


if __name__ == "__main__":
    main()
