"""Every return code on every function the probe calls: no exception, no false healthy.

The child's own passes run here, in this process, against the simulated library: a class that is due
every minute would otherwise make this test last for hours.
"""

from __future__ import annotations

import mmap
import select
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import pytest

from gpuwarden.adapters.probe import inventory, layout
from gpuwarden.adapters.probe.book import Book
from gpuwarden.adapters.probe.channel import Channel, frame
from gpuwarden.adapters.probe.crew import Post
from gpuwarden.adapters.probe.events import EventLoop
from gpuwarden.adapters.probe.facts import Facts
from gpuwarden.adapters.probe.fast import MemoryTable
from gpuwarden.adapters.probe.gpm import Gpm
from gpuwarden.adapters.probe.library import Handle, Library, Marks
from gpuwarden.adapters.probe.lists import Lister
from gpuwarden.adapters.probe.specs import CLASSES_S, DEEP_S, part_of
from gpuwarden.adapters.probe.symbols import SYMBOLS
from gpuwarden.adapters.probe.worker import Start, Worker, split
from gpuwarden.model.device import Sight
from gpuwarden.model.views import ProbeView
from gpuwarden.sim.host import SimHost, SimOptions

CODES = [*sorted(set(layout.CODE_NAMES) - {0}), 31, 77, 998]
"""Those of nvml.h and three that no header names."""
NOT_CALLED_HERE = frozenset(
    # The old and the fallback names are called where the new ones are not there; waits and limits
    # have tests of their own.
    {
        "",
        "nvmlInit_v2",
        "nvmlInitWithFlags",
        "nvmlShutdown",
        "nvmlEventSetWait_v2",
        "nvmlEventSetFree",
        "nvmlDeviceSetMemoryLimits_v1",
        "nvmlDeviceGetMemoryLimits_v1",
        "nvmlDeviceGetMaxMigDeviceCount",
        "nvmlDeviceGetMigDeviceHandleByIndex",
        "nvmlDeviceGetGpuInstanceId",
        "nvmlGpmMigSampleGet",
    }
    | {name for name in SYMBOLS if name.endswith("RunningProcesses_v2")}
)
CALLED = sorted(set(SYMBOLS) - NOT_CALLED_HERE)


@dataclass(frozen=True, slots=True)
class FakeWorker:
    """As much of a worker as the book asks for."""

    start: Start


class Pass:
    """All that a child does once, over and over in one process."""

    def __init__(self, host: SimHost) -> None:
        self.library = Library(str(host.built.library))
        self.marks = Marks(mmap.mmap(-1, layout.SHARED_BYTES), layout.FAST)
        assert inventory.start(self.library, self.marks) == layout.SUCCESS
        self.sink, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.sink.setblocking(False)
        theirs.setblocking(False)
        self.theirs = theirs
        self.channel = Channel(theirs.fileno())

    def close(self) -> None:
        self.library.call(self.marks, -1, "nvmlShutdown")
        self.sink.close()
        self.theirs.close()

    def run(self) -> tuple[Book, ProbeView]:
        """What the parent makes of one child's life under the present faults."""
        book = Book()
        start = Start(library=None, fast_deadline_s=1, slow_deadline_s=1)
        post = Post(worker=cast(Worker, FakeWorker(start)))
        code, handles = inventory.devices(self.library, self.marks, None, frozenset())
        if code != layout.SUCCESS:
            self._take(book, post, frame(layout.GONE, layout.GONE_BODY.pack(code, 0)))
            return book, book.view(0.0, 1.0)
        hello = inventory.hello(self.library, self.marks)
        self._take(book, post, frame(layout.HELLO, hello, at=1.0))
        records = b"".join(handle.record() for handle in handles)
        self._take(book, post, frame(layout.INVENTORY, records, at=1.0))
        table = MemoryTable(self.library, self.marks, handles)
        self._take(book, post, frame(layout.MEMORY, table.read_all(), at=1.0))
        for ordinal, handle in enumerate(handles):
            if handle.is_open:
                self._one(book, post, table, ordinal, handle)
        for message in self._events(handles):
            for told in split(message):
                book.take(post, told)
        return book, book.view(1.5, 1.0)

    def _one(
        self, book: Book, post: Post, table: MemoryTable, ordinal: int, handle: Handle
    ) -> None:
        lister, facts = Lister(self.library, self.marks), self._facts(ordinal, handle)
        payload = lister.read(handle, ordinal, table.record(ordinal), is_full=True)
        self._take(book, post, frame(layout.LIST, payload, ordinal=ordinal, at=1.0))
        for kind, part, body in facts:
            self._take(book, post, frame(kind, body, part=part, ordinal=ordinal, at=1.0))

    def _facts(self, ordinal: int, handle: Handle) -> Iterator[tuple[int, int, bytes]]:
        facts = Facts(self.library, self.marks, [handle] * (ordinal + 1))
        for every_s in (*CLASSES_S, DEEP_S):
            yield layout.FACTS, part_of(every_s), facts.read(ordinal, every_s)
            yield layout.FIELDS, part_of(every_s), facts.fields(ordinal, every_s)
        gpm = Gpm(self.library, self.marks, [handle] * (ordinal + 1))
        for _ in range(2):
            yield layout.GPM, layout.SLOW, gpm.read(ordinal)
        yield layout.TEXTS, layout.SLOW, facts.texts(ordinal)
        yield layout.PROCESS_UTILIZATION, layout.SLOW, facts.utilization(ordinal)

    def _events(self, handles: list[Handle]) -> Iterator[bytes]:
        """What registering says (without the wait that would follow)."""
        events = EventLoop(self.library, self.marks, handles, self.channel, self.theirs.fileno())
        event_set, _ = events._open()
        if event_set is not None:
            self.library.call(self.marks, -1, "nvmlEventSetFree", event_set)
        poller = select.poll()
        poller.register(self.sink, select.POLLIN)
        while poller.poll(0):
            yield self.sink.recv(layout.MESSAGE_MAX)

    @staticmethod
    def _take(book: Book, post: Post, message: bytes) -> None:
        for told in split(message):
            book.take(post, told)


