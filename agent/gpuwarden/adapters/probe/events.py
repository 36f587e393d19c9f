"""The event thread: waits in the driver for Xids, ECC events, recovery actions and lost devices."""

from __future__ import annotations

import ctypes
import select
import time

from gpuwarden.adapters.probe import layout
from gpuwarden.adapters.probe.channel import Channel, frame
from gpuwarden.adapters.probe.library import Handle, Library, Marks

WAIT_MS = 1000
"""How long one wait lasts: the child cannot end before it is over."""
WANTED = 0x1 | 0x2 | 0x8 | 0x100 | 0x200 | 0x400 | 0x800 | 0x1000 | 0x2000 | 0x4000 | 0x8000
"""nvml.h: ECC single and double, Xid, MIG configuration, ECC storm, page retirement and its failure, poison
(contained, not), GPU unavailable, recovery action. Intersected with what each device supports."""
CLOCK = 0x10
"""Only when asked for: an H100 at work sends ten a second, and they say nothing but that."""
_CLOCK_EVERY_S = 1.0
_BACKLOG_MAX = 256
_RETRY_S = (1.0, 2.0, 5.0, 15.0, 60.0)


class _Event(ctypes.Structure):
    """nvmlEventData_t."""

    _fields_ = (
        ("device", ctypes.c_void_p),
        ("kind", ctypes.c_ulonglong),
        ("data", ctypes.c_ulonglong),
        ("gpu_instance", ctypes.c_uint),
        ("compute_instance", ctypes.c_uint),
    )
    device: int | None
    kind: int
    data: int
    gpu_instance: int
    compute_instance: int


class EventLoop:
    """The event thread. Without event support it ends and says so."""

    def __init__(
        self,
        library: Library,
        marks: Marks,
        handles: list[Handle],
        channel: Channel,
        stop_fd: int,
        *,
        has_clock: bool = False,
    ) -> None:
        """``has_clock``: clock events too, at most one a second and device."""
        self._wanted = WANTED | (CLOCK if has_clock else 0)
        self._clock_at = [float("-inf")] * (len(handles) + 1)
        self._library = library
        self._marks = marks
        self._handles = handles
        self._channel = channel
        self._stop = select.poll()
        self._stop.register(stop_fd, select.POLLIN)
        self._ordinals = {
            handle.pointer.value: n
            for n, handle in enumerate(handles)
            if not handle.flags & layout.IS_MIG_SLICE
        }
        self._backlog: list[bytes] = []
        self._event = _Event()
        self._event_at = ctypes.byref(self._event)

    def run(self) -> None:
        failures = 0
        while not self._is_stopped(0.0):
            event_set, code = self._open()
            if event_set is None:
                self._say_mask(code, 0)
                if code in (layout.NOT_SUPPORTED, layout.FUNCTION_NOT_FOUND):
                    return
            else:
                started = time.monotonic()
                self._wait(event_set)
                self._call(-1, "nvmlEventSetFree", event_set)
                if time.monotonic() - started > _RETRY_S[-1]:
                    failures = 0
            pause_s = _RETRY_S[min(failures, len(_RETRY_S) - 1)]
            failures += 1
            if self._is_stopped(pause_s):
                return

    def _open(self) -> tuple[ctypes.c_void_p | None, int]:
        """A set with every device that has events; None and the code that stood in the way."""
        pointer = ctypes.c_void_p()
        code = self._call(-1, "nvmlEventSetCreate", ctypes.byref(pointer))
        if code != layout.SUCCESS:
            return None, code
        event_set = ctypes.c_void_p(pointer.value)
        registered = 0
        for n, handle in enumerate(self._handles):
            if not handle.is_open or handle.flags & layout.IS_MIG_SLICE:
                continue
            device_code, mask = self._register(n, handle, event_set)
            if device_code == layout.SUCCESS and mask:
                registered += 1
            else:
                code = device_code or layout.NOT_SUPPORTED
            self._say_mask(device_code, mask, n)
        if registered:
            self._say_mask(layout.SUCCESS, 0)  # what was said of an earlier set is over
            return event_set, layout.SUCCESS
        self._call(-1, "nvmlEventSetFree", event_set)
        return None, code or layout.NOT_SUPPORTED

    def _register(self, n: int, handle: Handle, event_set: ctypes.c_void_p) -> tuple[int, int]:
        supported = ctypes.c_ulonglong(0)
        code = self._call(
            n, "nvmlDeviceGetSupportedEventTypes", handle.pointer, ctypes.byref(supported)
        )
        mask = supported.value & self._wanted
        if code != layout.SUCCESS or not mask:
            return code, 0
        code = self._call(
            n, "nvmlDeviceRegisterEvents", handle.pointer, ctypes.c_ulonglong(mask), event_set
        )
        return code, mask

    def _wait(self, event_set: ctypes.c_void_p) -> None:
        """Send events until the set is of no use any more or the child ends."""
        timeout = ctypes.c_uint(WAIT_MS)
        while not self._is_stopped(0.0):
            started = time.monotonic()
            code = self._call(-1, "nvmlEventSetWait_v2", event_set, self._event_at, timeout)
            now = time.monotonic()
            if code == layout.SUCCESS:
                self._note(now)
            elif code != layout.TIMEOUT:
                self._say_mask(code, 0)
                return
            else:
                early_s = WAIT_MS / 1000 - (now - started)
                if early_s > WAIT_MS / 2000 and self._is_stopped(early_s):
                    return  # the driver had not waited: we did, or this would spin
            self._marks.finish(now)
            self._flush()

    def _note(self, now: float) -> None:
        event = self._event
        ordinal = self._ordinals.get(event.device, layout.NO_DEVICE)
        if event.kind == CLOCK:
            place = min(ordinal, len(self._handles))
            if now - self._clock_at[place] < _CLOCK_EVERY_S:
                return
            self._clock_at[place] = now
        body = layout.EVENT_BODY.pack(
            event.kind, event.data, event.gpu_instance, event.compute_instance
        )
        if len(self._backlog) >= _BACKLOG_MAX:
            self._marks.dropped += 1
            return
        self._backlog.append(frame(layout.EVENT, body, part=layout.EVENTS, ordinal=ordinal, at=now))

    def _flush(self) -> None:
        if self._backlog and self._channel.send(self._backlog):
            self._backlog.clear()

    def _say_mask(self, code: int, mask: int, ordinal: int = layout.NO_DEVICE) -> None:
        body = layout.EVENT_BODY.pack(mask, code, 0, 0)
        self._channel.send([frame(layout.EVENT_MASK, body, part=layout.EVENTS, ordinal=ordinal)])

    def _call(self, ordinal: int, symbol: str, *args: object) -> int:
        return self._library.call(self._marks, ordinal, symbol, *args)

    def _is_stopped(self, wait_s: float) -> bool:
        return bool(self._stop.poll(wait_s * 1000.0))
