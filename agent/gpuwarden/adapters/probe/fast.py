"""The fast class: memory of every device, and the process list of one whose bytes have moved."""

from __future__ import annotations

import ctypes
import select
import struct
import time

from gpuwarden.adapters.probe import layout
from gpuwarden.adapters.probe.channel import Channel, frame
from gpuwarden.adapters.probe.library import Handle, Library, Marks
from gpuwarden.adapters.probe.lists import Lister
from gpuwarden.adapters.probe.shared import Listed
from gpuwarden.adapters.probe.symbols import NUMBERS

BEAT_S = 1.0
"""At rest a memory frame is sent this often: silence for longer means trouble."""
SLOW_LEAST_S = 0.5
"""Slow facts take the driver's lock for long: never read more often than this."""
_LEAST_S = 0.005
"""Never two passes closer than this, whatever is asked: a full socket must not become a busy loop."""
_MEMORY = layout.MEMORY_RECORD
_CODE = struct.Struct("=I")
_CODE_AT = 4
GONE_CODES = frozenset(
    {layout.UNINITIALIZED, layout.DRIVER_NOT_LOADED, layout.LIB_RM_VERSION_MISMATCH}
)


class MemoryTable:
    """One memory record per device, side by side in one buffer, filled by the driver itself."""

    def __init__(self, library: Library, marks: Marks, handles: list[Handle]) -> None:
        self._library = library
        self._marks = marks
        self._handles = handles
        self._buffer = ctypes.create_string_buffer(max(len(handles), 1) * _MEMORY.size)
        base = ctypes.addressof(self._buffer)
        self._pointers = [ctypes.c_void_p(base + n * _MEMORY.size) for n in range(len(handles))]
        self._failed: set[int] = set()
        self._v1 = ctypes.create_string_buffer(layout.MEMORY_V1.size)
        self._view = memoryview(self._buffer).cast("B")[: len(handles) * _MEMORY.size]
        for n, handle in enumerate(handles):
            _MEMORY.pack_into(
                self._view, n * _MEMORY.size, layout.MEMORY_V2_VERSION, handle.code, 0, 0, 0, 0
            )

    def read_all(self) -> bytes:
        """Ask every open device; all records, each with its return code."""
        function = self._library.function("nvmlDeviceGetMemoryInfo_v2")
        number = NUMBERS["nvmlDeviceGetMemoryInfo_v2"]
        enter = self._marks.enter
        for n, handle in enumerate(self._handles):
            if not handle.is_open:
                continue
            if function is None or handle.flags & layout.IS_MEMORY_V1:
                self._read_v1(n)
                continue
            enter(n, number)
            code = function(handle.pointer, self._pointers[n])
            if code:
                self._fail(n, code & 0xFFFFFFFF)
            elif n in self._failed:  # the driver does not write the padding that holds our code
                self._failed.discard(n)
                _CODE.pack_into(self._view, n * _MEMORY.size + _CODE_AT, layout.SUCCESS)
        self._marks.leave()
        return self._view.tobytes()

    def record(self, ordinal: int) -> bytes:
        """The newest record of one device."""
        return self._view[ordinal * _MEMORY.size : (ordinal + 1) * _MEMORY.size].tobytes()

    def _fail(self, ordinal: int, code: int) -> None:
        if code in (layout.FUNCTION_NOT_FOUND, layout.ARGUMENT_VERSION_MISMATCH):
            self._handles[ordinal].flags |= layout.IS_MEMORY_V1
            self._read_v1(ordinal)
            return
        self._write(ordinal, code, 0, 0, 0)

    def _read_v1(self, ordinal: int) -> None:
        """The old call, on drivers without the new one: it counts the reserve as used."""
        code = self._library.call(
            self._marks,
            ordinal,
            "nvmlDeviceGetMemoryInfo",
            self._handles[ordinal].pointer,
            self._v1,
        )
        total, free, used = layout.MEMORY_V1.unpack(self._v1.raw) if code == 0 else (0, 0, 0)
        self._write(ordinal, code, total, free, used)

    def _write(self, ordinal: int, code: int, total: int, free: int, used: int) -> None:
        if code:
            self._failed.add(ordinal)
        place = ordinal * _MEMORY.size
        version = layout.MEMORY_V2_VERSION
        _MEMORY.pack_into(self._view, place, version, code, total, 0, free, used)


class Plan:
    """What the parent wants; starts with the defaults of the agent's settings."""

    def __init__(self, devices: int) -> None:
        self.period_s = 0.1
        self.list_every_s = 2.0
        self.list_gap_s = 0.1
        self.slow_every_s = 5.0
        self.triggers = [64 * 2**20] * devices
        self.wanted: set[int] = set()

    def update(self, payload: bytes) -> None:
        """Take a PLAN payload; list wishes add up until they are met."""
        head = layout.PLAN_HEAD
        period, every, gap, slow, count = head.unpack_from(payload)
        self.period_s = max(period, _LEAST_S)
        self.list_every_s, self.list_gap_s = max(every, 0.1), max(gap, _LEAST_S)
        self.slow_every_s = max(slow, SLOW_LEAST_S)
        for n in range(min(count, len(self.triggers))):
            trigger, is_wanted = layout.PLAN_ITEM.unpack_from(
                payload, head.size + n * layout.PLAN_ITEM.size
            )
            self.triggers[n] = max(trigger, 1)
            if is_wanted:
                self.wanted.add(n)


