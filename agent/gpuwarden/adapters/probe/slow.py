"""Everything slower: regular process lists, facts in classes of 5, 15 and 60 s, limit requests."""

from __future__ import annotations

import ctypes
import select
import struct
import time

from gpuwarden.adapters.probe import inventory, layout
from gpuwarden.adapters.probe.channel import Channel, frame
from gpuwarden.adapters.probe.facts import Facts
from gpuwarden.adapters.probe.fast import GONE_CODES, Plan
from gpuwarden.adapters.probe.gpm import Gpm
from gpuwarden.adapters.probe.library import Handle, Library, Marks
from gpuwarden.adapters.probe.limits import Requests
from gpuwarden.adapters.probe.lists import Lister
from gpuwarden.adapters.probe.shared import Listed
from gpuwarden.adapters.probe.specs import (
    CLASSES_S,
    DEEP_S,
    FAST_S,
    MEDIUM_S,
    SLOW_S,
    part_of,
)
from gpuwarden.adapters.probe.symbols import NUMBERS

_LATE_S = 0.05
"""Work due within this is done in the same wake-up: an empty wake-up costs more than a call."""


class SlowLoop:
    """The slow thread. ``run`` returns when told to stop or when the devices are not those any more."""

    def __init__(
        self,
        library: Library,
        marks: Marks,
        handles: list[Handle],
        channel: Channel,
        listed: Listed,
        plan: Plan,
        requests: Requests,
        stop_fd: int,
    ) -> None:
        self._library = library
        self._marks = marks
        self._handles = handles
        self._channel = channel
        self._listed = listed
        self._plan = plan
        self._requests = requests
        self._stop_fd = stop_fd
        self._facts = Facts(library, marks, handles)
        self._gpm = Gpm(library, marks, handles)
        self._lister = Lister(library, marks)
        self._memory = ctypes.create_string_buffer(layout.MEMORY_RECORD.size)
        self._gpus: int | None = None
        self._deep = {n: float("-inf") for n, handle in enumerate(handles) if _is_whole(handle)}
        """When each GPU was last asked what takes long."""
        self._rows: dict[int, bytes] = {}
        """What each device's last regular list said beside its memory."""
        self._is_first = True
        self.gone: tuple[int, int] | None = None

    def run(self) -> None:
        poller = select.poll()
        poller.register(self._requests.fd, select.POLLIN)
        poller.register(self._stop_fd, select.POLLIN)
        now = time.monotonic()
        due = dict.fromkeys(CLASSES_S, now)
        list_due = now
        for ordinal, handle in enumerate(self._handles):
            if handle.is_open and not handle.flags & layout.IS_MIG_SLICE:
                self._send(layout.TEXTS, ordinal, self._facts.texts(ordinal))
        while self.gone is None:
            now = time.monotonic()
            if now >= list_due - _LATE_S:
                self.lists(now)
                list_due = now + self._plan.list_every_s
            for every_s in CLASSES_S:
                if now >= due[every_s] - _LATE_S and self.gone is None:
                    self.pass_class(every_s)
                    if every_s == SLOW_S:
                        self.pass_deep(now)
                    period_s = self._plan.slow_every_s if every_s == FAST_S else every_s
                    due[every_s] = max(due[every_s] + period_s, now + period_s / 2)
            self._is_first = False
            self._marks.finish(now)
            wait_s = min(list_due, *due.values()) - time.monotonic()
            for fd, _ in poller.poll(max(0.0, wait_s * 1000.0)):
                if fd == self._stop_fd or not self._requests.serve(self._marks):
                    return

    def lists(self, now: float) -> None:
        """The regular list of every device, unless it was listed within the gap; sent as one, and at once
        where one has other rows than before."""
        frames: list[bytes] = []
        is_news = False
        notes: list[tuple[int, float, int]] = []
        for ordinal, handle in enumerate(self._handles):
            if not handle.is_open or handle.flags & layout.IS_MIG_PARENT:
                continue
            at = time.monotonic()
            if at - self._listed.at[ordinal] < self._plan.list_gap_s:
                continue
            memory = self._read_memory(ordinal)
            if memory is None:
                continue
            payload = self._lister.read(handle, ordinal, memory, is_full=True)
            rows = payload[layout.MEMORY_RECORD.size :]
            is_news |= self._rows.get(ordinal) != rows
            self._rows[ordinal] = rows
            frames.append(self._frame(layout.LIST, ordinal, payload, at))
            notes.append((ordinal, at, layout.MEMORY_RECORD.unpack(memory)[5]))
        if (self._channel.send if is_news else self._channel.later)(frames):
            for note in notes:
                self._listed.note(*note)
        else:
            self._rows.clear()
            self._marks.dropped += 1

    def _read_memory(self, ordinal: int) -> bytes | None:
        """Bytes in use beside the list, so that the two belong to the same moment."""
        handle = self._handles[ordinal]
        if handle.flags & layout.IS_MEMORY_V1:
            v1 = ctypes.create_string_buffer(layout.MEMORY_V1.size)
            code = self._library.call(
                self._marks, ordinal, "nvmlDeviceGetMemoryInfo", handle.pointer, v1
            )
            total, free, used = layout.MEMORY_V1.unpack(v1.raw)
            record = layout.MEMORY_RECORD.pack(layout.MEMORY_V2_VERSION, 0, total, 0, free, used)
            return record if code == layout.SUCCESS else None
        struct.pack_into("=II", self._memory, 0, layout.MEMORY_V2_VERSION, 0)
        code = self._library.call(
            self._marks, ordinal, "nvmlDeviceGetMemoryInfo_v2", handle.pointer, self._memory
        )
        return self._memory.raw if code == layout.SUCCESS else None

    def pass_class(self, every_s: int) -> None:
        """All calls of one class on every device; with the fastest, whether the devices are the same."""
        if every_s == FAST_S and not self._is_same_inventory():
            return
        frames: list[bytes] = []
        for ordinal, handle in enumerate(self._handles):
            if not handle.is_open:
                continue
            at = time.monotonic()
            facts = self._facts.read(ordinal, every_s)
            is_slice = bool(handle.flags & layout.IS_MIG_SLICE)
            if facts or not is_slice:
                frames.append(self._frame(layout.FACTS, ordinal, facts, at, every_s))
            if not is_slice:
                fields = self._facts.fields(ordinal, every_s)
                frames.append(self._frame(layout.FIELDS, ordinal, fields, at, every_s))
            if every_s == FAST_S:
                samples = self._facts.utilization(ordinal)
                frames.append(self._frame(layout.PROCESS_UTILIZATION, ordinal, samples, at))
            if every_s == MEDIUM_S and (measured := self._gpm.read(ordinal)):
                frames.append(self._frame(layout.GPM, ordinal, measured, at, every_s))
        if not (self._channel.send if self._is_first else self._channel.later)(frames):
            self._marks.dropped += 1

    def pass_deep(self, now: float) -> None:
        """What takes long, of the one GPU for which it is longest due: one a minute, so that neither lists
        nor limits wait for all of them."""
        ordinal = min(self._deep, key=lambda n: self._deep[n], default=None)
        if ordinal is None or now - self._deep[ordinal] < DEEP_S:
            return
        self._deep[ordinal] = now
        facts = self._facts.read(ordinal, DEEP_S)
        self._send(layout.FACTS, ordinal, facts, now, part_of(DEEP_S))

    def _is_same_inventory(self) -> bool:
        """Compare count and UUID by index with the inventory; a difference ends this child."""
        code, gpus = inventory.count(self._library, self._marks)
        if code in GONE_CODES:
            self.gone = (code, NUMBERS["nvmlDeviceGetCount_v2"])
        elif code == layout.SUCCESS and (
            gpus != self._first_count(gpus)
            or not all(
                self._is_same(ordinal, handle)
                for ordinal, handle in enumerate(self._handles)
                if not handle.flags & layout.IS_MIG_SLICE
            )
        ):
            self.gone = (layout.INVENTORY_CHANGED, 0)
        return self.gone is None

    def _first_count(self, gpus: int) -> int:
        if self._gpus is None:
            self._gpus = gpus
        return self._gpus

    def _is_same(self, ordinal: int, handle: Handle) -> bool:
        now = inventory.identify(self._library, self._marks, handle.index, ordinal)
        if now is None:  # its memory call says why; the set of devices is the same
            return True
        slices = (h.uuid for h in self._handles if h.parent == ordinal)
        return handle.is_open and now == (handle.uuid, *slices)

    def _frame(
        self, kind: int, ordinal: int, payload: bytes, at: float, part: int = layout.SLOW
    ) -> bytes:
        return frame(kind, payload, part=part, ordinal=ordinal, at=at)

    def _send(
        self,
        kind: int,
        ordinal: int,
        payload: bytes,
        at: float = 0.0,
        part: int = layout.SLOW,
    ) -> bool:
        if self._channel.later([self._frame(kind, ordinal, payload, at, part)]):
            return True
        self._marks.dropped += 1
        return False


def _is_whole(handle: Handle) -> bool:
    """Whether it is a GPU that was opened, not a slice of one."""
    return handle.is_open and not handle.flags & layout.IS_MIG_SLICE