@pytest.fixture(scope="module")
def host() -> Iterator[SimHost]:
    with SimHost(SimOptions(devices=2, profile="H100-80")) as running:
        running.start_workload("hold", "--size", "1GiB", devices=[0])
        running.start_workload("hold", "--size", "1GiB", devices=[1])
        yield running


@pytest.fixture(scope="module")
def passes(host: SimHost) -> Iterator[Pass]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GPUWARDEN_SIM_DIR", str(host.folder))
        one = Pass(host)
        yield one
        one.close()


def test_without_faults_everything_is_told(passes: Pass) -> None:
    book, view = passes.run()
    assert [d.sight for d in view.devices] == [Sight.OK] * 2
    assert all(listing.rows for listing in view.listings)
    assert not view.gaps
    assert not book.own_gaps()
    assert len(book.details[view.devices[0].id]) > 60


@pytest.mark.parametrize("symbol", CALLED)
def test_no_code_of_any_function_is_taken_for_health(
    host: SimHost, passes: Pass, symbol: str
) -> None:
    for code in CODES:
        # All devices and the calls on none: by index, the library does not know yet which it is.
        host.control("error", function=symbol, code=code)
        try:
            book, view = passes.run()
        finally:
            host.control("error", function=symbol, code=0)
        assert book.counters["garbage"] <= 2, "an error code was read as data"
        for device in view.devices:
            if symbol == "nvmlDeviceGetMemoryInfo_v2" and code not in (13, 25):
                assert device.sight is not Sight.OK
                assert device.used_bytes is None
                assert any(gap.subject == device.id for gap in view.gaps)
            else:  # any other call: the size is as good as before (v1 counts the reserve as used)
                assert device.sight is Sight.OK
                assert (device.used_bytes or 0) >= 2**30
        if symbol == "nvmlDeviceGetComputeRunningProcesses_v3":
            assert not view.listings
        if not view.devices:
            assert symbol in (
                "nvmlDeviceGetCount_v2",
                "nvmlDeviceGetHandleByIndex_v2",
                "nvmlDeviceGetUUID",
            )
            assert view.gaps or book.own_gaps(), "nothing seen and nothing said"


@pytest.mark.parametrize("code", CODES)
def test_one_ill_device_does_not_make_the_other_ill(host: SimHost, passes: Pass, code: int) -> None:
    host.control("error", function="nvmlDeviceGetMemoryInfo_v2", device=1, code=code)
    host.control("error", function="nvmlDeviceGetFieldValues", device=1, code=code)
    try:
        _, view = passes.run()
    finally:
        host.control("clear_faults")
    assert view.devices[0].sight is Sight.OK
    assert view.devices[0].used_bytes == 2**30
    if code in (13, 25):  # the old call answers instead
        assert view.devices[1].sight is Sight.OK
    else:
        assert view.devices[1].sight is not Sight.OK