class FastLoop:
    """The fast thread. ``run`` returns when told to stop or when the driver is gone."""

    def __init__(
        self,
        library: Library,
        marks: Marks,
        handles: list[Handle],
        channel: Channel,
        listed: Listed,
        stop_fd: int,
    ) -> None:
        self._marks = marks
        self._handles = handles
        self._channel = channel
        self._listed = listed
        self._stop_fd = stop_fd
        self._table = MemoryTable(library, marks, handles)
        self._lister = Lister(library, marks)
        self.plan = Plan(len(handles))
        self._last = b""
        self._sent_at = 0.0
        self.gone: tuple[int, int] | None = None
        """Return code and symbol number when the driver went away."""

    def run(self) -> None:
        poller = select.poll()
        poller.register(self._channel.fd, select.POLLIN)
        poller.register(self._stop_fd, select.POLLIN)
        due = time.monotonic()
        while self.gone is None:
            wait_ms = max(0.0, (due - time.monotonic()) * 1000.0)
            for fd, _ in poller.poll(wait_ms):
                if fd == self._stop_fd or not self._take():
                    return
            now = time.monotonic()
            if now >= due or self._is_list_due(now):
                self.sample(now)
                due = self._next(due, time.monotonic())

    def _next(self, due: float, now: float) -> float:
        """The next pass, on a fixed beat; one that was missed is not made up for."""
        due = max(due + self.plan.period_s, now)
        for n in self.plan.wanted:
            due = min(due, self._listed.at[n] + self.plan.list_gap_s)
        return min(max(due, now + _LEAST_S), now + self.plan.period_s)

    def _take(self) -> bool:
        """Read what the parent sent; False when it hung up."""
        message = self._channel.receive()
        while message:
            length, kind, _, _, _ = layout.HEADER.unpack_from(message)
            if kind == layout.PLAN:
                self.plan.update(message[layout.HEADER.size : layout.HEADER.size + length])
            message = self._channel.receive()
        return message is None

    def _is_list_due(self, now: float) -> bool:
        return any(now - self._listed.at[n] >= self.plan.list_gap_s for n in self.plan.wanted)

    def sample(self, now: float) -> None:
        """One pass: memory of all; lists of those that moved; send if there is news or a beat due."""
        records = self._table.read_all()
        frames: list[bytes] = []
        listed: list[tuple[int, int]] = []
        is_news = records != self._last
        if is_news or self.plan.wanted or self._listed.is_pending:
            listed = self._movers(now, records)
            for n, _ in listed:
                payload = self._lister.read(
                    self._handles[n], n, self._table.record(n), is_full=n in self.plan.wanted
                )
                frames.append(frame(layout.LIST, payload, part=layout.FAST, ordinal=n, at=now))
        if is_news or frames or now - self._sent_at >= BEAT_S:
            frames.insert(0, frame(layout.MEMORY, records, part=layout.FAST, at=now))
        if self._send(frames, records, now):
            for n, used in listed:
                self._listed.note(n, now, used)
                self.plan.wanted.discard(n)
            self._marks.finish(now)
        else:
            self._marks.dropped += 1

    def _send(self, frames: list[bytes], records: bytes, now: float) -> bool:
        """Send; on success this state is the one that needs no sending again."""
        if not frames:
            return True
        if not self._channel.send(frames):
            return False
        self._last, self._sent_at = records, now
        return True

    def _movers(self, now: float, records: bytes) -> list[tuple[int, int]]:
        """Who is to be listed in this pass: (ordinal, used), at most once per gap each."""
        found: list[tuple[int, int]] = []
        is_pending = False
        gone, there = 0, 0
        for n, (_, code, _, _, _, used) in enumerate(_MEMORY.iter_unpack(records)):
            gone += code in GONE_CODES
            there += self._handles[n].is_open
            if code or self._handles[n].flags & layout.IS_MIG_PARENT:
                self.plan.wanted.discard(n)
                continue
            moved = abs(used - self._listed.used[n])
            if n not in self.plan.wanted and moved < self.plan.triggers[n]:
                continue
            if now - self._listed.at[n] < self.plan.list_gap_s:
                is_pending = True
                continue
            found.append((n, used))
        self._listed.is_pending = is_pending
        if gone and gone >= there:  # of one device alone it is that device's trouble
            self.gone = (layout.UNINITIALIZED, NUMBERS["nvmlDeviceGetMemoryInfo_v2"])
        return found
